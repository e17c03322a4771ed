// SPDX-License-Identifier: Apache-2.0
// Formats of blocks of 32 values: four bits of value i in the low half of byte i, of value i + 16
// in its high half.
#include "muster/quant/block_formats.h"

namespace muster::blocks {
namespace {

/// Bit i of the four bytes at p.
int bit_at(const std::byte* p, int i) noexcept { return byte_at(p, i / 8) >> i % 8 & 1; }

/// Runs f(i, code) for the four-bit codes of a block.
template <typename F>
void for_codes(const std::byte* codes, F f) noexcept {
    for (int i = 0; i < 16; ++i) {
        f(i, byte_at(codes, i) & 15);
        f(i + 16, byte_at(codes, i) >> 4);
    }
}

}  // namespace

void decode_q4_0(const std::byte* p, float* values, int64_t n) noexcept {
    for (int64_t b = 0; b < n; b += 32, p += 18) {
        const float d = half_at(p);
        for_codes(p + 2, [&](int i, int q) { values[b + i] = static_cast<float>(q - 8) * d; });
    }
}

void decode_q4_1(const std::byte* p, float* values, int64_t n) noexcept {
    for (int64_t b = 0; b < n; b += 32, p += 20) {
        const float d = half_at(p), m = half_at(p + 2);
        for_codes(p + 4, [&](int i, int q) { values[b + i] = static_cast<float>(q) * d + m; });
    }
}

void decode_q5_0(const std::byte* p, float* values, int64_t n) noexcept {
    for (int64_t b = 0; b < n; b += 32, p += 22) {
        const float d = half_at(p);
        for_codes(p + 6, [&](int i, int q) {
            values[b + i] = static_cast<float>((q | bit_at(p + 2, i) << 4) - 16) * d;
        });
    }
}

void decode_q5_1(const std::byte* p, float* values, int64_t n) noexcept {
    for (int64_t b = 0; b < n; b += 32, p += 24) {
        const float d = half_at(p), m = half_at(p + 2);
        for_codes(p + 8, [&](int i, int q) {
            values[b + i] = static_cast<float>(q | bit_at(p + 4, i) << 4) * d + m;
        });
    }
}

void decode_iq4_nl(const std::byte* p, float* values, int64_t n) noexcept {
    for (int64_t b = 0; b < n; b += 32, p += 18) {
        const float d = half_at(p);
        for_codes(p + 2, [&](int i, int q) { values[b + i] = d * kIq4Values[q]; });
    }
}

void decode_mxfp4(const std::byte* p, float* values, int64_t n) noexcept {
    for (int64_t b = 0; b < n; b += 32, p += 17) {
        const float d = mxfp4_scale(byte_at(p, 0));
        for_codes(p + 1, [&](int i, int q) { values[b + i] = kFp4Values[q] * d; });
    }
}

}  // namespace muster::blocks
