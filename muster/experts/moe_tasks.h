// SPDX-License-Identifier: Apache-2.0
// What moe_forward and moe_backward share: who works on which expert, operands, scratch.
//
// An expert that costs little beside the whole call is worked on by one worker from its first
// product to its last, so that everything in between stays in that worker's cache (`whole`). The
// others are cut into tasks phase by phase (`split`). Both give the same bits. In the forward pass,
// experts with few rows are `streamed`: see kernels/matmul_stream.h.
#pragma once

#include <cstdint>
#include <vector>

#include "muster/experts/moe.h"
#include "muster/kernels/gemm.h"

namespace muster {

/// Everything a phase needs to know, fixed for one call.
struct MoeContext {
    const ExpertBank& bank;
    const DispatchPlan& plan;
    MoeWorkspace& workspace;
    Executor& executor;
    Compute compute;
    Isa isa;
    const GemmKernels& gemm;

    int64_t elements(int64_t values) const noexcept { return gemm.elements(compute, values); }
    const Expert& expert(int e) const noexcept { return bank.experts[static_cast<size_t>(e)]; }
    int first_row(int e) const noexcept { return plan.expert_offsets[static_cast<size_t>(e)]; }
    int matrices() const noexcept { return bank.gated ? 2 : 1; }  ///< from x to the hidden layer
};

/// Sorts the experts that have rows into workspace.streamed (those with at most `stream_rows`),
/// whole (costliest first) and split.
void plan_experts(const MoeContext& context, int64_t stream_rows);

/// Appends tasks that cut [0, cols) into ranges of whole panels and the rows of expert e into
/// chunks, each about equally costly. `k`: elements of the sums, over all matrices.
void add_tasks(const MoeContext& context, int expert, int kind, int64_t k, int64_t cols);

/// The task of doing all of an expert.
MoeTask whole_task(const MoeContext& context, int expert, int kind, int64_t cols);

/// Runs f(task, worker's scratch of `floats` floats) for all of workspace.tasks.
template <typename F>
void run_tasks(const MoeContext& context, int64_t floats, F f) {
    constexpr int64_t kLine = 16;
    MoeWorkspace& ws = context.workspace;
    const int64_t size = (floats + kLine - 1) / kLine * kLine;
    ws.scratch.reserve(static_cast<size_t>(size * context.executor.workers()));
    context.executor.run(static_cast<int>(ws.tasks.size()), [&](int task, int worker) {
        f(ws.tasks[static_cast<size_t>(task)], ws.scratch.data() + worker * size);
    });
}

/// Fills workspace.operand_rows with operands for by_rows products: each the source row of its
/// token itself, or a copy: rounded (bf16), or moved to a stride that does not map all rows to the
/// same cache sets.
void gather_operand(const MoeContext& context, MatrixView<const float> source);

/// Rows of hidden_rows[0 ... arrays) of an expert lie hidden_stride(e) floats apart, one cache line
/// more than they need: widths tend to be powers of two.
int64_t hidden_stride(const MoeContext& context, int expert) noexcept;
int64_t hidden_size(const MoeContext& context, int expert, int arrays) noexcept;
void place_hidden(const MoeContext& context, int expert, int arrays, float* base) noexcept;

/// Places the rows of split experts in workspace.hidden and returns the scratch that those of the
/// largest whole expert need.
int64_t place_split_hidden(const MoeContext& context, int arrays);

/// Runs body(token) for all tokens, in chunks.
template <typename Body>
void for_tokens(Executor& executor, int tokens, Body body) {
    constexpr int kChunk = 32;
    executor.run((tokens + kChunk - 1) / kChunk, [&](int task, int) {
        const int end = tokens < (task + 1) * kChunk ? tokens : (task + 1) * kChunk;
        for (int t = task * kChunk; t < end; ++t) body(t);
    });
}

}  // namespace muster
