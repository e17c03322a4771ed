// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "muster/core/tensor_view.h"

namespace muster {

/// The nonlinearity of an expert. Gated experts compute down(act(gate x) * up x); plain ones
/// down(act(up x)). silu gated is SwiGLU, gelu gated GEGLU. gelu is the exact one (erf).
/// swiglu_oai is for gated experts alone, down(g s(1.702 g) (u + 1)) with g = min(gate x, 7),
/// u = up x clamped to [-7, 7] and s the logistic function (gpt-oss, arXiv 2508.10925); it has no
/// gradients here.
enum class Activation : uint8_t { relu, gelu, silu, swiglu_oai };
constexpr int kActivations = 4;

constexpr bool differentiable(Activation a) noexcept { return a != Activation::swiglu_oai; }

std::string_view activation_name(Activation a) noexcept;
Activation parse_activation(std::string_view name);  ///< throws Error

/// One expert: up [ff, d], down [d, ff], gate [ff, d] when gated; biases are optional: up/gate
/// [ff], down [d].
struct Expert {
    WeightMatrix gate, up, down;
    std::span<const float> gate_bias, up_bias, down_bias;
    int64_t width() const noexcept { return up.rows; }
};

/// The experts of one layer; they may differ in width. Does not own the weights.
struct ExpertBank {
    std::vector<Expert> experts;
    Activation activation = Activation::silu;
    bool gated = true;
    int64_t d_model = 0;

    int size() const noexcept { return static_cast<int>(experts.size()); }
    int64_t max_width() const noexcept;
    /// Throws Error naming the expert and matrix whose shape or format does not fit.
    void check() const;
};

/// A bank whose experts are slices of stacked tensors, as in GGUF: gate, up [E, ff, d], down [E, d,
/// ff]; an empty gate (data == nullptr) makes plain experts. Throws Error on shapes that do not
/// fit.
ExpertBank make_stacked_bank(const TensorView& gate, const TensorView& up, const TensorView& down,
                             Activation activation);

}  // namespace muster
