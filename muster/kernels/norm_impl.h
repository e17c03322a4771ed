// SPDX-License-Identifier: Apache-2.0
// The norms written once over Vec; included only by norm_<isa>.cpp after its vec_<isa>.h.
// Everything has internal linkage.
#pragma once

#include "muster/kernels/norm_kernels.h"

namespace muster {
namespace {

using F = Vec::F;

/// Folds map(sum, x_i) in four chains of lanes; zeros fill up the last.
template <typename Map>
float sum_of(const float* x, int64_t n, Map map) noexcept {
    F sums[4] = {Vec::zero(), Vec::zero(), Vec::zero(), Vec::zero()};
    int64_t i = 0;
    for (; i + 4 * Vec::kLanes <= n; i += 4 * Vec::kLanes)
        for (int j = 0; j < 4; ++j) sums[j] = map(sums[j], Vec::load(x + i + j * Vec::kLanes));
    for (; i < n; i += Vec::kLanes) sums[0] = map(sums[0], Vec::load_part(x + i, n - i));
    return Vec::sum(Vec::add(Vec::add(sums[0], sums[1]), Vec::add(sums[2], sums[3])));
}

void rms(const NormRow& row) noexcept {
    const float squares =
        sum_of(row.x, row.n, [](F sum, F x) noexcept { return Vec::fma(x, x, sum); });
    const float mean = squares / static_cast<float>(row.n);
    const F factor = Vec::set1(1.0f / __builtin_sqrtf(mean + row.eps));
    for (int64_t i = 0; i < row.n; i += Vec::kLanes) {
        const int64_t n = row.n - i;
        const F scaled = Vec::mul(Vec::load_part(row.x + i, n), factor);
        Vec::store_part(row.y + i, Vec::mul(scaled, Vec::load_part(row.weight + i, n)), n);
    }
}

void layer(const NormRow& row) noexcept {
    const auto size = static_cast<float>(row.n);
    const float mean =
        sum_of(row.x, row.n, [](F sum, F x) noexcept { return Vec::add(sum, x); }) / size;
    const F centre = Vec::set1(mean);
    // load_part() fills up with zeros, which lie off the centre: the last few apart.
    const int64_t whole = row.n - row.n % Vec::kLanes;
    float squares = sum_of(row.x, whole, [centre](F sum, F x) noexcept {
        const F d = Vec::sub(x, centre);
        return Vec::fma(d, d, sum);
    });
    for (int64_t i = whole; i < row.n; ++i) squares += (row.x[i] - mean) * (row.x[i] - mean);
    const float variance = squares / size;
    const F factor = Vec::set1(1.0f / __builtin_sqrtf(variance + row.eps));
    for (int64_t i = 0; i < row.n; i += Vec::kLanes) {
        const int64_t n = row.n - i;
        const F d = Vec::mul(Vec::sub(Vec::load_part(row.x + i, n), centre), factor);
        const F bias = row.bias != nullptr ? Vec::load_part(row.bias + i, n) : Vec::zero();
        Vec::store_part(row.y + i, Vec::fma(d, Vec::load_part(row.weight + i, n), bias), n);
    }
}

constexpr NormKernels kKernels{rms, layer};

}  // namespace
}  // namespace muster
