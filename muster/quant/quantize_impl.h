// SPDX-License-Identifier: Apache-2.0
// The blocks' bytes: the inverse of blocks_of_32.cpp and blocks_of_256.cpp.
#pragma once

#include <cstring>

#include "muster/quant/quantize_kernels.h"
#include "muster/quant/super_block_impl.h"

namespace muster {
namespace {

inline void put16(std::byte* p, uint16_t v) noexcept { std::memcpy(p, &v, sizeof(v)); }
inline void put_or(std::byte& p, int bits) noexcept { p |= static_cast<std::byte>(bits); }

/// Code i, moved so that the lowest is 0.
inline int code_at(const Lanes* codes, int i, int lowest) noexcept {
    return static_cast<int>(codes[i / kLanes][i % kLanes]) - lowest;
}

/// Number of the code of kIq4Values that means y.
inline int iq4_code(float y) noexcept {
    int c = 0;
    while (c < 15 && static_cast<float>(blocks::kIq4Values[c]) < y) ++c;
    return c;
}

/// Four bits of code i of 32 into the halves of 16 bytes.
inline void put_nibble(std::byte* p, int i, int code) noexcept {
    put_or(p[i % 16], (code & 15) << i / 16 * 4);
}

template <int Lo, int Hi>
void quantize_scaled_block(const float* values, const float* weights, std::byte* out) noexcept {
    const Input<32> in(values, weights);
    Lanes q[4];
    const float d = fit_scale<Integers<Lo, Hi>, 4>(in.x, in.w);
    codes_for<Integers<Lo, Hi>, 4>(in.x, in.w, in.stored(d), q);
    put16(out, in.half(d));
    constexpr int kHighBytes = Hi > 7 ? 4 : 0;
    std::byte* nibbles = out + 2 + kHighBytes;
    std::memset(out + 2, 0, kHighBytes + 16);
    for (int i = 0; i < 32; ++i) {
        const int code = code_at(q, i, Lo);
        put_nibble(nibbles, i, code);
        if constexpr (kHighBytes > 0) put_or(out[2 + i / 8], (code >> 4) << i % 8);
    }
}

template <int Top>
void quantize_line_block(const float* values, const float* weights, std::byte* out) noexcept {
    const Input<32> in(values, weights);
    Lanes q[4];
    const Line line = fit_line<Top, 4>(in.x, in.w, true);
    codes_for_line<Top, 4>(in.x, in.w, {in.stored(line.scale), in.stored(line.offset)}, q);
    put16(out, in.half(line.scale));
    put16(out + 2, in.half(line.offset));
    constexpr int kHighBytes = Top > 15 ? 4 : 0;
    std::byte* nibbles = out + 4 + kHighBytes;
    std::memset(out + 4, 0, kHighBytes + 16);
    for (int i = 0; i < 32; ++i) {
        const int code = code_at(q, i, 0);
        put_nibble(nibbles, i, code);
        if constexpr (kHighBytes > 0) put_or(out[4 + i / 8], (code >> 4) << i % 8);
    }
}

inline void quantize_iq4_nl(const float* values, const float* weights, std::byte* out) noexcept {
    const Input<32> in(values, weights);
    Lanes q[4];
    const float d = fit_scale<Iq4, 4>(in.x, in.w);
    codes_for<Iq4, 4>(in.x, in.w, in.stored(d), q);
    put16(out, in.half(d));
    std::memset(out + 2, 0, 16);
    for (int i = 0; i < 32; ++i) put_nibble(out + 2, i, iq4_code(q[i / kLanes][i % kLanes]));
}

/// The nearest of kFp4Values (doubled E2M1); of two as near, the smaller magnitude.
inline int fp4_code(float v) noexcept {
    const float magnitude = std::fabs(v);
    int c = 0;
    while (c < 7 &&
           magnitude > static_cast<float>(blocks::kFp4Values[c] + blocks::kFp4Values[c + 1]) / 2)
        ++c;
    return v < 0 && c > 0 ? c + 8 : c;
}

inline void quantize_mxfp4(const float* values, const float* weights, std::byte* out) noexcept {
    const Input<32> in(values, weights);
    float best_error = INFINITY;
    int best = 0, best_codes[32] = {};
    float largest = 0;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(in.x[i / 8][i % 8]));
    // The largest magnitude is in [1, 2) here; E2M1 doubled ends at 12. 2^(e - 128) is the scale.
    for (int power = -4; largest > 0 && power <= -1; ++power) {
        const int e = 128 + power + in.exponent;
        if (e < 0 || e > 254) continue;
        const float scale = Input<32>::power(power), inverse_scale = Input<32>::power(-power);
        float error = 0;
        int codes[32];
        for (int i = 0; i < 32; ++i) {
            const float x = in.x[i / 8][i % 8];
            codes[i] = fp4_code(x * inverse_scale);
            const float difference = x - scale * blocks::kFp4Values[codes[i]];
            error += in.w[i / 8][i % 8] * difference * difference;
        }
        if (!(error < best_error)) continue;
        best_error = error;
        best = e;
        std::copy_n(codes, 32, best_codes);
    }
    out[0] = static_cast<std::byte>(in.finite ? best : 255);
    std::memset(out + 1, 0, 16);
    for (int i = 0; i < 32; ++i) put_nibble(out + 1, i, best_codes[i]);
}

inline void quantize_q2_k(const float* values, const float* weights, std::byte* p) noexcept {
    const SuperInput in(values, weights);
    const Lines<16> fit = fit_lines<3, 15, 16>(in);
    std::memset(p, 0, 84);
    for (int j = 0; j < 16; ++j) put_or(p[j], fit.scales[j] | fit.minima[j] << 4);
    for (int i = 0; i < 256; ++i)
        put_or(p[16 + i / 128 * 32 + i % 32], code_at(fit.codes, i, 0) << i % 128 / 32 * 2);
    put16(p + 80, in.half(fit.d));
    put16(p + 82, in.half(fit.minimum));
}

inline void quantize_q3_k(const float* values, const float* weights, std::byte* p) noexcept {
    const SuperInput in(values, weights);
    const Scaled<16> fit = fit_scaled<Integers<-4, 3>, 16, -32, 31>(in);
    std::memset(p, 0, 110);
    for (int i = 0; i < 256; ++i) {
        const int code = code_at(fit.codes, i, -4);
        put_or(p[i % 32], (code >> 2) << i / 32);
        put_or(p[32 + i / 128 * 32 + i % 32], (code & 3) << i % 128 / 32 * 2);
    }
    for (int j = 0; j < 16; ++j) {
        const int scale = fit.scales[j] + 32;
        put_or(p[96 + j % 8], (scale & 15) << j / 8 * 4);
        put_or(p[104 + j % 4], (scale >> 4) << 2 * (j / 4));
    }
    put16(p + 108, in.half(fit.d));
}

/// The twelve bytes of eight six-bit scales and minima.
inline void put_six_bits(std::byte* p, const Lines<8>& fit) noexcept {
    for (int j = 0; j < 4; ++j) {
        put_or(p[j], fit.scales[j] | (fit.scales[j + 4] >> 4) << 6);
        put_or(p[j + 4], fit.minima[j] | (fit.minima[j + 4] >> 4) << 6);
        put_or(p[j + 8], (fit.scales[j + 4] & 15) | (fit.minima[j + 4] & 15) << 4);
    }
}

inline void quantize_q4_k(const float* values, const float* weights, std::byte* p) noexcept {
    const SuperInput in(values, weights);
    const Lines<8> fit = fit_lines<15, 63, 8>(in);
    std::memset(p, 0, 144);
    put16(p, in.half(fit.d));
    put16(p + 2, in.half(fit.minimum));
    put_six_bits(p + 4, fit);
    for (int i = 0; i < 256; ++i)
        put_or(p[16 + i / 64 * 32 + i % 32], code_at(fit.codes, i, 0) << i / 32 % 2 * 4);
}

inline void quantize_q5_k(const float* values, const float* weights, std::byte* p) noexcept {
    const SuperInput in(values, weights);
    const Lines<8> fit = fit_lines<31, 63, 8>(in);
    std::memset(p, 0, 176);
    put16(p, in.half(fit.d));
    put16(p + 2, in.half(fit.minimum));
    put_six_bits(p + 4, fit);
    for (int i = 0; i < 256; ++i) {
        const int code = code_at(fit.codes, i, 0);
        put_or(p[16 + i % 32], (code >> 4) << i / 32);
        put_or(p[48 + i / 64 * 32 + i % 32], (code & 15) << i / 32 % 2 * 4);
    }
}

inline void quantize_q6_k(const float* values, const float* weights, std::byte* p) noexcept {
    const SuperInput in(values, weights);
    const Scaled<16> fit = fit_scaled<Integers<-32, 31>, 16, -128, 127>(in);
    std::memset(p, 0, 210);
    for (int i = 0; i < 256; ++i) {
        const int code = code_at(fit.codes, i, -32);
        const int half = i / 128, s = i % 128 / 32, l = i % 32;
        put_or(p[half * 64 + s % 2 * 32 + l], (code & 15) << s / 2 * 4);
        put_or(p[128 + half * 32 + l], (code >> 4) << 2 * s);
    }
    for (int j = 0; j < 16; ++j) p[192 + j] = static_cast<std::byte>(fit.scales[j]);
    put16(p + 208, in.half(fit.d));
}

inline void quantize_iq4_xs(const float* values, const float* weights, std::byte* p) noexcept {
    const SuperInput in(values, weights);
    const Scaled<8> fit = fit_scaled<Iq4, 8, -32, 31>(in);
    std::memset(p, 0, 136);
    put16(p, in.half(fit.d));
    for (int j = 0; j < 8; ++j) {
        const int scale = fit.scales[j] + 32;
        put_or(p[2 + j / 4], (scale >> 4) << 2 * (j % 4));
        put_or(p[4 + j / 2], (scale & 15) << j % 2 * 4);
    }
    for (int i = 0; i < 256; ++i)
        put_nibble(p + 8 + i / 32 * 16, i % 32, iq4_code(fit.codes[i / kLanes][i % kLanes]));
}

/// A format's blocks one after another.
template <auto Block, int Values, int Bytes>
struct Blocks {
    static void weighted(const float* values, const float* weights, std::byte* stored,
                         int64_t n) noexcept {
        for (int64_t i = 0; i < n; i += Values, stored += Bytes)
            Block(values + i, weights != nullptr ? weights + i : nullptr, stored);
    }
    static void plain(const float* values, std::byte* stored, int64_t n) noexcept {
        weighted(values, nullptr, stored, n);
    }
    static constexpr Quantizer kFunctions{weighted, plain};
};

Quantizer quantizer_of(DType dtype) noexcept {
    switch (dtype) {
        case DType::q4_0:
            return Blocks<quantize_scaled_block<-8, 7>, 32, 18>::kFunctions;
        case DType::q4_1:
            return Blocks<quantize_line_block<15>, 32, 20>::kFunctions;
        case DType::q5_0:
            return Blocks<quantize_scaled_block<-16, 15>, 32, 22>::kFunctions;
        case DType::q5_1:
            return Blocks<quantize_line_block<31>, 32, 24>::kFunctions;
        case DType::q2_k:
            return Blocks<quantize_q2_k, 256, 84>::kFunctions;
        case DType::q3_k:
            return Blocks<quantize_q3_k, 256, 110>::kFunctions;
        case DType::q4_k:
            return Blocks<quantize_q4_k, 256, 144>::kFunctions;
        case DType::q5_k:
            return Blocks<quantize_q5_k, 256, 176>::kFunctions;
        case DType::q6_k:
            return Blocks<quantize_q6_k, 256, 210>::kFunctions;
        case DType::iq4_nl:
            return Blocks<quantize_iq4_nl, 32, 18>::kFunctions;
        case DType::iq4_xs:
            return Blocks<quantize_iq4_xs, 256, 136>::kFunctions;
        case DType::mxfp4:
            return Blocks<quantize_mxfp4, 32, 17>::kFunctions;
        default:
            return {};
    }
}

}  // namespace
}  // namespace muster
