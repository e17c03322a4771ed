// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "muster/quant/convert_kernels.h"

namespace muster {
namespace {

using Bits16 = __attribute__((may_alias)) uint16_t;

__m128i load_halves(const std::byte* p, int64_t n) noexcept {
    if (n >= 8) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    alignas(16) uint16_t part[8] = {};
    for (int64_t i = 0; i < n; ++i) part[i] = reinterpret_cast<const Bits16*>(p)[i];
    return _mm_load_si128(reinterpret_cast<const __m128i*>(part));
}

void store_floats(float* p, __m256 v, int64_t n) noexcept {
    if (n >= 8) return _mm256_storeu_ps(p, v);
    alignas(32) float part[8];
    _mm256_store_ps(part, v);
    for (int64_t i = 0; i < n; ++i) p[i] = part[i];
}

void decode_f16(const std::byte* stored, float* values, int64_t n) noexcept {
    for (int64_t i = 0; i < n; i += 8) {
        store_floats(values + i, _mm256_cvtph_ps(load_halves(stored + 2 * i, n - i)), n - i);
    }
}

void encode_f16(const float* values, std::byte* stored, int64_t n) noexcept {
    for (int64_t i = 0; i < n; i += 8) {
        alignas(32) float part[8] = {};
        std::copy_n(values + i, std::min<int64_t>(8, n - i), part);
        alignas(16) uint16_t half[8];
        _mm_store_si128(reinterpret_cast<__m128i*>(half),
                        _mm256_cvtps_ph(_mm256_load_ps(part), _MM_FROUND_TO_NEAREST_INT));
        std::memcpy(stored + 2 * i, half, static_cast<size_t>(2 * std::min<int64_t>(8, n - i)));
    }
}

void decode_bf16(const std::byte* stored, float* values, int64_t n) noexcept {
    for (int64_t i = 0; i < n; i += 8) {
        const __m256i wide = _mm256_cvtepu16_epi32(load_halves(stored + 2 * i, n - i));
        store_floats(values + i, _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)), n - i);
    }
}

void decode_q8_0(const std::byte* stored, float* values, int64_t n) noexcept {
    for (int64_t i = 0; i < n; i += 32, stored += 34) {
        const int bits = *reinterpret_cast<const Bits16*>(stored);
        const __m256 d = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
        for (int part = 0; part < 4; ++part) {
            const __m128i q =
                _mm_loadl_epi64(reinterpret_cast<const __m128i*>(stored + 2 + 8 * part));
            const __m256 v = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));
            _mm256_storeu_ps(values + i + 8 * part, _mm256_mul_ps(d, v));
        }
    }
}

constexpr ConvertKernels kKernels{decode_f16, decode_bf16, decode_q8_0,
                                  encode_f16, nullptr,     nullptr};

}  // namespace

const ConvertKernels& convert_kernels_avx2() noexcept { return kKernels; }

}  // namespace muster
