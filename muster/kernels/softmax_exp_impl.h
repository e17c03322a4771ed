// SPDX-License-Identifier: Apache-2.0
// Exponentials of differences to a maximum, over Vec; included only after a vec_<isa>.h.
// Everything has internal linkage.
#pragma once

namespace muster {
namespace {

/// e^x for x <= 0, and 0 below -87, where the result would leave the normal numbers.
/// Relative error below 2^-22. x = n ln 2 + r, |r| <= ln 2 / 2; the Taylor series up to r^7 leaves
/// r^8 / 8! < 6e-9 of the result. ln 2 is split so that n times its head is exact.
Vec::F exp_below_zero(Vec::F x) noexcept {
    const Vec::F limit = Vec::set1(-87.0f);
    const Vec::F clamped = Vec::max(limit, x);
    const Vec::F n = Vec::round(Vec::mul(clamped, Vec::set1(1.44269504f)));
    Vec::F r = Vec::fnma(n, Vec::set1(0x1.62e4p-1f), clamped);
    r = Vec::fnma(n, Vec::set1(0x1.7f7d1cp-20f), r);
    Vec::F p = Vec::set1(1.0f / 5040);
    p = Vec::fma(p, r, Vec::set1(1.0f / 720));
    p = Vec::fma(p, r, Vec::set1(1.0f / 120));
    p = Vec::fma(p, r, Vec::set1(1.0f / 24));
    p = Vec::fma(p, r, Vec::set1(1.0f / 6));
    p = Vec::fma(p, r, Vec::set1(0.5f));
    p = Vec::fma(p, r, Vec::set1(1.0f));
    p = Vec::fma(p, r, Vec::set1(1.0f));
    return Vec::if_positive(Vec::sub(limit, x), Vec::zero(), Vec::scale(p, n));  // NaN stays
}

/// The largest lane.
float largest(Vec::F x) noexcept {
    float lanes[Vec::kLanes];
    Vec::store(lanes, x);
    float m = lanes[0];
    for (int i = 1; i < Vec::kLanes; ++i) m = lanes[i] > m ? lanes[i] : m;
    return m;
}

}  // namespace
}  // namespace muster
