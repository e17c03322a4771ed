// SPDX-License-Identifier: Apache-2.0
// Blocks and super-blocks as numbers: fitted here, packed by quantize_impl.h.
#pragma once

#include <bit>

#include "muster/quant/fit_impl.h"

namespace muster {
namespace {

/// Values of a block divided by a power of two, which is exact, so that squares neither vanish nor
/// overflow, and their weights.
template <int N>
struct Input {
    static constexpr int kVectors = N / kLanes;
    Lanes x[kVectors];
    Lanes w[kVectors];
    int exponent = 0;
    bool finite = true;

    Input(const float* values, const float* weights) noexcept {
        float largest = 0;
        for (int i = 0; i < N; ++i) {
            finite = finite && std::isfinite(values[i]);
            largest = std::max(largest, std::fabs(values[i]));
        }
        // No format has scales for values below 2^-100 but mxfp4, where they are below notice.
        const bool zero = !finite || !(largest > 0x1p-100f);
        if (!zero) exponent = std::ilogb(largest);
        // In two steps: 2^-exponent may be beyond the greatest number.
        const float a = power(-exponent / 2), b = power(-exponent - -exponent / 2);
        for (int i = 0; i < N; ++i) {
            x[i / kLanes][i % kLanes] = zero ? 0 : values[i] * a * b;
            w[i / kLanes][i % kLanes] = weights != nullptr ? weights[i] : 1;
        }
    }

    static float power(int e) noexcept {
        return std::bit_cast<float>(static_cast<uint32_t>(e + 127) << 23);
    }

    /// A number of this block as f16 bits; where f16 ends, its greatest.
    uint16_t half(float v) const noexcept {
        const float real = std::clamp(std::ldexp(v, exponent), -65504.0f, 65504.0f);
        return finite ? f32_to_f16(real) : uint16_t{0x7e00};
    }
    /// What the decoder will read, as a number of this block.
    float stored(float v) const noexcept {
        return finite ? std::ldexp(f16_to_f32(half(v)), -exponent) : 0;
    }
};

constexpr int kSuper = 256;
using SuperInput = Input<kSuper>;

/// y = d * scales[j] * codes.
template <int Subs>
struct Scaled {
    float d = 0;
    int scales[Subs] = {};
    Lanes codes[SuperInput::kVectors] = {};
};

constexpr int kTurns = 3;  // of fitting d to codes and codes to d

template <typename Codes, int Subs, int Lo, int Hi>
Scaled<Subs> fit_scaled(const SuperInput& in) noexcept {
    constexpr int V = SuperInput::kVectors / Subs;
    float wanted[Subs], largest = 0;
    for (int j = 0; j < Subs; ++j) {
        wanted[j] = fit_scale<Codes, V>(in.x + j * V, in.w + j * V);
        if (std::fabs(wanted[j]) > std::fabs(largest)) largest = wanted[j];
    }
    Scaled<Subs> best;
    float least = INFINITY;
    float d = in.stored(largest / Lo);
    for (int turn = 0; turn < kTurns; ++turn) {
        Scaled<Subs> now;
        now.d = d;
        float total = 0, xq = 0, qq = 0;
        for (int j = 0; j < Subs; ++j) {
            const Lanes *x = in.x + j * V, *w = in.w + j * V;
            const float quotient = std::clamp<float>(wanted[j] * inverse(d), Lo, Hi);
            const int middle = static_cast<int>(std::lrint(quotient));
            ScaleError error{INFINITY, 0, 0};
            for (int s = std::max(middle - 1, Lo); s <= std::min(middle + 1, Hi); ++s) {
                Lanes q[V];
                const auto f = static_cast<float>(s);
                const ScaleError e = codes_for<Codes, V>(x, w, d * f, q);
                if (!(e.error < error.error)) continue;
                error = e;
                now.scales[j] = s;
                std::copy_n(q, V, now.codes + j * V);
            }
            const auto f = static_cast<float>(now.scales[j]);
            total += error.error;
            xq += f * error.xq;
            qq += f * f * error.qq;
        }
        if (total < least) {
            least = total;
            best = now;
        }
        d = in.stored(qq > 0 ? xq / qq : 0);
        if (d == now.d) break;
    }
    return best;
}

/// y = d * scales[j] * codes - minimum * minima[j].
template <int Subs>
struct Lines {
    float d = 0, minimum = 0;
    int scales[Subs] = {}, minima[Subs] = {};
    Lanes codes[SuperInput::kVectors] = {};
};

/// Sums for the best d and minimum of given codes.
struct LineSums {
    float aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;

    template <int V>
    void add(const Lanes* x, const Lanes* w, const Lanes* q, int scale, int minimum) noexcept {
        const auto s = static_cast<float>(scale), m = static_cast<float>(minimum);
        Lanes vqq{}, vq{}, vxq{}, vw{}, vx{};
        for (int v = 0; v < V; ++v) {
            vqq += w[v] * q[v] * q[v];
            vq += w[v] * q[v];
            vxq += w[v] * q[v] * x[v];
            vw += w[v];
            vx += w[v] * x[v];
        }
        aa += s * s * sum(vqq);
        ab -= s * m * sum(vq);
        bb += m * m * sum(vw);
        ax += s * sum(vxq);
        bx -= m * sum(vx);
    }
};

/// The best scale and minimum codes of sub-block j for d and minimum as they are; returns its
/// error.
template <int Top, int Most, int Subs>
float choose_line(const SuperInput& in, int j, Line wanted, Lines<Subs>& now) noexcept {
    constexpr int V = SuperInput::kVectors / Subs;
    const auto code = [](float v) {
        return static_cast<int>(std::lrint(std::clamp<float>(v, 0, Most)));
    };
    const int s0 = code(wanted.scale * inverse(now.d));
    const int m0 = code(-wanted.offset * inverse(now.minimum));
    float least = INFINITY;
    for (int s = std::max(s0 - 1, 0); s <= std::min(s0 + 1, Most); ++s) {
        for (int m = std::max(m0 - 1, 0); m <= std::min(m0 + 1, Most); ++m) {
            Lanes q[V];
            const Line line{now.d * static_cast<float>(s), -now.minimum * static_cast<float>(m)};
            const float error = codes_for_line<Top, V>(in.x + j * V, in.w + j * V, line, q);
            if (!(error < least)) continue;
            least = error;
            now.scales[j] = s;
            now.minima[j] = m;
            std::copy_n(q, V, now.codes + j * V);
        }
    }
    return least;
}

/// Codes 0 to Top; codes of scales and minima 0 to Most.
template <int Top, int Most, int Subs>
Lines<Subs> fit_lines(const SuperInput& in) noexcept {
    constexpr int V = SuperInput::kVectors / Subs;
    Line wanted[Subs];
    float largest = 0, lowest = 0;
    for (int j = 0; j < Subs; ++j) {
        wanted[j] = fit_line<Top, V>(in.x + j * V, in.w + j * V, false);
        largest = std::max(largest, wanted[j].scale);
        lowest = std::max(lowest, -wanted[j].offset);
    }
    Lines<Subs> best;
    float least = INFINITY;
    float d = in.stored(largest / Most), minimum = in.stored(lowest / Most);
    for (int turn = 0; turn < kTurns; ++turn) {
        Lines<Subs> now;
        now.d = d;
        now.minimum = minimum;
        float total = 0;
        LineSums sums;
        for (int j = 0; j < Subs; ++j) {
            total += choose_line<Top, Most>(in, j, wanted[j], now);
            sums.add<V>(in.x + j * V, in.w + j * V, now.codes + j * V, now.scales[j],
                        now.minima[j]);
        }
        if (total < least) {
            least = total;
            best = now;
        }
        const float determinant = sums.aa * sums.bb - sums.ab * sums.ab;
        if (determinant > 0) {
            d = in.stored((sums.bb * sums.ax - sums.ab * sums.bx) / determinant);
            minimum = in.stored((sums.aa * sums.bx - sums.ab * sums.ax) / determinant);
        } else if (sums.aa > 0) {
            d = in.stored(sums.ax / sums.aa);
        }
        if (d < 0 || minimum < 0 || (d == now.d && minimum == now.minimum)) break;
    }
    return best;
}

}  // namespace
}  // namespace muster
