// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/scores.h"

#include <cmath>
#include <limits>

#include "muster/routing/exact_sum.h"
#include "muster/routing/lanes.h"
#include "muster/routing/router.h"

namespace muster {
namespace {

using namespace lanes;

/// y = f(x), f a function of Lanes.
template <typename F>
inline void map_row(std::span<const float> x, float* y, F f) noexcept {
    const int n = static_cast<int>(x.size());
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(x.data() + i)));
    if (i < n) store(y + i, f(load(x.data() + i, n - i, 0)), n - i);
}

inline Lanes absolute(Lanes x) noexcept { return x < 0.0f ? -x : x; }

void softmax_row(std::span<const float> x, float* y) noexcept {
    const float top = row_max(x);
    map_row(x, y, [top](Lanes v) { return exp_nonpositive(v - top); });
    const int n = static_cast<int>(x.size());
    const double sum = ExactSum(1, n).sum(y, n);
    const float inverse = static_cast<float>(1 / sum);
    map_row({y, x.size()}, y, [inverse](Lanes v) { return v * inverse; });
}

/// 1 / (1 + e^-x), in the form that never overflows.
Lanes sigmoid(Lanes x) noexcept {
    const Lanes e = exp_nonpositive(-absolute(x));
    return (x < 0.0f ? e : splat(1.0f)) / (e + 1.0f);
}

/// sqrt(log(1 + e^x)) = sqrt(max(x, 0) + log(1 + e^-|x|)).
Lanes sqrt_softplus(Lanes x) noexcept {
    Lanes y = (x > 0.0f ? x : Lanes{}) + log1p_unit(exp_nonpositive(-absolute(x)));
    for (int j = 0; j < kLanes; ++j) y[j] = std::sqrt(y[j]);
    return y;
}

}  // namespace

int first_not_finite(std::span<const float> row) noexcept {
    const int n = static_cast<int>(row.size());
    LaneBits bad = {};
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        const Lanes v = load(row.data() + i);
        bad |= (v - v) != 0.0f;  // NaN for NaN and infinity, which compares unequal
    }
    const Lanes rest = load(row.data() + i, n - i, 0);
    bad |= (rest - rest) != 0.0f;
    if (!any(bad)) return -1;
    for (i = 0; std::isfinite(row[i]);) ++i;
    return i;
}

float row_max(std::span<const float> row) noexcept {
    const int n = static_cast<int>(row.size());
    Lanes best = splat(-std::numeric_limits<float>::infinity());
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        const Lanes v = load(row.data() + i);
        best = best < v ? v : best;
    }
    float top = best[0];
    for (int j = 1; j < kLanes; ++j) top = top < best[j] ? best[j] : top;
    for (; i < n; ++i) top = top < row[i] ? row[i] : top;
    return top;
}

void score_logits(Score score, std::span<const float> logits, std::span<float> scores) noexcept {
    float* y = scores.data();
    switch (score) {
        case Score::softmax:
            return softmax_row(logits, y);
        case Score::sigmoid:
        case Score::cosine:
            return map_row(logits, y, sigmoid);
        case Score::sqrt_softplus:
            return map_row(logits, y, sqrt_softplus);
        case Score::relu:
            return map_row(logits, y, [](Lanes v) { return v > 0.0f ? v : Lanes{}; });
    }
}

}  // namespace muster
