// SPDX-License-Identifier: Apache-2.0
#include "tools/make_checkpoint/formats.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "muster/core/error.h"

namespace muster::checkpoints {
namespace {

using Mixture = FileType::Mixture;

// Numbers: llama.h's enum llama_ftype.
constexpr FileType kFileTypes[] = {{"f32", DType::f32, Mixture::none, 0},
                                   {"f16", DType::f16, Mixture::none, 1},
                                   {"bf16", DType::bf16, Mixture::none, 32},
                                   {"q4_0", DType::q4_0, Mixture::none, 2},
                                   {"q4_1", DType::q4_1, Mixture::none, 3},
                                   {"q5_0", DType::q5_0, Mixture::none, 8},
                                   {"q5_1", DType::q5_1, Mixture::none, 9},
                                   {"q8_0", DType::q8_0, Mixture::none, 7},
                                   {"q2_k", DType::q2_k, Mixture::none, 10},
                                   {"q3_k", DType::q3_k, Mixture::none, 11},
                                   {"q4_k", DType::q4_k, Mixture::none, 14},
                                   {"q5_k", DType::q5_k, Mixture::none, 16},
                                   {"q6_k", DType::q6_k, Mixture::none, 18},
                                   {"iq4_nl", DType::iq4_nl, Mixture::none, 25},
                                   {"iq4_xs", DType::iq4_xs, Mixture::none, 30},
                                   {"mxfp4", DType::mxfp4, Mixture::none, 38},
                                   {"q4_k_m", DType::q4_k, Mixture::k_medium, 15},
                                   {"q5_k_m", DType::q5_k, Mixture::k_medium, 17},
                                   {"mxfp4_moe", DType::mxfp4, Mixture::experts_only, 38}};

bool named(const TensorPlan& plan, std::string_view part) {
    return plan.name.find(part) != std::string::npos;
}

/// The layers in which mixtures spend more bits: the first and the last eighth, and every third.
bool more_bits(int layer, int layers) {
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

DType wanted_format(const FileType& type, const CheckpointSpec& spec, const TensorPlan& plan) {
    switch (type.mixture) {
        case Mixture::experts_only:
            return plan.role == Role::experts ? type.format : DType::q8_0;
        case Mixture::k_medium:
            if (plan.role == Role::head || (plan.role == Role::embedding && spec.tied_head))
                return DType::q6_k;
            if (named(plan, "attn_v.") || named(plan, "ffn_down"))
                return more_bits(plan.layer, spec.layers) ? DType::q6_k : type.format;
            return type.format;
        case Mixture::none:
            break;
    }
    return type.format;
}

/// The next format for rows that `dtype`'s blocks do not fill.
DType narrower(DType dtype) {
    switch (dtype) {
        case DType::q2_k:
        case DType::q3_k:
        case DType::iq4_xs:
            return DType::iq4_nl;
        case DType::q4_k:
            return DType::q5_0;
        case DType::q5_k:
            return DType::q5_1;
        case DType::q6_k:
            return DType::q8_0;
        default:
            return DType::f16;
    }
}

}  // namespace

const FileType& parse_file_type(std::string_view name) {
    std::string lower(name);
    std::ranges::transform(lower, lower.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    std::string known;
    for (const FileType& type : kFileTypes) {
        if (type.name == lower) return type;
        known += (known.empty() ? "" : ", ") + std::string(type.name);
    }
    throw Error("type", fmt::format("\"{}\" is not known, expected one of {}", name, known));
}

DType tensor_format(const FileType& type, const CheckpointSpec& spec, const TensorPlan& plan) {
    if (!plan.quantizable()) return DType::f32;
    DType dtype = wanted_format(type, spec, plan);
    while (plan.cols() % dtype_info(dtype).block_elements != 0) dtype = narrower(dtype);
    return dtype;
}

}  // namespace muster::checkpoints
