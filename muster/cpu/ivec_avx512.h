// SPDX-License-Identifier: Apache-2.0
// Sixteen 32-bit lanes, also seen as 64 bytes: what unpacking and multiplying integers needs beside
// vec_avx512.h. The same restrictions hold.
#pragma once

#include "muster/cpu/vec_avx512.h"

namespace muster {
namespace {

struct IVec {
    using I = __m512i;
    /// Whether dot() is exact for unsigned bytes above 129.
    static constexpr bool kWideDot = true;

    static I zero() noexcept { return _mm512_setzero_si512(); }
    static I set1(int32_t x) noexcept { return _mm512_set1_epi32(x); }
    static I bytes(int x) noexcept { return _mm512_set1_epi8(static_cast<char>(x)); }
    static I load(const void* p) noexcept { return _mm512_loadu_si512(p); }
    /// The same for a value with several uses, which compilers would load again for each.
    static I load_once(const void* p) noexcept {
        I x = load(p);
        asm("" : "+v"(x));
        return x;
    }
    static void store(void* p, I x) noexcept { _mm512_storeu_si512(p, x); }
    /// The four bytes at p in every lane.
    static I broadcast(const void* p) noexcept {
        int32_t bits;
        std::memcpy(&bits, p, sizeof(bits));
        return _mm512_set1_epi32(bits);
    }
    /// The 16 bytes at p in every 128 bits.
    static I table(const void* p) noexcept {
        return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    }
    /// Unsigned bytes or halves, one a lane.
    static I load_bytes(const void* p) noexcept {
        return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    }
    static I load_u16(const void* p) noexcept {
        return _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
    }
    /// f16 numbers, one a lane.
    static Vec::F load_f16(const void* p) noexcept {
        return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
    }
    static I and_(I a, I b) noexcept { return _mm512_and_si512(a, b); }
    static I or_(I a, I b) noexcept { return _mm512_or_si512(a, b); }
    static I xor_(I a, I b) noexcept { return _mm512_xor_si512(a, b); }
    static I add(I a, I b) noexcept { return _mm512_add_epi32(a, b); }
    static I sub(I a, I b) noexcept { return _mm512_sub_epi32(a, b); }
    static I max(I a, I b) noexcept { return _mm512_max_epi32(a, b); }
    static I mul(I a, I b) noexcept { return _mm512_mullo_epi32(a, b); }
    /// Shifts of whole lanes; `n` is known when the code is compiled.
    static I left(I a, int n) noexcept { return _mm512_slli_epi32(a, static_cast<unsigned>(n)); }
    static I right(I a, int n) noexcept { return _mm512_srli_epi32(a, static_cast<unsigned>(n)); }
    /// Byte i of the result is table()'s byte number idx[i], which is below 16.
    static I lookup(I table, I idx) noexcept { return _mm512_shuffle_epi8(table, idx); }
    static Vec::F to_float(I a) noexcept { return _mm512_cvtepi32_ps(a); }
    static Vec::F as_float(I a) noexcept { return _mm512_castsi512_ps(a); }
    /// Adds to each lane the products of its four unsigned bytes of u and signed bytes of s.
    static I dot(I sum, I u, I s) noexcept { return _mm512_dpbusd_epi32(sum, u, s); }
    /// Adds to each lane the products of its two signed 16-bit numbers.
    static I dot_pairs(I sum, I a, I b) noexcept { return _mm512_dpwssd_epi32(sum, a, b); }
    static I dot_signed(I sum, I, I) noexcept { return sum; }  // not used with kWideDot
    /// Whole numbers in [-127, 127] as kLanes signed bytes.
    static void store_as_bytes(int8_t* p, Vec::F x) noexcept {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                         _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
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
