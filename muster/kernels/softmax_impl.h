// SPDX-License-Identifier: Apache-2.0
// The softmax kernels written once over Vec; included only by softmax_<isa>.cpp after its
// vec_<isa>.h. Everything has internal linkage.
#pragma once

#include "muster/kernels/softmax_exp_impl.h"
#include "muster/kernels/softmax_kernels.h"

namespace muster {
namespace {

float max_of(const float* x, int64_t n) noexcept {
    const float none = -__builtin_inff();
    Vec::F m = Vec::set1(none);
    int64_t i = 0;
    for (; i + Vec::kLanes <= n; i += Vec::kLanes) m = Vec::max(m, Vec::load(x + i));
    float best = largest(m);
    for (; i < n; ++i) best = x[i] > best ? x[i] : best;
    return best;
}

// Lanes are summed in f32 over 32 steps, then in double.
template <bool kStore>
double exp_values(float* x, int64_t n, float shift) noexcept {
    const Vec::F s = Vec::set1(shift);
    constexpr int64_t kBlock = 32 * Vec::kLanes;
    double total = 0;
    for (int64_t block = 0; block < n; block += kBlock) {
        Vec::F sum = Vec::zero();
        const int64_t end = block + kBlock < n ? block + kBlock : n;
        int64_t i = block;
        for (; i + Vec::kLanes <= end; i += Vec::kLanes) {
            const Vec::F e = exp_below_zero(Vec::sub(Vec::load(x + i), s));
            if (kStore) Vec::store(x + i, e);
            sum = Vec::add(sum, e);
        }
        if (i < end) {  // lanes past the end hold exp(-inf) = 0
            float rest[Vec::kLanes];
            Vec::store(rest, Vec::set1(-__builtin_inff()));
            for (int64_t j = i; j < end; ++j) rest[j - i] = x[j];
            const Vec::F e = exp_below_zero(Vec::sub(Vec::load(rest), s));
            if (kStore) Vec::store_part(x + i, e, end - i);
            sum = Vec::add(sum, e);
        }
        total += Vec::sum(sum);
    }
    return total;
}

double exp_sum(const float* x, int64_t n, float shift) noexcept {
    return exp_values<false>(const_cast<float*>(x), n, shift);
}

void scale(float* x, int64_t n, float factor) noexcept {
    for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

constexpr SoftmaxKernels kKernels{max_of, exp_values<true>, exp_sum, scale};

}  // namespace
}  // namespace muster
