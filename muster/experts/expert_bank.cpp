// SPDX-License-Identifier: Apache-2.0
#include "muster/experts/expert_bank.h"

#include <algorithm>
#include <array>
#include <string>

#include "muster/core/error.h"

namespace muster {
namespace {

constexpr std::array<std::string_view, kActivations> kNames{"relu", "gelu", "silu", "swiglu-oai"};

std::string shape(int64_t rows, int64_t cols) {
    return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

void check_matrix(int expert, const char* name, const WeightMatrix& w, int64_t rows, int64_t cols) {
    const std::string where = "expert " + std::to_string(expert) + " " + name;
    if (w.empty()) throw Error(where, "is missing, expected " + shape(rows, cols));
    if (w.rows != rows || w.cols != cols) {
        throw Error(where,
                    "has shape " + shape(w.rows, w.cols) + ", expected " + shape(rows, cols));
    }
    if (w.dtype == DType::i32) throw Error(where, "holds i32, expected a format of weights");
    const int64_t block = dtype_info(w.dtype).block_elements;
    if (cols % block != 0) {
        throw Error(where, "has " + std::to_string(cols) + " columns, expected whole blocks of " +
                               std::to_string(block));
    }
}

void check_bias(int expert, const char* name, std::span<const float> bias, int64_t size) {
    if (bias.empty() || static_cast<int64_t>(bias.size()) == size) return;
    throw Error("expert " + std::to_string(expert) + " " + name,
                "has " + std::to_string(bias.size()) + " values, expected " + std::to_string(size));
}

void check_stack(const char* name, const TensorView& t, int64_t experts, int64_t rows,
                 int64_t cols) {
    const std::vector<int64_t> expected{experts, rows, cols};
    if (t.data != nullptr && t.shape == expected) return;
    std::string text;
    for (int64_t d : t.shape) text += (text.empty() ? "" : ", ") + std::to_string(d);
    throw Error(name, "has shape [" + text + "], expected [" + std::to_string(experts) + ", " +
                          std::to_string(rows) + ", " + std::to_string(cols) + "]");
}

WeightMatrix slice(const TensorView& t, int64_t expert) {
    WeightMatrix w{t.dtype, nullptr, t.shape[1], t.shape[2]};
    w.data = t.data + expert * w.bytes();
    return w;
}

}  // namespace

std::string_view activation_name(Activation a) noexcept { return kNames[static_cast<size_t>(a)]; }

Activation parse_activation(std::string_view name) {
    for (size_t i = 0; i < kNames.size(); ++i) {
        if (kNames[i] == name) return static_cast<Activation>(i);
    }
    throw Error("activation", "unknown name '" + std::string(name) +
                                  "', expected relu, gelu, silu or swiglu-oai");
}

int64_t ExpertBank::max_width() const noexcept {
    int64_t widest = 0;
    for (const Expert& e : experts) widest = std::max(widest, e.width());
    return widest;
}

void ExpertBank::check() const {
    if (d_model < 1) throw Error("expert bank", "d_model is not positive");
    if (activation == Activation::swiglu_oai && !gated)
        throw Error("expert bank", "plain experts have swiglu-oai, expected gated ones");
    for (int i = 0; i < size(); ++i) {
        const Expert& e = experts[static_cast<size_t>(i)];
        const int64_t ff = e.up.rows;
        if (ff < 1) throw Error("expert " + std::to_string(i) + " up", "has no rows");
        check_matrix(i, "up", e.up, ff, d_model);
        check_matrix(i, "down", e.down, d_model, ff);
        check_bias(i, "up bias", e.up_bias, ff);
        check_bias(i, "down bias", e.down_bias, d_model);
        if (gated) {
            check_matrix(i, "gate", e.gate, ff, d_model);
            check_bias(i, "gate bias", e.gate_bias, ff);
        } else if (!e.gate.empty() || !e.gate_bias.empty()) {
            throw Error("expert " + std::to_string(i) + " gate", "is present in a plain bank");
        }
    }
}

ExpertBank make_stacked_bank(const TensorView& gate, const TensorView& up, const TensorView& down,
                             Activation activation) {
    if (up.data == nullptr || up.shape.size() != 3) {
        throw Error("experts' up", "has " + std::to_string(up.shape.size()) +
                                       " dimensions, expected [experts, width, d_model]");
    }
    const int64_t experts = up.shape[0], ff = up.shape[1], d = up.shape[2];
    check_stack("experts' down", down, experts, d, ff);
    ExpertBank bank;
    bank.activation = activation;
    bank.gated = gate.data != nullptr;
    bank.d_model = d;
    if (bank.gated) check_stack("experts' gate", gate, experts, ff, d);
    for (int64_t e = 0; e < experts; ++e) {
        Expert expert;
        if (bank.gated) expert.gate = slice(gate, e);
        expert.up = slice(up, e);
        expert.down = slice(down, e);
        bank.experts.push_back(expert);
    }
    bank.check();
    return bank;
}

}  // namespace muster
