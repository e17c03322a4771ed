// SPDX-License-Identifier: Apache-2.0
// The exponential over Vec; included only after a vec_<isa>.h. Internal linkage.
#pragma once

namespace muster {
namespace {

/// e^x for -87 <= x <= 88, where neither the result nor 2^n leaves the normal numbers. Relative
/// error below 2^-22. x = n ln 2 + r, |r| <= ln 2 / 2; the Taylor series up to r^7 leaves
/// r^8 / 8! < 6e-9 of the result. ln 2 is split so that n times its head is exact (|n| <= 127 needs
/// 7 bits, the head has 9 trailing zero bits).
inline Vec::F exp_in_range(Vec::F x) noexcept {
    const Vec::F n = Vec::round(Vec::mul(x, Vec::set1(1.44269504f)));
    Vec::F r = Vec::fnma(n, Vec::set1(0x1.62e4p-1f), x);
    r = Vec::fnma(n, Vec::set1(0x1.7f7d1cp-20f), r);
    Vec::F p = Vec::set1(1.0f / 5040);
    p = Vec::fma(p, r, Vec::set1(1.0f / 720));
    p = Vec::fma(p, r, Vec::set1(1.0f / 120));
    p = Vec::fma(p, r, Vec::set1(1.0f / 24));
    p = Vec::fma(p, r, Vec::set1(1.0f / 6));
    p = Vec::fma(p, r, Vec::set1(0.5f));
    p = Vec::fma(p, r, Vec::set1(1.0f));
    p = Vec::fma(p, r, Vec::set1(1.0f));
    return Vec::scale(p, n);
}

}  // namespace
}  // namespace muster
