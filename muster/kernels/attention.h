// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "muster/core/buffer.h"
#include "muster/core/executor.h"
#include "muster/core/tensor_view.h"

namespace muster {

/// Keys and values of one sequence in one layer: K/V head h at position t starts at
/// h * head_stride + t * stride. Positions that lie side by side (stride == head_dim) read fastest.
struct KvView {
    const float* keys = nullptr;
    const float* values = nullptr;
    int64_t stride = 0;
    int64_t head_stride = 0;
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
    int kv_heads = 0;  ///< divides heads; query head h reads K/V head h / (heads / kv_heads)
    int head_dim = 0;
    float scale = 0;  ///< of the scores, usually 1 / sqrt(head_dim)
};

/// Scratch memory of attention(), grown on demand and reused. One per caller.
struct AttentionWorkspace {
    Buffer<float> floats;
};

/// y = softmax(scale * q k^T) v, causal, grouped heads (arXiv 2305.13245); q, y: [T, heads *
/// head_dim], rows that belong to no run are not touched. The softmax runs online over tiles of
/// positions (arXiv 1805.02867, 2205.14135): memory does not grow with the context. Results do not
/// depend on the number of workers. Shapes are asserted.
void attention(MatrixView<const float> q, std::span<const AttentionRun> runs,
               const AttentionShape& shape, MatrixView<float> y, AttentionWorkspace& workspace,
               Executor& executor);

}  // namespace muster
