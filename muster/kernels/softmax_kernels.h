// SPDX-License-Identifier: Apache-2.0
// What softmax() and log_sum_exp() are made of, per instruction set. Internal to kernels/.
#pragma once

#include <cstdint>

#include "muster/cpu/isa.h"

namespace muster {

struct SoftmaxKernels {
    /// The largest of n >= 0 values; -inf for none.
    float (*max)(const float* x, int64_t n) noexcept;
    /// sum(exp(x_i - shift)), x_i <= shift; replaces x by the exponentials.
    double (*exp_in_place)(float* x, int64_t n, float shift) noexcept;
    /// The same sum, x unchanged.
    double (*exp_sum)(const float* x, int64_t n, float shift) noexcept;
    void (*scale)(float* x, int64_t n, float factor) noexcept;
};

const SoftmaxKernels& softmax_kernels(Isa isa) noexcept;
#if MUSTER_X86
const SoftmaxKernels& softmax_kernels_avx2() noexcept;
const SoftmaxKernels& softmax_kernels_avx512() noexcept;
#endif

}  // namespace muster
