// SPDX-License-Identifier: Apache-2.0
#include "muster/cpu/vec_avx2.h"
#include "peak_kernels.h"

namespace muster::bench {
namespace {

constexpr int kChains = 12;

float f32(int64_t rounds) noexcept {
    const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(1.0f);
    __m256 acc[kChains];
    for (__m256& c : acc) c = _mm256_setzero_ps();
    for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
        for (int j = 0; j < kChains; ++j) acc[j] = _mm256_fmadd_ps(a, b, acc[j]);
    }
    for (int j = 1; j < kChains; ++j) acc[0] = _mm256_add_ps(acc[0], acc[j]);
    return Vec::sum(acc[0]);
}

uint64_t read(const std::byte* data, size_t bytes) noexcept {
    __m256i a = _mm256_setzero_si256(), b = a;
    for (size_t i = 0; i + 64 <= bytes; i += 64) {
        const auto* p = reinterpret_cast<const __m256i*>(data + i);
        a = _mm256_or_si256(a, _mm256_loadu_si256(p));
        b = _mm256_or_si256(b, _mm256_loadu_si256(p + 1));
    }
    return static_cast<uint64_t>(_mm256_extract_epi64(_mm256_or_si256(a, b), 0));
}

}  // namespace

PeakKernels peak_kernels_avx2() noexcept {
    return {kChains * 8 * 2, 0, f32, nullptr, 0, nullptr, read};
}

}  // namespace muster::bench
