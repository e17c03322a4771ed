// SPDX-License-Identifier: Apache-2.0
// clang-format off: the vectors come first
#include "muster/cpu/vec_avx2.h"
namespace {
// Rows of w at once, beside 1, 2 or 4 rows of x: eight sums, four vectors of weights.
constexpr int kStreamRows1 = 4, kStreamRows2 = 2, kStreamRows4 = 1;
}  // namespace
#include "muster/kernels/matmul_stream_impl.h"
// clang-format on

namespace muster {
namespace {

__m128i load_halves(const std::byte* p) noexcept {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}

struct LoadF16 {
    static constexpr bool kScaled = false;
    static constexpr int64_t kUnitBytes = kUnit * 2;
    static void load(const std::byte* unit, __m256 (&w)[4]) noexcept {
        for (int v = 0; v < 4; ++v) w[v] = _mm256_cvtph_ps(load_halves(unit + 16 * v));
    }
};

struct LoadBf16 {
    static constexpr bool kScaled = false;
    static constexpr int64_t kUnitBytes = kUnit * 2;
    static void load(const std::byte* unit, __m256 (&w)[4]) noexcept {
        for (int v = 0; v < 4; ++v) {
            const __m256i wide = _mm256_cvtepu16_epi32(load_halves(unit + 16 * v));
            w[v] = _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
        }
    }
};

struct LoadQ8 {
    static constexpr bool kScaled = true;
    static constexpr int64_t kUnitBytes = 34;
    static void load(const std::byte* unit, __m256 (&w)[4]) noexcept {
        for (int v = 0; v < 4; ++v) {
            const auto* q = reinterpret_cast<const __m128i*>(unit + 2 + 8 * v);
            w[v] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(q)));
        }
    }
    static __m256 scale(const std::byte* unit) noexcept {
        int16_t bits;
        std::memcpy(&bits, unit, sizeof(bits));
        return _mm256_cvtph_ps(_mm_set1_epi16(bits));
    }
};

constexpr StreamKernels kKernels{{stream_product<LoadF32>, stream_product<LoadF16>,
                                  stream_product<LoadBf16>, stream_product<LoadQ8>}};

}  // namespace

const StreamKernels& stream_kernels_avx2() noexcept { return kKernels; }

}  // namespace muster
