// SPDX-License-Identifier: Apache-2.0
// clang-format off: the vectors come first
#include "muster/cpu/vec_avx512.h"
#include "muster/kernels/gemm_impl.h"
// clang-format on

namespace muster {
namespace {

struct MultiplyBf16 {
    static Vec::F apply(Vec::F a, Vec::F b, Vec::F c) noexcept {
#if defined(__clang__)
        // clang 16 crashes when it folds a broadcast from memory into the dot product.
        __asm__("" : "+v"(a));
#endif
        return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    }
};

void round_row(const float* values, int64_t n, float* elements) noexcept {
    for (int64_t i = 0; i < n; i += 32) {
        const __m512 low = Vec::load_part(values + i, n - i);
        const __m512 high = n - i > 16 ? Vec::load_part(values + i + 16, n - i - 16) : Vec::zero();
        const __m512 pairs = reinterpret_cast<__m512>(_mm512_cvtne2ps_pbh(high, low));
        Vec::store_part(elements + i / 2, pairs, (n - i + 1) / 2);
    }
}

void pair_rows(const float* first, const float* second, int64_t n, float* elements,
               int64_t stride) noexcept {
    // cvtne2ps leaves `first` in the low sixteen halves; interleave them with the high sixteen.
    alignas(64) static constexpr uint16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                        21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                        11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i order = _mm512_load_si512(kOrder);
    for (int64_t i = 0; i < n; i += 16) {
        const __m512 low = Vec::load_part(first + i, n - i);
        const __m512 high = second != nullptr ? Vec::load_part(second + i, n - i) : Vec::zero();
        const __m512i halves = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
        const __m512i pairs = _mm512_permutexvar_epi16(order, halves);
        Vec::store_part(elements, _mm512_castsi512_ps(pairs), n - i);
        elements += i % kNr == 0 ? 16 : stride - 16;
    }
}

GemmKernels make() noexcept {
    GemmKernels k;
    k.mr = 14;  // 28 accumulators, 2 of B and 1 of A: 31 of 32 registers
    k.nr = kNr;
    k.bf16_values = 2;
    fill_tiles<MultiplyF32, 1, 14>(k, Compute::f32);
    fill_tiles<MultiplyBf16, 1, 14>(k, Compute::bf16);
    k.fence = fence;
    k.transpose = transpose_rows;
    k.round_row = round_row;
    k.pair_rows = pair_rows;
    k.copy_row = copy_row;
    return k;
}

}  // namespace

const GemmKernels& gemm_kernels_avx512() noexcept {
    static const GemmKernels kernels = make();
    return kernels;
}

}  // namespace muster
