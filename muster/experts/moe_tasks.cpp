// SPDX-License-Identifier: Apache-2.0
#include "muster/experts/moe_tasks.h"

#include <algorithm>
#include <cstring>

namespace muster {
namespace {

// Multiply-adds of a task: about 20 microseconds of AVX-512, a hundred times the cost of handing a
// task out, and small enough that the last task of a phase leaves others waiting only briefly.
constexpr int64_t kTaskWork = int64_t{2} << 20;

// Elements of B that a task keeps packed: half of a 1 MB second-level cache.
constexpr int64_t kTaskElements = int64_t{128} << 10;

// More rows than this go to several tasks, each of which packs the panel again; packing costs about
// as much as four rows of products.
constexpr int kRowChunk = 1024;

}  // namespace

void add_tasks(const MoeContext& context, int expert, int kind, int64_t k, int64_t cols,
               int panels_per_column, std::vector<MoeTask>& tasks) {
    const int begin = context.plan.expert_offsets[static_cast<size_t>(expert)];
    const int end = context.plan.expert_offsets[static_cast<size_t>(expert) + 1];
    const int64_t nr = context.gemm.nr;
    const int64_t panels = (cols + nr - 1) / nr;
    for (int row = begin; row < end; row += kRowChunk) {
        const int row_last = std::min(end, row + kRowChunk);
        const int64_t work = (row_last - row) * k * nr * panels_per_column;
        const int64_t elements = k * nr * panels_per_column;
        int64_t step = std::max<int64_t>(1, kTaskWork / std::max<int64_t>(1, work));
        step = std::min(step, std::max<int64_t>(1, kTaskElements / elements));
        const int64_t pieces = (panels + step - 1) / step;
        step = (panels + pieces - 1) / pieces;
        for (int64_t p = 0; p < panels; p += step) {
            tasks.push_back({expert, kind, p * nr, std::min(cols, (p + step) * nr), row, row_last});
        }
    }
}

int64_t reserve_scratch(MoeWorkspace& workspace, const Executor& executor, int64_t floats) {
    constexpr int64_t kLine = 16;
    const int64_t size = (floats + kLine - 1) / kLine * kLine;
    workspace.scratch.reserve(static_cast<size_t>(size * executor.workers()));
    return size;
}

void gather_operand(const MoeContext& context, MatrixView<const float> source,
                    Buffer<float>& storage, Buffer<const float*>& rows) {
    const DispatchPlan& plan = context.plan;
    const float* data = source.data;
    int64_t stride = source.stride;
    const bool aliased = source.stride % 512 == 0;  // a multiple of 2 KB
    if (context.compute == Compute::bf16 || aliased) {
        stride = context.elements(source.cols) + 16;
        storage.reserve(static_cast<size_t>(source.rows * stride));
        for_tokens(context.executor, static_cast<int>(source.rows), [&](int t) {
            float* row = storage.data() + t * stride;
            if (context.compute == Compute::bf16) {
                context.gemm.round_row(source.row(t), source.cols, row);
            } else {
                std::memcpy(row, source.row(t), static_cast<size_t>(source.cols) * sizeof(float));
            }
        });
        data = storage.data();
    }
    rows.reserve(plan.tokens.size());
    for (size_t r = 0; r < plan.tokens.size(); ++r) rows[r] = data + plan.tokens[r] * stride;
}

}  // namespace muster
