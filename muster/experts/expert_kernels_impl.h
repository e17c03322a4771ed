// SPDX-License-Identifier: Apache-2.0
// The kernels written once over Vec; included only by expert_kernels_<isa>.cpp after its
// vec_<isa>.h. Everything has internal linkage.
#pragma once

#include "muster/experts/expert_kernels.h"
#include "muster/kernels/exp_impl.h"

namespace muster {
namespace {

using F = Vec::F;

// e^x for x clamped to [-87, 88].
F exp_clamped(F x) noexcept {
    return exp_in_range(Vec::min(Vec::set1(88.0f), Vec::max(Vec::set1(-87.0f), x)));
}

struct Relu {
    static F value(F x) noexcept { return Vec::max(Vec::zero(), x); }
    static F value_and_slope(F x, F& slope) noexcept {
        slope = Vec::if_positive(x, Vec::set1(1.0f), Vec::zero());
        return value(x);
    }
};

struct Silu {
    static F sigmoid(F x, F& e) noexcept {
        const F one = Vec::set1(1.0f);
        e = exp_clamped(Vec::sub(Vec::zero(), x));
        return Vec::div(one, Vec::add(one, e));
    }
    static F value(F x) noexcept {
        F e;
        return Vec::mul(x, sigmoid(x, e));
    }
    static F value_and_slope(F x, F& slope) noexcept {
        F e;
        const F s = sigmoid(x, e);
        const F y = Vec::mul(x, s);
        slope = Vec::fma(y, Vec::mul(e, s), s);  // s + y (1 - s), without cancellation in 1 - s
        return y;
    }
};

// The normal distribution's tail for z >= 0: cdf(-z) = e^(-z^2/2) u P(u), u = 1 / (1 + 0.27 z); P
// interpolates the quotient, a smooth function on (0, 1], in the nine Chebyshev nodes of
// z in [0, 13.5]. Relative error 2.8e-8, half an f32 rounding; past 13.5 the tail is below 1e-38.
struct Gelu {
    static F cdf(F x, F& bell) noexcept {
        const F z = Vec::abs(x);
        const F one = Vec::set1(1.0f);
        bell = exp_clamped(Vec::mul(Vec::mul(z, z), Vec::set1(-0.5f)));
        const F u = Vec::div(one, Vec::fma(z, Vec::set1(0.27f), one));
        F p = Vec::set1(0.028988641389783538f);
        p = Vec::fma(p, u, Vec::set1(-0.12666124543496687f));
        p = Vec::fma(p, u, Vec::set1(0.17023353438910951f));
        p = Vec::fma(p, u, Vec::set1(-0.06981608430492799f));
        p = Vec::fma(p, u, Vec::set1(0.10830325371793939f));
        p = Vec::fma(p, u, Vec::set1(0.07182439651259578f));
        p = Vec::fma(p, u, Vec::set1(0.10187247658546558f));
        p = Vec::fma(p, u, Vec::set1(0.10753384691857237f));
        p = Vec::fma(p, u, Vec::set1(0.10772119085638382f));
        const F tail = Vec::mul(bell, Vec::mul(u, p));
        return Vec::if_positive(x, Vec::sub(one, tail), tail);
    }
    static F value(F x) noexcept {
        F bell;
        return Vec::mul(x, cdf(x, bell));
    }
    static F value_and_slope(F x, F& slope) noexcept {
        F bell;
        const F c = cdf(x, bell);
        slope = Vec::fma(Vec::mul(x, Vec::set1(0.3989422804f)), bell, c);
        return Vec::mul(x, c);
    }
};

template <typename Act, bool kGated>
void forward_row(const HiddenRow& row) noexcept {
    for (int64_t i = 0; i < row.n; i += Vec::kLanes) {
        const int64_t n = row.n - i;
        const F up = Vec::load_part(row.up + i, n);
        const F h =
            kGated ? Vec::mul(Act::value(Vec::load_part(row.gate + i, n)), up) : Act::value(up);
        Vec::store_part(row.hidden + i, h, n);
    }
}

template <typename Act>
void forward(const HiddenRow& row) noexcept {
    row.gate != nullptr ? forward_row<Act, true>(row) : forward_row<Act, false>(row);
}

void forward_oai(const HiddenRow& row) noexcept {
    const F one = Vec::set1(1.0f), limit = Vec::set1(kOaiLimit);
    for (int64_t i = 0; i < row.n; i += Vec::kLanes) {
        const int64_t n = row.n - i;
        // min and max give their second operand where one is NaN.
        const F g = Vec::min(limit, Vec::load_part(row.gate + i, n));
        const F u = Vec::max(Vec::set1(-kOaiLimit), Vec::min(limit, Vec::load_part(row.up + i, n)));
        const F e = exp_clamped(Vec::mul(Vec::set1(-kOaiAlpha), g));
        const F a = Vec::mul(g, Vec::div(one, Vec::add(one, e)));
        Vec::store_part(row.hidden + i, Vec::mul(a, Vec::add(u, one)), n);
    }
}

template <typename Act, bool kGated>
float backward_row(const HiddenGradientRow& row) noexcept {
    const F weight = Vec::set1(row.weight);
    F sum = Vec::zero();
    for (int64_t i = 0; i < row.n; i += Vec::kLanes) {
        const int64_t n = row.n - i;
        const F up = Vec::load_part(row.up + i, n);
        const F draw = Vec::load_part(row.dhidden + i, n);
        const F dh = Vec::mul(weight, draw);
        F slope;
        const F a = Act::value_and_slope(kGated ? Vec::load_part(row.gate + i, n) : up, slope);
        const F h = kGated ? Vec::mul(a, up) : a;
        sum = Vec::fma(h, draw, sum);
        Vec::store_part(row.hidden + i, Vec::mul(weight, h), n);
        if (kGated) {
            Vec::store_part(row.dgate + i, Vec::mul(Vec::mul(dh, up), slope), n);
            Vec::store_part(row.dup + i, Vec::mul(dh, a), n);
        } else {
            Vec::store_part(row.dup + i, Vec::mul(dh, slope), n);
        }
    }
    return Vec::sum(sum);
}

template <typename Act>
float backward(const HiddenGradientRow& row) noexcept {
    return row.gate != nullptr ? backward_row<Act, true>(row) : backward_row<Act, false>(row);
}

void weighted_sum(const WeightedSum& s) noexcept {
    for (int64_t j = 0; j < s.n; j += Vec::kLanes) {
        const int64_t n = s.n - j;
        F sum = s.accumulate ? Vec::load_part(s.y + j, n) : Vec::zero();
        for (int i = 0; i < s.count; ++i) {
            const F row = Vec::load_part(s.rows[i] + j, n);
            sum = s.weights != nullptr ? Vec::fma(Vec::set1(s.weights[i]), row, sum)
                                       : Vec::add(row, sum);
        }
        Vec::store_part(s.y + j, sum, n);
    }
}

constexpr ExpertKernels kKernels{{forward<Relu>, forward<Gelu>, forward<Silu>, forward_oai},
                                 {backward<Relu>, backward<Gelu>, backward<Silu>, nullptr},
                                 weighted_sum};

}  // namespace
}  // namespace muster
