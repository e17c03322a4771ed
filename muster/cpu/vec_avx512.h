// SPDX-License-Identifier: Apache-2.0
// Sixteen f32 lanes. Only for files compiled with the avx512 flags; everything has internal
// linkage, so that no code of this instruction set leaks into other files.
#pragma once

// g++ 12 takes the deliberately undefined operands inside its own intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace muster {
namespace {

struct Vec {
    using F = __m512;
    static constexpr int kLanes = 16;

    static F zero() noexcept { return _mm512_setzero_ps(); }
    static F set1(float x) noexcept { return _mm512_set1_ps(x); }
    /// The 32 bits at p in every lane, whatever they mean.
    static F broadcast(const float* p) noexcept {
        int32_t bits;
        std::memcpy(&bits, p, sizeof(bits));
        return _mm512_castsi512_ps(_mm512_set1_epi32(bits));
    }
    static F load(const float* p) noexcept { return _mm512_loadu_ps(p); }
    static void store(float* p, F x) noexcept { _mm512_storeu_ps(p, x); }
    static void stream(float* p, F x) noexcept { _mm512_stream_ps(p, x); }
    static __mmask16 mask(int64_t n) noexcept {
        return n >= 16 ? __mmask16(0xffff) : static_cast<__mmask16>((1u << n) - 1);
    }
    /// The first min(n, kLanes) lanes; the others are zero, or not written. n >= 0.
    /// Whole vectors go without a mask: a masked load cannot take its data from a store in flight
    /// and would wait until all earlier stores have reached the cache.
    static F load_part(const float* p, int64_t n) noexcept {
        return n >= 16 ? load(p) : _mm512_maskz_loadu_ps(mask(n), p);
    }
    static void store_part(float* p, F x, int64_t n) noexcept {
        n >= 16 ? store(p, x) : _mm512_mask_storeu_ps(p, mask(n), x);
    }
    /// As many f16 or signed bytes, widened exactly; at any address.
    static F load_f16(const void* p) noexcept {
        return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i_u*>(p)));
    }
    static F load_f16_part(const void* p, int64_t n) noexcept {
        return n >= 16 ? load_f16(p) : _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask(n), p));
    }
    static F load_i8(const void* p) noexcept {
        const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i_u*>(p));
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
    }
    /// One f16 in every lane.
    static F broadcast_f16(const void* p) noexcept {
        uint16_t bits;
        std::memcpy(&bits, p, sizeof(bits));
        return _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
    }
    static F add(F a, F b) noexcept { return _mm512_add_ps(a, b); }
    static F sub(F a, F b) noexcept { return _mm512_sub_ps(a, b); }
    static F mul(F a, F b) noexcept { return _mm512_mul_ps(a, b); }
    static F div(F a, F b) noexcept { return _mm512_div_ps(a, b); }
    static F fma(F a, F b, F c) noexcept { return _mm512_fmadd_ps(a, b, c); }
    static F fnma(F a, F b, F c) noexcept { return _mm512_fnmadd_ps(a, b, c); }
    /// Of a NaN and a number, the second operand: min(bound, x) keeps a NaN in x.
    static F min(F a, F b) noexcept { return _mm512_min_ps(a, b); }
    static F max(F a, F b) noexcept { return _mm512_max_ps(a, b); }
    static F abs(F a) noexcept { return _mm512_abs_ps(a); }
    static F round(F a) noexcept { return _mm512_roundscale_ps(a, 8); }
    /// a * 2^n for whole n.
    static F scale(F a, F n) noexcept { return _mm512_scalef_ps(a, n); }
    /// x > 0 ? a : b, lane by lane (b where x is NaN).
    static F if_positive(F x, F a, F b) noexcept {
        return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, zero(), _CMP_GT_OQ), b, a);
    }
    static float sum(F a) noexcept { return _mm512_reduce_add_ps(a); }
    /// Lane i: the sum of r[i].
    static F sums(const F (&r)[16]) noexcept {
        F fours[4];
        for (int i = 0; i < 4; ++i) {
            const F *a = r + 4 * i, *c = a + 2;
            const F ab = add(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1]));
            const F cd = add(_mm512_unpacklo_ps(c[0], c[1]), _mm512_unpackhi_ps(c[0], c[1]));
            fours[i] = add(unpack_pairs<false>(ab, cd), unpack_pairs<true>(ab, cd));
        }
        return add_quarters(add_quarters(fours[0], fours[1]), add_quarters(fours[2], fours[3]));
    }
    /// Of numbers, none of them NaN.
    static float largest(F a) noexcept { return _mm512_reduce_max_ps(a); }

    static void transpose(F (&r)[16]) noexcept {
        F t[16];
        for (int i = 0; i < 16; i += 2) {
            t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
            t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
        }
        for (int i = 0; i < 16; i += 4) {  // r[i + j]: column j of each 4 x 4 block, rows i...
            r[i] = unpack_pairs<false>(t[i], t[i + 2]);
            r[i + 1] = unpack_pairs<true>(t[i], t[i + 2]);
            r[i + 2] = unpack_pairs<false>(t[i + 1], t[i + 3]);
            r[i + 3] = unpack_pairs<true>(t[i + 1], t[i + 3]);
        }
        for (int j = 0; j < 4; ++j) {
            t[j] = _mm512_shuffle_f32x4(r[j], r[j + 4], 0x88);
            t[j + 4] = _mm512_shuffle_f32x4(r[j], r[j + 4], 0xdd);
            t[j + 8] = _mm512_shuffle_f32x4(r[j + 8], r[j + 12], 0x88);
            t[j + 12] = _mm512_shuffle_f32x4(r[j + 8], r[j + 12], 0xdd);
        }
        for (int j = 0; j < 4; ++j) {
            r[j] = _mm512_shuffle_f32x4(t[j], t[j + 8], 0x88);
            r[j + 8] = _mm512_shuffle_f32x4(t[j], t[j + 8], 0xdd);
            r[j + 4] = _mm512_shuffle_f32x4(t[j + 4], t[j + 12], 0x88);
            r[j + 12] = _mm512_shuffle_f32x4(t[j + 4], t[j + 12], 0xdd);
        }
    }

  private:
    /// Quarters 0 + 1 and 2 + 3 of a, then of b.
    static F add_quarters(F a, F b) noexcept {
        return add(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    }
    template <bool kHigh>
    static F unpack_pairs(F a, F b) noexcept {
        const __m512d x = _mm512_castps_pd(a), y = _mm512_castps_pd(b);
        return _mm512_castpd_ps(kHigh ? _mm512_unpackhi_pd(x, y) : _mm512_unpacklo_pd(x, y));
    }
};

}  // namespace
}  // namespace muster
