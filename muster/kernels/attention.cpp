// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/attention.h"

#include <algorithm>
#include <cmath>

#include "muster/core/error.h"
#include "muster/kernels/attention_kernels.h"

namespace muster {
namespace {

/// One query vector against the first `length` positions: the reference. `sum` [head_dim].
void attend(const float* q, const KvView& kv, int64_t length, const AttentionBlock& block,
            float* sum, float* y) noexcept {
    const int dim = block.head_dim;
    float top = -INFINITY;
    double total = 0;
    std::fill_n(sum, dim, 0.0f);
    for (int64_t j = 0; j < length; ++j) {
        const float* k = kv.keys + j * kv.stride;
        const float* v = kv.values + j * kv.stride;
        double dot = 0;
        for (int i = 0; i < dim; ++i) dot += static_cast<double>(q[i]) * k[i];
        const auto score = static_cast<float>(dot * block.scale);
        if (score > top) {
            const float shrink = std::exp(top - score);  // exp(-inf) = 0 at the first position
            total *= shrink;
            for (int i = 0; i < dim; ++i) sum[i] *= shrink;
            top = score;
        }
        const float weight = std::exp(score - top);
        total += weight;
        for (int i = 0; i < dim; ++i) sum[i] += weight * v[i];
    }
    for (int i = 0; i < dim; ++i) y[i] = static_cast<float>(sum[i] / total);
}

void attention_reference(const AttentionBlock& block) noexcept {
    for (int64_t r = 0; r < block.rows; ++r) {
        for (int g = 0; g < block.group; ++g) {
            attend(block.q + r * block.q_stride + g * block.head_dim, block.kv,
                   block.position + r + 1, block, block.scratch,
                   block.y + r * block.y_stride + g * block.head_dim);
        }
    }
}

/// How a run is cut into blocks of rows.
struct Cut {
    int group;
    int64_t rows;  ///< of a block
    int64_t blocks(const AttentionRun& run) const { return (run.count + rows - 1) / rows; }
};

struct AttentionCall {
    MatrixView<const float> q;
    MatrixView<float> y;
    std::span<const AttentionRun> runs;
    AttentionShape shape;
    Cut cut;
};

/// The block of one task. Tasks go through runs, then K/V heads, then blocks, latest rows first:
/// they are the longest.
AttentionBlock block_of_task(int64_t task, const AttentionCall& call) {
    const auto& [q, y, runs, shape, cut] = call;
    size_t r = 0;
    while (task >= cut.blocks(runs[r]) * shape.kv_heads) {
        task -= cut.blocks(runs[r]) * shape.kv_heads;
        ++r;
    }
    const AttentionRun& run = runs[r];
    const int64_t block = cut.blocks(run) - 1 - task / shape.kv_heads;
    const int64_t head = task % shape.kv_heads;
    const int64_t first = block * cut.rows;
    AttentionBlock b;
    b.kv = run.kv;
    b.kv.keys += head * run.kv.head_stride;
    b.kv.values += head * run.kv.head_stride;
    const int64_t column = head * cut.group * shape.head_dim;
    b.q = q.row(run.first + first) + column;
    b.q_stride = q.stride;
    b.y = y.row(run.first + first) + column;
    b.y_stride = y.stride;
    b.rows = std::min(cut.rows, run.count - first);
    b.group = cut.group;
    b.position = run.position + first;
    b.head_dim = shape.head_dim;
    b.scale = shape.scale;
    return b;
}

void check(MatrixView<const float> q, std::span<const AttentionRun> runs,
           const AttentionShape& shape, MatrixView<float> y) {
    MUSTER_ASSERT(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0 && shape.head_dim > 0);
    MUSTER_ASSERT(q.cols == int64_t{shape.heads} * shape.head_dim && y.cols == q.cols);
    MUSTER_ASSERT(q.rows == y.rows);
    for (const AttentionRun& run : runs) {
        MUSTER_ASSERT(run.first >= 0 && run.count >= 0 && run.first + run.count <= q.rows);
        MUSTER_ASSERT(run.position >= 0);
    }
}

}  // namespace

AttentionFn attention_kernel(Isa isa) noexcept {
#if MUSTER_X86
    if (isa >= Isa::avx512) return attention_kernel_avx512();
    if (isa == Isa::avx2) return attention_kernel_avx2();
#endif
    (void)isa;
    return attention_reference;
}

void attention(MatrixView<const float> q, std::span<const AttentionRun> runs,
               const AttentionShape& shape, MatrixView<float> y, AttentionWorkspace& workspace,
               Executor& executor) {
    check(q, runs, shape, y);
    const int group = shape.heads / shape.kv_heads;
    const Cut cut{group, std::max<int64_t>(1, kAttentionQueries / group)};
    const AttentionCall call{q, y, runs, shape, cut};
    int64_t tasks = 0;
    for (const AttentionRun& run : runs) tasks += cut.blocks(run) * shape.kv_heads;
    const int64_t scratch = attention_scratch(cut.rows * group, shape.head_dim);
    workspace.floats.reserve(scratch * executor.workers());
    const AttentionFn kernel = attention_kernel(current_isa());
    executor.run(static_cast<int>(tasks), [&](int task, int worker) {
        AttentionBlock b = block_of_task(task, call);
        b.scratch = workspace.floats.data() + worker * scratch;
        kernel(b);
    });
}

}  // namespace muster
