// SPDX-License-Identifier: Apache-2.0
#include "muster/experts/expert_kernels.h"

#include <cmath>

namespace muster {

const ExpertKernels& expert_kernels_avx2() noexcept;
const ExpertKernels& expert_kernels_avx512() noexcept;

namespace {

struct ValueAndSlope {
    double value, slope;
};

// The reference, in double.
template <Activation kActivation>
ValueAndSlope activate(double x) noexcept {
    if constexpr (kActivation == Activation::relu) {
        return {x > 0 || std::isnan(x) ? x : 0.0, x > 0 ? 1.0 : 0.0};
    } else if constexpr (kActivation == Activation::silu) {
        const double s = 1 / (1 + std::exp(-x));
        return {x * s, s * (1 + x * (1 - s))};
    } else {
        constexpr double kInverseSqrt2 = 0.70710678118654752440;
        constexpr double kInverseSqrt2Pi = 0.39894228040143267794;
        const double cdf = 0.5 * std::erfc(-x * kInverseSqrt2);
        return {x * cdf, cdf + x * kInverseSqrt2Pi * std::exp(-0.5 * x * x)};
    }
}

template <Activation kActivation>
void forward(const HiddenRow& row) noexcept {
    for (int64_t i = 0; i < row.n; ++i) {
        const bool gated = row.gate != nullptr;
        const double a = activate<kActivation>(gated ? row.gate[i] : row.up[i]).value;
        row.hidden[i] = static_cast<float>(gated ? a * row.up[i] : a);
    }
}

void forward_oai(const HiddenRow& row) noexcept {
    for (int64_t i = 0; i < row.n; ++i) {
        // Comparisons that a NaN passes through.
        const double g = row.gate[i] > kOaiLimit ? kOaiLimit : row.gate[i];
        const double least = row.up[i] < -kOaiLimit ? -kOaiLimit : row.up[i];
        const double u = least > kOaiLimit ? kOaiLimit : least;
        row.hidden[i] = static_cast<float>(g / (1 + std::exp(-kOaiAlpha * g)) * (u + 1));
    }
}

template <Activation kActivation>
float backward(const HiddenGradientRow& row) noexcept {
    double sum = 0;
    for (int64_t i = 0; i < row.n; ++i) {
        const bool gated = row.gate != nullptr;
        const ValueAndSlope a = activate<kActivation>(gated ? row.gate[i] : row.up[i]);
        const double up = gated ? row.up[i] : 1;
        const double dh = static_cast<double>(row.weight) * row.dhidden[i];
        const double hidden = a.value * up;
        sum += hidden * row.dhidden[i];
        row.hidden[i] = static_cast<float>(row.weight * hidden);
        if (gated) row.dgate[i] = static_cast<float>(dh * up * a.slope);
        row.dup[i] = static_cast<float>(dh * (gated ? a.value : a.slope));
    }
    return static_cast<float>(sum);
}

void weighted_sum(const WeightedSum& s) noexcept {
    for (int64_t j = 0; j < s.n; ++j) {
        float sum = s.accumulate ? s.y[j] : 0.0f;
        for (int i = 0; i < s.count; ++i) {
            sum += (s.weights != nullptr ? s.weights[i] : 1.0f) * s.rows[i][j];
        }
        s.y[j] = sum;
    }
}

constexpr ExpertKernels kReference{
    {forward<Activation::relu>, forward<Activation::gelu>, forward<Activation::silu>, forward_oai},
    {backward<Activation::relu>, backward<Activation::gelu>, backward<Activation::silu>, nullptr},
    weighted_sum};

}  // namespace

const ExpertKernels& expert_kernels(Isa isa) noexcept {
#if MUSTER_X86
    if (isa >= Isa::avx512) return expert_kernels_avx512();
    if (isa == Isa::avx2) return expert_kernels_avx2();
#endif
    (void)isa;
    return kReference;
}

}  // namespace muster
