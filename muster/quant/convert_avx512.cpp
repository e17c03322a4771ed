// SPDX-License-Identifier: Apache-2.0
#include "muster/cpu/vec_avx512.h"
#include "muster/quant/convert_kernels.h"

namespace muster {
namespace {

void decode_f16(const std::byte* stored, float* values, int64_t n) noexcept {
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 m = Vec::mask(n - i);
        const __m256i half = _mm256_maskz_loadu_epi16(m, stored + 2 * i);
        _mm512_mask_storeu_ps(values + i, m, _mm512_cvtph_ps(half));
    }
}

void decode_bf16(const std::byte* stored, float* values, int64_t n) noexcept {
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 m = Vec::mask(n - i);
        const __m256i half = _mm256_maskz_loadu_epi16(m, stored + 2 * i);
        const __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
        _mm512_mask_storeu_epi32(values + i, m, wide);
    }
}

void encode_f16(const float* values, std::byte* stored, int64_t n) noexcept {
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 m = Vec::mask(n - i);
        const __m512 x = _mm512_maskz_loadu_ps(m, values + i);
        _mm256_mask_storeu_epi16(stored + 2 * i, m, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
}

// Integer arithmetic instead of vcvtneps2bf16, which flushes subnormals to zero.
void encode_bf16(const float* values, std::byte* stored, int64_t n) noexcept {
    const __m512i bias = _mm512_set1_epi32(0x7fff);
    const __m512i one = _mm512_set1_epi32(1);
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 m = Vec::mask(n - i);
        const __m512 x = _mm512_maskz_loadu_ps(m, values + i);
        const __m512i bits = _mm512_castps_si512(x);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
        __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, bias), odd);
        const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
        rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
        const __m256i half = _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
        _mm256_mask_storeu_epi16(stored + 2 * i, m, half);
    }
}

void decode_q8_0(const std::byte* stored, float* values, int64_t n) noexcept {
    for (int64_t i = 0; i < n; i += 32, stored += 34) {
        const int bits = *reinterpret_cast<const __attribute__((may_alias)) uint16_t*>(stored);
        const __m512 d = _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
        for (int half = 0; half < 2; ++half) {
            const __m128i q =
                _mm_loadu_si128(reinterpret_cast<const __m128i*>(stored + 2 + 16 * half));
            const __m512 v = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
            _mm512_storeu_ps(values + i + 16 * half, _mm512_mul_ps(d, v));
        }
    }
}

constexpr ConvertKernels kKernels{decode_f16, decode_bf16, decode_q8_0,
                                  encode_f16, encode_bf16, nullptr};

}  // namespace

const ConvertKernels& convert_kernels_avx512() noexcept { return kKernels; }

}  // namespace muster
