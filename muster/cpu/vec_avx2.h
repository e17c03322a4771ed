// SPDX-License-Identifier: Apache-2.0
// Eight f32 lanes: the interface of vec_avx512.h. Only for files compiled with the avx2 flags;
// everything has internal linkage.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace muster {
namespace {

struct Vec {
    using F = __m256;
    static constexpr int kLanes = 8;

    static F zero() noexcept { return _mm256_setzero_ps(); }
    static F set1(float x) noexcept { return _mm256_set1_ps(x); }
    static F broadcast(const float* p) noexcept {
        int32_t bits;
        std::memcpy(&bits, p, sizeof(bits));
        return _mm256_castsi256_ps(_mm256_set1_epi32(bits));
    }
    static F load(const float* p) noexcept { return _mm256_loadu_ps(p); }
    static void store(float* p, F x) noexcept { _mm256_storeu_ps(p, x); }
    static void stream(float* p, F x) noexcept { _mm256_stream_ps(p, x); }
    static __m256i mask(int64_t n) noexcept {
        const __m256i count = _mm256_set1_epi32(static_cast<int>(n < 8 ? n : 8));
        return _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    static F load_part(const float* p, int64_t n) noexcept {
        return n >= 8 ? load(p) : _mm256_maskload_ps(p, mask(n));
    }
    static void store_part(float* p, F x, int64_t n) noexcept {
        n >= 8 ? store(p, x) : _mm256_maskstore_ps(p, mask(n), x);
    }
    static F load_f16(const void* p) noexcept {
        return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i_u*>(p)));
    }
    static F load_f16_part(const void* p, int64_t n) noexcept {
        if (n >= 8) return load_f16(p);
        uint16_t part[8] = {};
        std::memcpy(part, p, static_cast<size_t>(n) * sizeof(part[0]));
        return load_f16(part);
    }
    static F load_i8(const void* p) noexcept {
        const __m128i bytes = _mm_loadu_si64(p);
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
    }
    static F broadcast_f16(const void* p) noexcept {
        uint16_t bits;
        std::memcpy(&bits, p, sizeof(bits));
        return _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
    }
    static F add(F a, F b) noexcept { return _mm256_add_ps(a, b); }
    static F sub(F a, F b) noexcept { return _mm256_sub_ps(a, b); }
    static F mul(F a, F b) noexcept { return _mm256_mul_ps(a, b); }
    static F div(F a, F b) noexcept { return _mm256_div_ps(a, b); }
    static F fma(F a, F b, F c) noexcept { return _mm256_fmadd_ps(a, b, c); }
    static F fnma(F a, F b, F c) noexcept { return _mm256_fnmadd_ps(a, b, c); }
    static F min(F a, F b) noexcept { return _mm256_min_ps(a, b); }
    static F max(F a, F b) noexcept { return _mm256_max_ps(a, b); }
    static F abs(F a) noexcept { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
    static F round(F a) noexcept {
        return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    }
    /// Here for n in [-126, 127] only.
    static F scale(F a, F n) noexcept {
        const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
    }
    static F if_positive(F x, F a, F b) noexcept {
        return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, zero(), _CMP_GT_OQ));
    }
    static float largest(F a) noexcept {
        __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        s = _mm_max_ps(s, _mm_movehl_ps(s, s));
        return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
    }
    static float sum(F a) noexcept {
        __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        s = _mm_add_ps(s, _mm_movehl_ps(s, s));
        return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
    }
    /// Lane i: the sum of r[i].
    static F sums(const F (&r)[8]) noexcept {
        const F low = _mm256_hadd_ps(_mm256_hadd_ps(r[0], r[1]), _mm256_hadd_ps(r[2], r[3]));
        const F high = _mm256_hadd_ps(_mm256_hadd_ps(r[4], r[5]), _mm256_hadd_ps(r[6], r[7]));
        return add(_mm256_permute2f128_ps(low, high, 0x20),
                   _mm256_permute2f128_ps(low, high, 0x31));
    }

    static void transpose(F (&r)[8]) noexcept {
        F t[8];
        for (int i = 0; i < 8; i += 2) {
            t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
            t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
        }
        for (int i = 0; i < 8; i += 4) {
            r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
            r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
            r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
            r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
        }
        for (int j = 0; j < 4; ++j) {
            t[j] = _mm256_permute2f128_ps(r[j], r[j + 4], 0x20);
            t[j + 4] = _mm256_permute2f128_ps(r[j], r[j + 4], 0x31);
        }
        for (int j = 0; j < 8; ++j) r[j] = t[j];
    }
};

}  // namespace
}  // namespace muster
