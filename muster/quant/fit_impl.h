// SPDX-License-Identifier: Apache-2.0
// The search for scales: functions on sub-blocks of V vectors of eight values. Compiled once per
// instruction set; the sums have a fixed order, so that all give the same bits.
//
// A fit minimises sum w (x - y)^2 over the numbers y that codes and scales can say. For given codes
// the best scale (and offset) is a linear least-squares problem; which codes to take is searched
// over scales around the one that just reaches the largest value, then by turns: codes for the
// scale, scale for the codes (Lloyd, Least squares quantization in PCM, 1982).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "muster/quant/block_formats.h"

namespace muster {
namespace {

using Lanes [[gnu::vector_size(32)]] = float;
constexpr int kLanes = 8;

inline Lanes all(float v) noexcept { return Lanes{v, v, v, v, v, v, v, v}; }

inline float sum(Lanes v) noexcept {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/// To the nearest integer, ties to even, clamped; v is no NaN.
inline Lanes round_between(Lanes v, float low, float high) noexcept {
    const Lanes l = all(low), h = all(high), magic = all(12582912.0f);  // 1.5 * 2^23
    v = v < l ? l : v;
    v = v > h ? h : v;
    return (v + magic) - magic;
}

/// 1 / s, or 0 where that is no number: all codes are then those of 0.
inline float inverse(float s) noexcept {
    const float i = 1.0f / s;
    return std::isfinite(i) ? i : 0.0f;
}

/// Codes that mean the integers from Lo to Hi.
template <int Lo, int Hi>
struct Integers {
    static constexpr float kLowest = Lo, kHighest = Hi;
    static constexpr float kStep = 0.1f;  ///< between the scales tried, in units of a code
    static Lanes nearest(Lanes v) noexcept { return round_between(v, Lo, Hi); }
};

/// Codes that mean kIq4Values.
struct Iq4 {
    static constexpr float kLowest = -127, kHighest = 113;
    static constexpr float kStep = 1.5f;
    static Lanes nearest(Lanes v) noexcept {
        Lanes y = all(blocks::kIq4Values[0]);
        for (int i = 1; i < 16; ++i) {
            const float a = blocks::kIq4Values[i - 1], b = blocks::kIq4Values[i];
            y += v > all((a + b) / 2) ? all(b - a) : all(0);
        }
        return y;
    }
};

/// Scale s of the numbers s * code for a sub-block; may be negative.
template <typename Codes, int V>
float fit_scale(const Lanes* x, const Lanes* w) noexcept {
    float largest = 0;
    for (int v = 0; v < V; ++v)
        for (int i = 0; i < kLanes; ++i)
            if (std::fabs(x[v][i]) > std::fabs(largest)) largest = x[v][i];
    if (largest == 0) return 0;
    float best = 0, scale = 0;
    const auto attempt = [&](float inverse_scale) {
        Lanes xq{}, qq{};
        for (int v = 0; v < V; ++v) {
            const Lanes q = Codes::nearest(x[v] * inverse_scale);
            xq += w[v] * x[v] * q;
            qq += w[v] * q * q;
        }
        const float a = sum(xq), b = sum(qq);
        if (!(b > 0) || !(a * a > best * b)) return false;  // the error is sum wxx - aa / b
        best = a * a / b;
        scale = a / b;
        return true;
    };
    constexpr int kSteps = 9;
    for (const float end : {Codes::kLowest, Codes::kHighest})
        for (int step = -kSteps; step <= kSteps; ++step)
            attempt((end + Codes::kStep * static_cast<float>(step)) / largest);
    for (int turn = 0; turn < 4 && attempt(inverse(scale)); ++turn) {
    }
    return scale;
}

/// The sums of the best codes for scale s.
struct ScaleError {
    float error;   ///< sum w (x - s q)^2
    float xq, qq;  ///< sum w x q, sum w q q
};

template <typename Codes, int V>
ScaleError codes_for(const Lanes* x, const Lanes* w, float s, Lanes* q) noexcept {
    const float inverse_scale = inverse(s);
    Lanes error{}, xq{}, qq{};
    for (int v = 0; v < V; ++v) {
        q[v] = Codes::nearest(x[v] * inverse_scale);
        const Lanes difference = x[v] - q[v] * s;
        error += w[v] * difference * difference;
        xq += w[v] * x[v] * q[v];
        qq += w[v] * q[v] * q[v];
    }
    return {sum(error), sum(xq), sum(qq)};
}

/// The numbers scale * q + offset.
struct Line {
    float scale = 0, offset = 0;
};

/// Best line for codes 0 to Top; `free`: the offset may be positive.
template <int Top, int V>
Line fit_line(const Lanes* x, const Lanes* w, bool free) noexcept {
    float low = x[0][0], high = low;
    Lanes sum_w{}, sum_x{};
    for (int v = 0; v < V; ++v) {
        sum_w += w[v];
        sum_x += w[v] * x[v];
        for (int i = 0; i < kLanes; ++i) {
            low = std::min(low, x[v][i]);
            high = std::max(high, x[v][i]);
        }
    }
    if (!free) low = std::min(low, 0.0f);
    if (high <= low) return {0, low};
    const float sw = sum(sum_w), sx = sum(sum_x);
    Line best{(high - low) / Top, low};
    float best_gain = -INFINITY;  // the error is sum wxx - gain
    const auto attempt = [&](float inverse_scale, float offset) {
        Lanes vq{}, vxq{}, vqq{};
        for (int v = 0; v < V; ++v) {
            const Lanes q = round_between((x[v] - offset) * inverse_scale, 0, Top);
            const Lanes wq = w[v] * q;
            vq += wq;
            vxq += wq * x[v];
            vqq += wq * q;
        }
        const float q = sum(vq), xq = sum(vxq), qq = sum(vqq);
        const float determinant = sw * qq - q * q;
        if (!(determinant > 0) || !(qq > 0)) return false;
        Line line{(sw * xq - q * sx) / determinant, (qq * sx - q * xq) / determinant};
        if (!free && line.offset > 0) line = {xq / qq, 0};
        const float gain = line.scale * xq + line.offset * sx;
        if (!(line.scale > 0) || !(gain > best_gain)) return false;
        best_gain = gain;
        best = line;
        return true;
    };
    for (int step = 0; step <= 24; ++step)
        attempt((Top - 1 + 0.1f * static_cast<float>(step)) / (high - low), low);
    for (int turn = 0; turn < 4 && attempt(inverse(best.scale), best.offset); ++turn) {
    }
    return best;
}

/// The best codes for a line, and the error sum w (x - y)^2.
template <int Top, int V>
float codes_for_line(const Lanes* x, const Lanes* w, Line line, Lanes* q) noexcept {
    const float inverse_scale = inverse(line.scale);
    Lanes error{};
    for (int v = 0; v < V; ++v) {
        q[v] = round_between((x[v] - line.offset) * inverse_scale, 0, Top);
        const Lanes difference = x[v] - (q[v] * line.scale + line.offset);
        error += w[v] * difference * difference;
    }
    return sum(error);
}

}  // namespace
}  // namespace muster
