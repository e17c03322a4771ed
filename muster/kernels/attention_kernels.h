// SPDX-License-Identifier: Apache-2.0
// The part of attention() that runs on one worker, per instruction set. Internal to kernels/.
#pragma once

#include <cstdint>

#include "muster/cpu/isa.h"
#include "muster/kernels/attention.h"

namespace muster {

/// A few consecutive query rows of one sequence against one K/V head: rows * group query vectors.
struct AttentionBlock {
    KvView kv;                 ///< at this K/V head
    const float* q = nullptr;  ///< first row, first head of the group
    int64_t q_stride = 0;
    float* y = nullptr;
    int64_t y_stride = 0;
    int64_t rows = 0;
    int group = 1;         ///< query heads per K/V head, side by side in q and y
    int64_t position = 0;  ///< of the first row
    int head_dim = 0;
    float scale = 1;
    float* scratch = nullptr;  ///< attention_scratch() floats, aligned to 64 bytes
};

constexpr int kAttentionTile = 64;     ///< positions per step of the online softmax
constexpr int kAttentionQueries = 64;  ///< query vectors per block, unless one row has more

/// Floats of scratch for blocks of `queries` vectors: transposed keys, scores, outputs, and
/// maximum, sum and factor per query. Head dimensions are rounded up to whole vectors.
constexpr int64_t attention_scratch(int64_t queries, int64_t head_dim) noexcept {
    const int64_t padded = (head_dim + 15) / 16 * 16;
    return padded * kAttentionTile + queries * (kAttentionTile + padded) +
           (3 * queries + 15) / 16 * 16;
}

using AttentionFn = void (*)(const AttentionBlock& block) noexcept;

AttentionFn attention_kernel(Isa isa) noexcept;
#if MUSTER_X86
AttentionFn attention_kernel_avx2() noexcept;
AttentionFn attention_kernel_avx512() noexcept;
#endif

}  // namespace muster
