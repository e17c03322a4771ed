// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "muster/cpu/isa.h"
#include "muster/experts/expert_bank.h"

namespace muster {

/// Constants of Activation::swiglu_oai.
constexpr float kOaiAlpha = 1.702f;
constexpr float kOaiLimit = 7;

/// Part of one row of an expert's hidden layer: n neighbouring values.
struct HiddenRow {
    const float* gate = nullptr;  ///< pre-activations; null: plain expert, act(up)
    const float* up = nullptr;
    float* hidden = nullptr;  ///< out: act(gate) * up, or act(up); swiglu_oai: see Activation
    int64_t n = 0;
};

/// The same for the gradients. `dhidden` is the gradient of hidden before the combine weight.
struct HiddenGradientRow {
    const float* gate = nullptr;
    const float* up = nullptr;
    const float* dhidden = nullptr;
    float weight = 0;
    float* dgate = nullptr;   ///< out, gated only: gradient of the gate's pre-activation
    float* dup = nullptr;     ///< out
    float* hidden = nullptr;  ///< out: weight * hidden
    int64_t n = 0;
};

/// y [n] (=|+=) sum over i of weights[i] * rows[i], in the order of i.
struct WeightedSum {
    const float* const* rows = nullptr;  ///< [count]
    const float* weights = nullptr;      ///< [count]; null: all are 1
    int count = 0;
    float* y = nullptr;
    int64_t n = 0;
    bool accumulate = false;
};

/// One instruction set's kernels; activations are indexed by Activation, gradients null where there
/// are none. Accuracy of the fast ones:
/// relative error of a few f32 roundings for act (see expert_kernels_impl.h), and for its
/// derivative an error of a few roundings of 1.
struct ExpertKernels {
    void (*forward[kActivations])(const HiddenRow& row) noexcept;
    /// Returns the sum of hidden * dhidden, hidden unweighted.
    float (*backward[kActivations])(const HiddenGradientRow& row) noexcept;
    void (*weighted_sum)(const WeightedSum& sum) noexcept;
};

const ExpertKernels& expert_kernels(Isa isa) noexcept;

}  // namespace muster
