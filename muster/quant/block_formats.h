// SPDX-License-Identifier: Apache-2.0
// GGML's block formats by their definition (ggml-common.h, ggml-quants.c: dequantize_row_*), one
// scalar function each. Rows of n values, n a multiple of the block.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "muster/quant/convert.h"

namespace muster::blocks {

/// The f16 number at p.
inline float half_at(const std::byte* p) noexcept {
    uint16_t bits;
    std::memcpy(&bits, p, sizeof(bits));
    return f16_to_f32(bits);
}
inline int byte_at(const std::byte* p, int64_t i) noexcept { return static_cast<int>(p[i]); }
inline int signed_at(const std::byte* p, int64_t i) noexcept { return static_cast<int8_t>(p[i]); }

/// 2^(e - 128): the scale of MXFP4's doubled values (OCP Microscaling Formats 1.0: E8M0).
inline float mxfp4_scale(int e) noexcept {
    const uint32_t bits = e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23;
    return std::bit_cast<float>(bits);
}

/// The values of IQ4's and MXFP4's four-bit codes; MXFP4's (E2M1) doubled.
inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr int8_t kFp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// Six-bit scale and minimum j (0 to 7) of Q4_K and Q5_K, from their twelve bytes.
inline void six_bits(const std::byte* packed, int j, int& scale, int& minimum) noexcept {
    if (j < 4) {
        scale = byte_at(packed, j) & 63;
        minimum = byte_at(packed, j + 4) & 63;
    } else {
        scale = (byte_at(packed, j + 4) & 15) | (byte_at(packed, j - 4) >> 6) << 4;
        minimum = byte_at(packed, j + 4) >> 4 | (byte_at(packed, j) >> 6) << 4;
    }
}

/// Six-bit scale j (0 to 15) of Q3_K, from its twelve bytes: 0 to 63, meaning -32 to 31.
inline int q3_scale(const std::byte* packed, int j) noexcept {
    const int low = j < 8 ? byte_at(packed, j) & 15 : byte_at(packed, j - 8) >> 4;
    return low | (byte_at(packed, 8 + j % 4) >> 2 * (j / 4) & 3) << 4;
}

void decode_q4_0(const std::byte* p, float* values, int64_t n) noexcept;
void decode_q4_1(const std::byte* p, float* values, int64_t n) noexcept;
void decode_q5_0(const std::byte* p, float* values, int64_t n) noexcept;
void decode_q5_1(const std::byte* p, float* values, int64_t n) noexcept;
void decode_iq4_nl(const std::byte* p, float* values, int64_t n) noexcept;
void decode_mxfp4(const std::byte* p, float* values, int64_t n) noexcept;
void decode_q2_k(const std::byte* p, float* values, int64_t n) noexcept;
void decode_q3_k(const std::byte* p, float* values, int64_t n) noexcept;
void decode_q4_k(const std::byte* p, float* values, int64_t n) noexcept;
void decode_q5_k(const std::byte* p, float* values, int64_t n) noexcept;
void decode_q6_k(const std::byte* p, float* values, int64_t n) noexcept;
void decode_iq4_xs(const std::byte* p, float* values, int64_t n) noexcept;

}  // namespace muster::blocks
