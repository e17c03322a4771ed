// SPDX-License-Identifier: Apache-2.0
// Formats of super-blocks of 256 values, with scales of 16 or 32 of them.
#include "muster/quant/block_formats.h"

namespace muster::blocks {

void decode_q2_k(const std::byte* p, float* values, int64_t n) noexcept {
    for (int64_t b = 0; b < n; b += 256, p += 84) {
        const float d = half_at(p + 80), dmin = half_at(p + 82);
        for (int i = 0; i < 256; ++i) {
            const int scale = byte_at(p, i / 16);
            const int q = byte_at(p + 16, i / 128 * 32 + i % 32) >> i % 128 / 32 * 2 & 3;
            const float dl = d * static_cast<float>(scale & 15);
            const float ml = dmin * static_cast<float>(scale >> 4);
            values[b + i] = dl * static_cast<float>(q) - ml;
        }
    }
}

void decode_q3_k(const std::byte* p, float* values, int64_t n) noexcept {
    for (int64_t b = 0; b < n; b += 256, p += 110) {
        const float d = half_at(p + 108);
        for (int i = 0; i < 256; ++i) {
            const int low = byte_at(p + 32, i / 128 * 32 + i % 32) >> i % 128 / 32 * 2 & 3;
            const int high = byte_at(p, i % 32) >> i / 32 & 1;
            const float dl = d * static_cast<float>(q3_scale(p + 96, i / 16) - 32);
            values[b + i] = dl * static_cast<float>(low - (high != 0 ? 0 : 4));
        }
    }
}

void decode_q4_k(const std::byte* p, float* values, int64_t n) noexcept {
    for (int64_t b = 0; b < n; b += 256, p += 144) {
        const float d = half_at(p), dmin = half_at(p + 2);
        for (int g = 0; g < 8; ++g) {
            int scale, minimum;
            six_bits(p + 4, g, scale, minimum);
            const float dl = d * static_cast<float>(scale), ml = dmin * static_cast<float>(minimum);
            for (int i = 0; i < 32; ++i) {
                const int q = byte_at(p + 16, g / 2 * 32 + i) >> g % 2 * 4 & 15;
                values[b + g * 32 + i] = dl * static_cast<float>(q) - ml;
            }
        }
    }
}

void decode_q5_k(const std::byte* p, float* values, int64_t n) noexcept {
    for (int64_t b = 0; b < n; b += 256, p += 176) {
        const float d = half_at(p), dmin = half_at(p + 2);
        for (int g = 0; g < 8; ++g) {
            int scale, minimum;
            six_bits(p + 4, g, scale, minimum);
            const float dl = d * static_cast<float>(scale), ml = dmin * static_cast<float>(minimum);
            for (int i = 0; i < 32; ++i) {
                const int low = byte_at(p + 48, g / 2 * 32 + i) >> g % 2 * 4 & 15;
                const int q = low | (byte_at(p + 16, i) >> g & 1) << 4;
                values[b + g * 32 + i] = dl * static_cast<float>(q) - ml;
            }
        }
    }
}

void decode_q6_k(const std::byte* p, float* values, int64_t n) noexcept {
    for (int64_t b = 0; b < n; b += 256, p += 210) {
        const float d = half_at(p + 208);
        for (int i = 0; i < 256; ++i) {
            const int half = i / 128, s = i % 128 / 32, l = i % 32;
            const int low = byte_at(p, half * 64 + s % 2 * 32 + l) >> s / 2 * 4 & 15;
            const int high = byte_at(p + 128, half * 32 + l) >> 2 * s & 3;
            const int q = (low | high << 4) - 32;
            values[b + i] =
                d * static_cast<float>(signed_at(p + 192, i / 16)) * static_cast<float>(q);
        }
    }
}

void decode_iq4_xs(const std::byte* p, float* values, int64_t n) noexcept {
    for (int64_t b = 0; b < n; b += 256, p += 136) {
        const float d = half_at(p);
        const int scales_high = byte_at(p, 2) | byte_at(p, 3) << 8;
        for (int g = 0; g < 8; ++g) {
            const int low = byte_at(p + 4, g / 2) >> g % 2 * 4 & 15;
            const int scale = low | (scales_high >> 2 * g & 3) << 4;
            const float dl = d * static_cast<float>(scale - 32);
            for (int i = 0; i < 32; ++i) {
                const int q = byte_at(p + 8, g * 16 + i % 16) >> i / 16 * 4 & 15;
                values[b + g * 32 + i] = dl * kIq4Values[q];
            }
        }
    }
}

}  // namespace muster::blocks
