// SPDX-License-Identifier: Apache-2.0
// What moe_forward and moe_backward share: who works on which expert, operands, scratch.
//
// An expert that costs little beside the whole call is worked on by one worker from its first
// product to its last, so that what lies in between stays in that worker's cache (`whole`). The
// others are cut into tasks phase by phase (`split`). In the forward pass, experts with few rows
// are `streamed`: see kernels/matmul_stream.h.
//
// Where the packed weights of a whole expert fit into the second-level cache beside what else is
// in use, they are packed once and rows pass by them a chunk at a time (`resident`); otherwise
// groups of panels are packed in turn and all rows pass by each.
#pragma once

#include <cstdint>
#include <vector>

#include "muster/experts/expert_kernels.h"
#include "muster/experts/moe.h"
#include "muster/kernels/gemm.h"
#include "muster/kernels/gemm_pack.h"

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
    /// Elements of packed panels of a matrix with `cols` output columns and sums over k elements.
    int64_t packed(int64_t cols, int64_t k) const noexcept {
        return gemm.panels(cols) * gemm.nr * k;
    }
    /// Output columns of which a task keeps panels at once, `matrices` of them with sums over k
    /// elements: a quarter of a 1 MB second-level cache, at least one panel.
    int64_t group(int64_t k, int matrices) const noexcept;
    /// Whether all packed weights of the expert, in either direction, stay in the cache.
    bool resident(int e) const noexcept;
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

/// Fills workspace.operand_rows with operands for products by rows: each the source row of its
/// token itself, or a copy: rounded (bf16), or moved to a stride that does not map all rows to the
/// same cache sets.
void gather_operand(const MoeContext& context, MatrixView<const float> source);

/// Fetches the first `floats` floats of operand rows [first, last): the next row of tiles while the
/// current one runs. Inlined: g++ takes a function of nothing but prefetches for pure and drops
/// calls of it.
[[gnu::always_inline]] inline void prefetch_operand(const MoeWorkspace& ws, int64_t first,
                                                    int64_t last, int64_t floats) noexcept {
    for (int64_t r = first; r < last; ++r) {
        const float* row = ws.operand_rows[static_cast<size_t>(r)];
        for (int64_t i = 0; i < floats; i += 16) __builtin_prefetch(row + i);
    }
}

/// Values between rows of hidden_rows, one cache line more than they need: widths tend to be powers
/// of two.
int64_t hidden_stride(const MoeContext& context, int expert) noexcept;

/// Points hidden_rows[0 ... arrays) of rows [first, last) of the plan, all of one expert, into
/// `base`, which has arrays * hidden_stride(expert) * (last - first) floats.
void place_hidden(const MoeContext& context, int expert, int arrays, int first, int last,
                  float* base) noexcept;

/// Places the rows of split and streamed experts in workspace.hidden.
void place_shared_hidden(const MoeContext& context, int arrays);

/// y [d] (=|+=) sum of the token's rows of workspace.rows in the route table's order, times
/// `weights` (by activation), if any.
void combine_rows(const MoeContext& context, const ExpertKernels& kernels, const RouteTable& routes,
                  int token, const float* weights, float* y, bool accumulate) noexcept;

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
