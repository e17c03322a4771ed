// SPDX-License-Identifier: Apache-2.0
// clang-format off: the vectors come first
#include "muster/cpu/vec_avx512.h"
namespace {
// Rows of w at once, beside 1, 2 or 4 rows of x: at least eight independent sums.
constexpr int kStreamRows1 = 4, kStreamRows2 = 4, kStreamRows4 = 2;
}  // namespace
#include "muster/kernels/matmul_stream_impl.h"
// clang-format on

namespace muster {
namespace {

__m256i load_halves(const std::byte* p) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

struct LoadF16 {
    static constexpr bool kScaled = false;
    static constexpr int64_t kUnitBytes = kUnit * 2;
    static void load(const std::byte* unit, __m512 (&w)[2]) noexcept {
        w[0] = _mm512_cvtph_ps(load_halves(unit));
        w[1] = _mm512_cvtph_ps(load_halves(unit + 32));
    }
};

struct LoadBf16 {
    static constexpr bool kScaled = false;
    static constexpr int64_t kUnitBytes = kUnit * 2;
    static void load(const std::byte* unit, __m512 (&w)[2]) noexcept {
        for (int v = 0; v < 2; ++v) {
            const __m512i wide = _mm512_cvtepu16_epi32(load_halves(unit + 32 * v));
            w[v] = _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
        }
    }
};

struct LoadQ8 {
    static constexpr bool kScaled = true;
    static constexpr int64_t kUnitBytes = 34;
    static void load(const std::byte* unit, __m512 (&w)[2]) noexcept {
        for (int v = 0; v < 2; ++v) {
            const auto* q = reinterpret_cast<const __m128i*>(unit + 2 + 16 * v);
            w[v] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(q)));
        }
    }
    static __m512 scale(const std::byte* unit) noexcept {
        int16_t bits;
        std::memcpy(&bits, unit, sizeof(bits));
        return _mm512_cvtph_ps(_mm256_set1_epi16(bits));
    }
};

constexpr StreamKernels kKernels{{stream_product<LoadF32>, stream_product<LoadF16>,
                                  stream_product<LoadBf16>, stream_product<LoadQ8>}};

}  // namespace

const StreamKernels& stream_kernels_avx512() noexcept { return kKernels; }

}  // namespace muster
