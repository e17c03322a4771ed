// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "muster/core/dtype.h"
#include "muster/cpu/isa.h"

namespace muster {

/// `n` values between their stored format and f32; n is a multiple of the format's block. Pointers
/// need no alignment. Every instruction set gives the same bits.
using DecodeFn = void (*)(const std::byte* stored, float* values, int64_t n) noexcept;
using EncodeFn = void (*)(const float* values, std::byte* stored, int64_t n) noexcept;

/// The functions on `isa`, to be looked up outside loops, for all formats but i32 (asserted).
///
/// f16, bf16: rounding to nearest, ties to even; NaN stays a quiet NaN, overflow becomes infinite.
/// q8_0: GGML's Q8_0, bit by bit, for finite values: d = max|x| / 127 stored as f16, then
/// round(x / d), ties away from zero. A block that holds NaN or infinity gets d = NaN, so that all
/// of it decodes to NaN.
/// The other block formats decode to what GGML's dequantize_row_* gives, bit by bit; they encode as
/// quantize_rows() (quantize.h) does without importance.
DecodeFn decoder(DType dtype, Isa isa) noexcept;
EncodeFn encoder(DType dtype, Isa isa) noexcept;

/// The same with the current instruction set.
void decode_row(DType dtype, const std::byte* stored, float* values, int64_t n) noexcept;
void encode_row(DType dtype, const float* values, std::byte* stored, int64_t n) noexcept;

/// Single values (IEEE 754 binary16; bfloat16).
float f16_to_f32(uint16_t bits) noexcept;
uint16_t f32_to_f16(float value) noexcept;
float bf16_to_f32(uint16_t bits) noexcept;
uint16_t f32_to_bf16(float value) noexcept;

}  // namespace muster
