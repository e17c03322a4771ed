// SPDX-License-Identifier: Apache-2.0
#include "muster/cpu/vec_avx512.h"
#include "peak_kernels.h"

namespace muster::bench {
namespace {

constexpr int kChains = 24;      // more than latency times throughput of either instruction
constexpr int kInt8Chains = 12;  // enough, and g++ 12 keeps no more in registers

template <typename Step>
float chains(int64_t rounds, Step step) noexcept {
    __m512 acc[kChains];
    for (__m512& a : acc) a = _mm512_setzero_ps();
    for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 32
        for (int j = 0; j < kChains; ++j) acc[j] = step(acc[j]);
    }
    for (int j = 1; j < kChains; ++j) acc[0] = _mm512_add_ps(acc[0], acc[j]);
    return _mm512_reduce_add_ps(acc[0]);
}

float f32(int64_t rounds) noexcept {
    const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(1.0f);
    return chains(rounds, [&](__m512 c) { return _mm512_fmadd_ps(a, b, c); });
}

float bf16(int64_t rounds) noexcept {
    const auto one = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
    return chains(rounds, [&](__m512 c) { return _mm512_dpbf16_ps(c, one, one); });
}

float int8(int64_t rounds) noexcept {
    const __m512i u = _mm512_set1_epi8(3), s = _mm512_set1_epi8(-5);
    __m512i acc[kInt8Chains];
    for (__m512i& a : acc) a = _mm512_setzero_si512();
    for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 32
        for (int j = 0; j < kInt8Chains; ++j) acc[j] = _mm512_dpbusd_epi32(acc[j], u, s);
    }
    for (int j = 1; j < kInt8Chains; ++j) acc[0] = _mm512_add_epi32(acc[0], acc[j]);
    return static_cast<float>(_mm512_reduce_add_epi32(acc[0]));
}

uint64_t read(const std::byte* data, size_t bytes) noexcept {
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (size_t i = 0; i + 256 <= bytes; i += 256) {
        a = _mm512_or_si512(a, _mm512_loadu_si512(data + i));
        b = _mm512_or_si512(b, _mm512_loadu_si512(data + i + 64));
        c = _mm512_or_si512(c, _mm512_loadu_si512(data + i + 128));
        d = _mm512_or_si512(d, _mm512_loadu_si512(data + i + 192));
    }
    a = _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d));
    return static_cast<uint64_t>(_mm512_reduce_or_epi64(a));
}

}  // namespace

PeakKernels peak_kernels_avx512() noexcept {
    return {kChains * 16 * 2, kChains * 32 * 2, f32, bf16, kInt8Chains * 64 * 2, int8, read};
}

}  // namespace muster::bench
