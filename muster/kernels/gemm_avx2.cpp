// SPDX-License-Identifier: Apache-2.0
// clang-format off: the vectors come first
#include "muster/cpu/vec_avx2.h"
#include "muster/kernels/gemm_impl.h"
// clang-format on

namespace muster {
namespace {

// To nearest, ties to even; NaN stays NaN.
void round_row(const float* values, int64_t n, float* elements) noexcept {
    for (int64_t i = 0; i < n; i += 8) {
        const __m256 x = Vec::load_part(values + i, n - i);
        const __m256i bits = _mm256_castps_si256(x);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        __m256i rounded = _mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff));
        rounded = _mm256_add_epi32(rounded, odd);
        rounded = _mm256_and_si256(rounded, _mm256_set1_epi32(static_cast<int>(0xffff0000)));
        const __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
        Vec::store_part(elements + i, _mm256_blendv_ps(_mm256_castsi256_ps(rounded), x, nan),
                        n - i);
    }
}

GemmKernels make() noexcept {
    GemmKernels k;
    k.mr = 6;  // 12 accumulators, 2 of B and 1 of A: 15 of 16 registers
    k.nr = kNr;
    k.bf16_values = 1;
    fill_tiles<MultiplyF32, 1, 6>(k, Compute::f32);
    fill_tiles<MultiplyF32, 1, 6>(k, Compute::bf16);
    k.fence = fence;
    k.transpose = transpose_rows;
    k.round_row = round_row;
    k.pair_rows = nullptr;
    k.copy_row = copy_row;
    return k;
}

}  // namespace

const GemmKernels& gemm_kernels_avx2() noexcept {
    static const GemmKernels kernels = make();
    return kernels;
}

}  // namespace muster
