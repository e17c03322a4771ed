// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "muster/routing/lanes.h"

namespace muster {

/// Sums of floats in [0, bound] whose result does not depend on the order: each term is rounded to
/// a multiple of one quantum (at most 2^-39 of the bound for up to 1024 terms), so that the
/// additions in double are exact. That keeps routing equivariant under permutations of the experts,
/// and free of the width of vectors, to the last bit. Internal to routing/.
class ExactSum {
  public:
    /// At most `count` terms of at most `bound`.
    ExactSum(float bound, int count) noexcept {
        // With bound < 2^(e+1) and count < 2^w the anchor 1.5 * 2^(e+w+2) has the last place
        // 2^(e+w-50): a term plus the anchor stays within its binade, a sum below 2^53 quanta.
        const int width = std::bit_width(static_cast<unsigned>(count));
        anchor_ = std::ldexp(1.5, (bound > 0 ? std::ilogb(bound) : 0) + width + 2);
    }

    double term(float x) const noexcept { return (x + anchor_) - anchor_; }

    double sum(const float* x, int n) const noexcept {
        lanes::WidePair acc[2] = {};
        int i = 0;
        for (; i + 4 <= n; i += 4) {
            acc[0] += (lanes::widen(x + i) + anchor_) - anchor_;
            acc[1] += (lanes::widen(x + i + 2) + anchor_) - anchor_;
        }
        double total = (acc[0][0] + acc[0][1]) + (acc[1][0] + acc[1][1]);
        for (; i < n; ++i) total += term(x[i]);
        return total;
    }

  private:
    double anchor_;
};

}  // namespace muster
