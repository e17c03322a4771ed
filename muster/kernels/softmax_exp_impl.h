// SPDX-License-Identifier: Apache-2.0
// Exponentials of differences to a maximum, over Vec; included only after a vec_<isa>.h.
// Everything has internal linkage.
#pragma once

#include "muster/kernels/exp_impl.h"

namespace muster {
namespace {

/// e^x for x <= 0, and 0 below -87, where the result would leave the normal numbers.
Vec::F exp_below_zero(Vec::F x) noexcept {
    const Vec::F limit = Vec::set1(-87.0f);
    const Vec::F e = exp_in_range(Vec::max(limit, x));
    return Vec::if_positive(Vec::sub(limit, x), Vec::zero(), e);  // NaN stays
}

/// The largest lane.
inline float largest(Vec::F x) noexcept {
    float lanes[Vec::kLanes];
    Vec::store(lanes, x);
    float m = lanes[0];
    for (int i = 1; i < Vec::kLanes; ++i) m = lanes[i] > m ? lanes[i] : m;
    return m;
}

}  // namespace
}  // namespace muster
