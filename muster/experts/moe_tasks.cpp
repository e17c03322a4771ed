// SPDX-License-Identifier: Apache-2.0
#include "muster/experts/moe_tasks.h"

#include <algorithm>
#include <cstring>

namespace muster {
namespace {

// Multiply-adds of elements in a task: about 40 microseconds of AVX-512, hundreds of times the cost
// of handing a task out, and small enough that others wait only briefly for a phase's last task.
constexpr int64_t kTaskWork = int64_t{4} << 20;

// More rows than this go to several tasks, each of which packs the panels again; packing costs
// about as much as eight rows of products.
constexpr int kRowChunk = 1024;
constexpr int64_t kPackRows = 8;

// A whole expert's worker finishes late by one expert at worst: at most this part of the call.
constexpr int64_t kWholePart = 8;

int64_t cost(const MoeContext& c, int e) noexcept {
    const int rows = c.plan.expert_rows(e);
    return rows == 0 ? 0 : (rows + kPackRows) * c.expert(e).width();
}

}  // namespace

void plan_experts(const MoeContext& c, int64_t stream_rows) {
    MoeWorkspace& ws = c.workspace;
    for (std::vector<int>* list : {&ws.whole, &ws.split, &ws.streamed}) list->clear();
    int64_t total = 0;
    for (int e = 0; e < c.bank.size(); ++e) total += cost(c, e);
    const int64_t limit = total / (kWholePart * c.executor.workers());
    for (int e = 0; e < c.bank.size(); ++e) {
        const int rows = c.plan.expert_rows(e);
        if (rows == 0) continue;
        if (rows <= stream_rows) {
            ws.streamed.push_back(e);
        } else {
            (cost(c, e) <= limit ? ws.whole : ws.split).push_back(e);
        }
    }
    std::stable_sort(ws.whole.begin(), ws.whole.end(),
                     [&](int a, int b) { return cost(c, a) > cost(c, b); });
}

void add_tasks(const MoeContext& c, int expert, int kind, int64_t k, int64_t cols) {
    const int begin = c.first_row(expert), end = begin + c.plan.expert_rows(expert);
    const int64_t nr = c.gemm.nr;
    const int64_t panels = (cols + nr - 1) / nr;
    for (int row = begin; row < end; row += kRowChunk) {
        const int row_last = std::min(end, row + kRowChunk);
        const int64_t work = (row_last - row + kPackRows) * k * nr;
        int64_t step = std::clamp<int64_t>(kTaskWork / work, 1, panels);
        const int64_t pieces = (panels + step - 1) / step;
        step = (panels + pieces - 1) / pieces;
        for (int64_t p = 0; p < panels; p += step) {
            c.workspace.tasks.push_back(
                {expert, kind, p * nr, std::min(cols, (p + step) * nr), row, row_last});
        }
    }
}

MoeTask whole_task(const MoeContext& c, int expert, int kind, int64_t cols) {
    const int first = c.first_row(expert);
    return {expert, kind, 0, cols, first, first + c.plan.expert_rows(expert)};
}

void gather_operand(const MoeContext& c, MatrixView<const float> source) {
    MoeWorkspace& ws = c.workspace;
    const float* data = source.data;
    int64_t stride = source.stride;
    const bool aliased = source.stride % 512 == 0;  // a multiple of 2 KB
    if (c.compute == Compute::bf16 || aliased) {
        stride = c.elements(source.cols) + 16;
        ws.operand.reserve(static_cast<size_t>(source.rows * stride));
        for_tokens(c.executor, static_cast<int>(source.rows), [&](int t) {
            float* row = ws.operand.data() + t * stride;
            if (c.compute == Compute::bf16) {
                c.gemm.round_row(source.row(t), source.cols, row);
            } else {
                std::memcpy(row, source.row(t), static_cast<size_t>(source.cols) * sizeof(float));
            }
        });
        data = ws.operand.data();
    }
    ws.operand_rows.reserve(c.plan.tokens.size());
    for (size_t r = 0; r < c.plan.tokens.size(); ++r) {
        ws.operand_rows[r] = data + c.plan.tokens[r] * stride;
    }
}

int64_t hidden_stride(const MoeContext& c, int expert) noexcept {
    return c.expert(expert).width() + 16;
}

int64_t hidden_size(const MoeContext& c, int expert, int arrays) noexcept {
    return arrays * hidden_stride(c, expert) * c.plan.expert_rows(expert);
}

void place_hidden(const MoeContext& c, int expert, int arrays, float* base) noexcept {
    const int begin = c.first_row(expert), end = begin + c.plan.expert_rows(expert);
    const int64_t stride = hidden_stride(c, expert);
    for (int array = 0; array < arrays; ++array) {
        for (int r = begin; r < end; ++r, base += stride) {
            c.workspace.hidden_rows[array][static_cast<size_t>(r)] = base;
        }
    }
}

int64_t place_split_hidden(const MoeContext& c, int arrays) {
    MoeWorkspace& ws = c.workspace;
    for (int array = 0; array < arrays; ++array) {
        ws.hidden_rows[array].reserve(c.plan.tokens.size());
    }
    int64_t size = 0, largest = 0;
    for (auto* list : {&ws.split, &ws.streamed}) {
        for (int e : *list) size += hidden_size(c, e, arrays);
    }
    for (int e : ws.whole) largest = std::max(largest, hidden_size(c, e, arrays));
    ws.hidden.reserve(static_cast<size_t>(size));
    float* base = ws.hidden.data();
    for (auto* list : {&ws.split, &ws.streamed}) {
        for (int e : *list) {
            place_hidden(c, e, arrays, base);
            base += hidden_size(c, e, arrays);
        }
    }
    return largest;
}

}  // namespace muster
