// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/softmax.h"

#include <cmath>
#include <limits>

#include "muster/kernels/softmax_kernels.h"

namespace muster {
namespace {

// The reference.
float max_of(const float* x, int64_t n) noexcept {
    float best = -std::numeric_limits<float>::infinity();
    for (int64_t i = 0; i < n; ++i) best = x[i] > best ? x[i] : best;
    return best;
}

double exp_in_place(float* x, int64_t n, float shift) noexcept {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) {
        x[i] = std::exp(x[i] - shift);
        sum += x[i];
    }
    return sum;
}

double exp_sum(const float* x, int64_t n, float shift) noexcept {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[i]) - shift);
    return sum;
}

void scale(float* x, int64_t n, float factor) noexcept {
    for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

constexpr SoftmaxKernels kReference{max_of, exp_in_place, exp_sum, scale};

}  // namespace

const SoftmaxKernels& softmax_kernels(Isa isa) noexcept {
#if MUSTER_X86
    if (isa >= Isa::avx512) return softmax_kernels_avx512();
    if (isa == Isa::avx2) return softmax_kernels_avx2();
#endif
    (void)isa;
    return kReference;
}

void softmax(std::span<float> x) noexcept {
    if (x.empty()) return;
    const SoftmaxKernels& k = softmax_kernels(current_isa());
    const auto n = static_cast<int64_t>(x.size());
    const double sum = k.exp_in_place(x.data(), n, k.max(x.data(), n));
    k.scale(x.data(), n, static_cast<float>(1 / sum));
}

double log_sum_exp(std::span<const float> x) noexcept {
    if (x.empty()) return -std::numeric_limits<double>::infinity();
    const SoftmaxKernels& k = softmax_kernels(current_isa());
    const auto n = static_cast<int64_t>(x.size());
    const float top = k.max(x.data(), n);
    if (!std::isfinite(top)) return top;
    return top + std::log(k.exp_sum(x.data(), n, top));
}

}  // namespace muster
