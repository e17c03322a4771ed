// SPDX-License-Identifier: Apache-2.0
// Eight 32-bit lanes: the interface of ivec_avx512.h. The same restrictions hold.
#pragma once

#include "muster/cpu/vec_avx2.h"

namespace muster {
namespace {

struct IVec {
    using I = __m256i;
    static constexpr bool kWideDot = false;

    static I zero() noexcept { return _mm256_setzero_si256(); }
    static I set1(int32_t x) noexcept { return _mm256_set1_epi32(x); }
    static I bytes(int x) noexcept { return _mm256_set1_epi8(static_cast<char>(x)); }
    static I load(const void* p) noexcept {
        return _mm256_loadu_si256(static_cast<const __m256i*>(p));
    }
    /// The same for a value with several uses, which compilers would load again for each.
    static I load_once(const void* p) noexcept {
        I x = load(p);
        asm("" : "+x"(x));
        return x;
    }
    static void store(void* p, I x) noexcept { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
    static I broadcast(const void* p) noexcept {
        int32_t bits;
        std::memcpy(&bits, p, sizeof(bits));
        return _mm256_set1_epi32(bits);
    }
    static I table(const void* p) noexcept {
        return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    }
    static I load_bytes(const void* p) noexcept {
        return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
    }
    static I load_u16(const void* p) noexcept {
        return _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    }
    static Vec::F load_f16(const void* p) noexcept {
        return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    }
    static I and_(I a, I b) noexcept { return _mm256_and_si256(a, b); }
    static I or_(I a, I b) noexcept { return _mm256_or_si256(a, b); }
    static I xor_(I a, I b) noexcept { return _mm256_xor_si256(a, b); }
    static I add(I a, I b) noexcept { return _mm256_add_epi32(a, b); }
    static I sub(I a, I b) noexcept { return _mm256_sub_epi32(a, b); }
    static I max(I a, I b) noexcept { return _mm256_max_epi32(a, b); }
    static I mul(I a, I b) noexcept { return _mm256_mullo_epi32(a, b); }
    static I left(I a, int n) noexcept { return _mm256_slli_epi32(a, n); }
    static I right(I a, int n) noexcept { return _mm256_srli_epi32(a, n); }
    static I lookup(I table, I idx) noexcept { return _mm256_shuffle_epi8(table, idx); }
    static Vec::F to_float(I a) noexcept { return _mm256_cvtepi32_ps(a); }
    static Vec::F as_float(I a) noexcept { return _mm256_castsi256_ps(a); }
    /// Exact for u up to 129: two products of 127 each must fit into 16 signed bits.
    static I dot(I sum, I u, I s) noexcept {
        return add(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)));
    }
    /// The same for signed bytes w, s > -128.
    static I dot_signed(I sum, I w, I s) noexcept {
        return dot(sum, _mm256_abs_epi8(w), _mm256_sign_epi8(s, w));
    }
    /// Adds to each lane the products of its two signed 16-bit numbers.
    static I dot_pairs(I sum, I a, I b) noexcept { return add(sum, _mm256_madd_epi16(a, b)); }
    static void store_as_bytes(int8_t* p, Vec::F x) noexcept {
        const __m256i q = _mm256_cvtps_epi32(x);
        const __m128i halves =
            _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(halves, halves));
    }
    static int32_t sum_bytes16(const int8_t* p) noexcept {
        const __m128i q = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        const __m128i biased = _mm_xor_si128(q, _mm_set1_epi8(static_cast<char>(0x80)));
        const __m128i halves = _mm_sad_epu8(biased, _mm_setzero_si128());
        return _mm_cvtsi128_si32(halves) + _mm_extract_epi32(halves, 2) - 16 * 128;
    }
};

}  // namespace
}  // namespace muster
