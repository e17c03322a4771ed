// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "muster/core/buffer.h"
#include "muster/core/dtype.h"
#include "muster/core/executor.h"
#include "muster/core/tensor_view.h"

namespace muster {

/// Keys and values of one sequence in one layer, in f32, f16 or q8_0 (dimensions in whole blocks).
/// Strides are in bytes: the key of K/V head h at position t starts at keys + h * key_head_stride +
/// t * key_stride; values likewise. Rows need no alignment; positions that lie side by side read
/// fastest. `values` may point into `keys` (multi-head latent attention, arXiv 2405.04434: the
/// values are the first value_dim numbers of the keys).
struct KvView {
    const std::byte* keys = nullptr;
    const std::byte* values = nullptr;
    int64_t key_stride = 0;
    int64_t value_stride = 0;
    int64_t key_head_stride = 0;
    int64_t value_head_stride = 0;
    DType dtype = DType::f32;
};

/// A run of query rows of one sequence at consecutive positions: row first + i stands at position
/// `position + i` and attends to the positions [0, position + i].
struct AttentionRun {
    KvView kv;
    int64_t first = 0;  ///< row of q and y
    int64_t count = 0;
    int64_t position = 0;
};

struct AttentionShape {
    int heads = 0;
    int kv_heads = 0;    ///< divides heads; query head h reads K/V head h / (heads / kv_heads)
    int head_dim = 0;    ///< of queries and keys
    float scale = 0;     ///< of the scores, usually 1 / sqrt(head_dim)
    int value_dim = 0;   ///< of values and outputs; 0: head_dim
    int64_t window = 0;  ///< 0: all; else position p sees only positions > p - window
    float softcap = 0;   ///< 0: none; else scores s become softcap * tanh(s / softcap)
    /// [heads] logits that join the denominator of their head's softmax and have no value
    /// (gpt-oss, arXiv 2508.10925); null: none.
    const float* sinks = nullptr;

    int values() const noexcept { return value_dim > 0 ? value_dim : head_dim; }
};

/// Scratch memory of attention(), grown on demand and reused. One per caller.
struct AttentionWorkspace {
    Buffer<float> floats;  ///< of the workers
    Buffer<float> parts;   ///< sums over ranges of positions that are merged at the end
};

/// y = softmax(scale * q k^T) v, causal, grouped heads (arXiv 2305.13245); q: [T, heads *
/// head_dim], y: [T, heads * values()]; rows that belong to no run are not touched. The softmax
/// runs online over tiles of positions (arXiv 1805.02867, 2205.14135): memory does not grow with
/// the context. Few queries over many positions are cut into ranges of positions, each a task, so
/// that one sequence keeps several workers busy. Results do not depend on the number of workers.
/// Everything is computed in f32. Shapes and formats
/// are asserted.
void attention(MatrixView<const float> q, std::span<const AttentionRun> runs,
               const AttentionShape& shape, MatrixView<float> y, AttentionWorkspace& workspace,
               Executor& executor);

}  // namespace muster
