// SPDX-License-Identifier: Apache-2.0
// The part of attention() that runs on one worker, per instruction set. Internal to kernels/.
#pragma once

#include <cstdint>

#include "muster/cpu/isa.h"
#include "muster/kernels/attention.h"

namespace muster {

constexpr int kAttentionTile = 64;      ///< positions per step of the online softmax
constexpr int kAttentionQueries = 128;  ///< query vectors per block, unless one row has more

/// Row lengths in scratch memory are rounded up to whole vectors.
constexpr int64_t attention_padded(int64_t dim) noexcept { return (dim + 15) / 16 * 16; }

/// What a range of positions adds to each query vector: `outputs` [queries][padded value_dim] =
/// sum of exp(score - top) * value, `sum` [queries] of exp(score - top), `top` [queries] the
/// largest score; -infinity, with zeros, for a query that sees nothing of the range.
struct AttentionPart {
    float* outputs = nullptr;
    float* top = nullptr;
    float* sum = nullptr;

    static constexpr int64_t floats(int64_t queries, int64_t value_dim) noexcept {
        return queries * attention_padded(value_dim) + 2 * attention_padded(queries);
    }
    static AttentionPart at(float* memory, int64_t queries, int64_t value_dim) noexcept {
        float* top = memory + queries * attention_padded(value_dim);
        return {memory, top, top + attention_padded(queries)};
    }
};

/// A few consecutive query rows of one sequence against a range of positions of one K/V head:
/// rows * group query vectors, those of a row side by side in q.
struct AttentionBlock {
    KvView kv;                 ///< at this K/V head
    const float* q = nullptr;  ///< first row, first head of the group
    int64_t q_stride = 0;
    int64_t rows = 0;
    int group = 1;         ///< query heads per K/V head
    int64_t position = 0;  ///< of the first row
    int64_t begin = 0;     ///< the range, a multiple of the tile
    int64_t end = 0;       ///< at most position + rows
    int head_dim = 0;
    int value_dim = 0;
    float scale = 1;
    float softcap = 0;
    int64_t window = 0;
    float* scratch = nullptr;  ///< attention_scratch() floats, aligned to 64 bytes
    AttentionPart part;        ///< the result

    int64_t queries() const noexcept { return rows * group; }
    const float* query(int64_t i) const noexcept {
        return q + i / group * q_stride + i % group * head_dim;
    }
    const std::byte* key(int64_t t) const noexcept { return kv.keys + t * kv.key_stride; }
    const std::byte* value(int64_t t) const noexcept { return kv.values + t * kv.value_stride; }
    /// Query i sees the positions [first_seen(i), last_seen(i)].
    int64_t last_seen(int64_t i) const noexcept { return position + i / group; }
    int64_t first_seen(int64_t i) const noexcept {
        const int64_t first = window > 0 ? last_seen(i) - window + 1 : 0;
        return first > 0 ? first : 0;
    }
};

/// Floats of scratch for blocks of `queries` vectors: a tile of keys and of values in the form that
/// products want, scores, and one factor per query.
constexpr int64_t attention_scratch(int64_t queries, int64_t head_dim, int64_t value_dim) noexcept {
    const int64_t dims = attention_padded(head_dim) + attention_padded(value_dim);
    return dims * kAttentionTile + queries * kAttentionTile + attention_padded(queries);
}

using AttentionFn = void (*)(const AttentionBlock& block) noexcept;

AttentionFn attention_kernel(Isa isa) noexcept;
void attention_reference(const AttentionBlock& block) noexcept;
#if MUSTER_X86
AttentionFn attention_kernel_avx2() noexcept;
AttentionFn attention_kernel_avx512() noexcept;
#endif

}  // namespace muster
