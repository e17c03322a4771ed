// SPDX-License-Identifier: Apache-2.0
#include "muster/quant/convert.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "muster/core/error.h"
#include "muster/quant/block_formats.h"
#include "muster/quant/convert_kernels.h"
#include "muster/quant/quantize_kernels.h"

namespace muster {
namespace {

constexpr int64_t kBlock = 32;       // values of a Q8_0 block
constexpr int64_t kBlockBytes = 34;  // f16 scale and 32 signed bytes

uint16_t load16(const std::byte* p) noexcept {
    uint16_t v;
    std::memcpy(&v, p, sizeof(v));
    return v;
}

void store16(std::byte* p, uint16_t v) noexcept { std::memcpy(p, &v, sizeof(v)); }

void decode_f32(const std::byte* stored, float* values, int64_t n) noexcept {
    std::memcpy(values, stored, static_cast<size_t>(n) * sizeof(float));
}

void encode_f32(const float* values, std::byte* stored, int64_t n) noexcept {
    std::memcpy(stored, values, static_cast<size_t>(n) * sizeof(float));
}

void decode_f16(const std::byte* stored, float* values, int64_t n) noexcept {
    for (int64_t i = 0; i < n; ++i) values[i] = f16_to_f32(load16(stored + 2 * i));
}

void encode_f16(const float* values, std::byte* stored, int64_t n) noexcept {
    for (int64_t i = 0; i < n; ++i) store16(stored + 2 * i, f32_to_f16(values[i]));
}

void decode_bf16(const std::byte* stored, float* values, int64_t n) noexcept {
    for (int64_t i = 0; i < n; ++i) values[i] = bf16_to_f32(load16(stored + 2 * i));
}

void encode_bf16(const float* values, std::byte* stored, int64_t n) noexcept {
    for (int64_t i = 0; i < n; ++i) store16(stored + 2 * i, f32_to_bf16(values[i]));
}

void decode_q8_0(const std::byte* stored, float* values, int64_t n) noexcept {
    for (int64_t i = 0; i < n; i += kBlock, stored += kBlockBytes) {
        const float d = f16_to_f32(load16(stored));
        for (int64_t j = 0; j < kBlock; ++j) {
            values[i + j] = d * static_cast<float>(static_cast<int8_t>(stored[2 + j]));
        }
    }
}

void encode_q8_0(const float* values, std::byte* stored, int64_t n) noexcept {
    for (int64_t i = 0; i < n; i += kBlock, stored += kBlockBytes) {
        float largest = 0;
        bool finite = true;
        for (int64_t j = 0; j < kBlock; ++j) {
            const float magnitude = std::fabs(values[i + j]);
            finite = finite && std::isfinite(magnitude);
            if (magnitude > largest) largest = magnitude;
        }
        if (!finite) {
            store16(stored, 0x7e00);
            std::memset(stored + 2, 0, kBlock);
            continue;
        }
        const float d = largest / 127.0f;
        const float inverse = d != 0 ? 1.0f / d : 0.0f;
        store16(stored, f32_to_f16(d));
        for (int64_t j = 0; j < kBlock; ++j) {
            // A subnormal d has an infinite inverse; the block's values are then below any scale
            // that f16 can hold, and 0 is what d = 0 decodes to.
            const float q = std::isinf(inverse) ? 0.0f : std::round(values[i + j] * inverse);
            stored[2 + j] = static_cast<std::byte>(static_cast<int8_t>(q));
        }
    }
}

constexpr ConvertKernels kGeneric{decode_f16, decode_bf16, decode_q8_0,
                                  encode_f16, encode_bf16, encode_q8_0};

const ConvertKernels& kernels(Isa isa) noexcept {
#if MUSTER_X86
    if (isa >= Isa::avx512) return convert_kernels_avx512();
    if (isa == Isa::avx2) return convert_kernels_avx2();
#endif
    (void)isa;
    return kGeneric;
}

template <typename Fn>
Fn pick(const ConvertKernels& fast, Fn ConvertKernels::*member) noexcept {
    return fast.*member != nullptr ? fast.*member : kGeneric.*member;
}

}  // namespace

float f16_to_f32(uint16_t bits) noexcept {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
    const uint32_t exponent = (bits >> 10) & 31;
    const uint32_t mantissa = bits & 0x3ff;
    if (exponent == 31) {  // infinity, or NaN made quiet
        const uint32_t quiet = mantissa != 0 ? 0x400000 : 0;
        return std::bit_cast<float>(sign | 0x7f800000 | quiet | (mantissa << 13));
    }
    if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24 is exact in f32
        const float value = static_cast<float>(mantissa) * 0x1p-24f;
        return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
    }
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

uint16_t f32_to_f16(float value) noexcept {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t sign = (bits >> 16) & 0x8000;
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {  // NaN: keep the top of the payload, quiet
        return static_cast<uint16_t>(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));
    }
    if (magnitude >= 0x47800000) return static_cast<uint16_t>(sign | 0x7c00);  // >= 2^16
    if (magnitude < 0x38800000) {  // below 2^-14: a multiple of 2^-24, rounded by the addition
        const float sum = std::bit_cast<float>(magnitude) + 0.5f;  // ulp(0.5) = 2^-24
        return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(sum) - 0x3f000000));
    }
    const uint32_t odd = (magnitude >> 13) & 1;
    const uint32_t rounded = magnitude - (112u << 23) + 0xfff + odd;
    return static_cast<uint16_t>(sign | (rounded >> 13));
}

float bf16_to_f32(uint16_t bits) noexcept {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

uint16_t f32_to_bf16(float value) noexcept {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

DecodeFn decoder(DType dtype, Isa isa) noexcept {
    switch (dtype) {
        case DType::f32:
            return decode_f32;
        case DType::f16:
            return pick(kernels(isa), &ConvertKernels::decode_f16);
        case DType::bf16:
            return pick(kernels(isa), &ConvertKernels::decode_bf16);
        case DType::q8_0:
            return pick(kernels(isa), &ConvertKernels::decode_q8_0);
        case DType::q4_0:
            return blocks::decode_q4_0;
        case DType::q4_1:
            return blocks::decode_q4_1;
        case DType::q5_0:
            return blocks::decode_q5_0;
        case DType::q5_1:
            return blocks::decode_q5_1;
        case DType::q2_k:
            return blocks::decode_q2_k;
        case DType::q3_k:
            return blocks::decode_q3_k;
        case DType::q4_k:
            return blocks::decode_q4_k;
        case DType::q5_k:
            return blocks::decode_q5_k;
        case DType::q6_k:
            return blocks::decode_q6_k;
        case DType::iq4_nl:
            return blocks::decode_iq4_nl;
        case DType::iq4_xs:
            return blocks::decode_iq4_xs;
        case DType::mxfp4:
            return blocks::decode_mxfp4;
        case DType::i32:
            break;
    }
    MUSTER_ASSERT(!"a format of numbers");
    return nullptr;
}

EncodeFn encoder(DType dtype, Isa isa) noexcept {
    switch (dtype) {
        case DType::f32:
            return encode_f32;
        case DType::f16:
            return pick(kernels(isa), &ConvertKernels::encode_f16);
        case DType::bf16:
            return pick(kernels(isa), &ConvertKernels::encode_bf16);
        case DType::q8_0:
            return pick(kernels(isa), &ConvertKernels::encode_q8_0);
        default:
            break;
    }
    const EncodeFn encode = quantizer(dtype, isa).plain;
    MUSTER_ASSERT(encode != nullptr);  // a format of numbers
    return encode;
}

void decode_row(DType dtype, const std::byte* stored, float* values, int64_t n) noexcept {
    decoder(dtype, current_isa())(stored, values, n);
}

void encode_row(DType dtype, const float* values, std::byte* stored, int64_t n) noexcept {
    encoder(dtype, current_isa())(values, stored, n);
}

}  // namespace muster
