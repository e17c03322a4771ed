// SPDX-License-Identifier: Apache-2.0
// What moe_forward and moe_backward share: cutting phases into tasks, and per-worker scratch.
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
};

/// Appends tasks that cut [0, cols) into ranges of whole panels and the rows of expert e into
/// chunks, each task worth about the same time. `k`: length of the sums; `panels_in_scratch`: how
/// many panels of k elements a task may keep at once per column panel.
void add_tasks(const MoeContext& context, int expert, int kind, int64_t k, int64_t cols,
               int panels_per_column, std::vector<MoeTask>& tasks);

/// Makes room for `floats` per worker (rounded up to cache lines); returns that size.
int64_t reserve_scratch(MoeWorkspace& workspace, const Executor& executor, int64_t floats);

/// Operand rows for by_rows products, one pointer per row of the plan: the source row of its token
/// itself, or a copy in `storage`: rounded (bf16), or moved to a stride that does not map all rows
/// to the same cache sets.
void gather_operand(const MoeContext& context, MatrixView<const float> source,
                    Buffer<float>& storage, Buffer<const float*>& rows);

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
