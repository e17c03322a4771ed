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

// Costliest first, the workers finish at most one small expert apart as long as none takes more
// than this part of its worker's share. Without resident weights there is less to gain.
constexpr int64_t kWholePart = 16;
constexpr int64_t kResidentPart = 4;

constexpr int64_t kGroupElements = int64_t{64} << 10;
constexpr int64_t kResidentElements = int64_t{112} << 10;

int64_t cost(const MoeContext& c, int e) noexcept {
    const int rows = c.plan.expert_rows(e);
    return rows == 0 ? 0 : (rows + kPackRows) * c.expert(e).width();
}

}  // namespace

int64_t MoeContext::group(int64_t k, int matrices) const noexcept {
    const int64_t panel = std::max<int64_t>(1, k * gemm.nr * matrices);
    return std::max<int64_t>(1, kGroupElements / panel) * gemm.nr;
}

bool MoeContext::resident(int e) const noexcept {
    const int64_t d = bank.d_model, ff = expert(e).width();
    const int64_t forward = matrices() * packed(ff, elements(d)) + packed(d, elements(ff));
    const int64_t backward = packed(ff, elements(d)) + matrices() * packed(d, elements(ff));
    return std::max(forward, backward) <= kResidentElements;
}

void plan_experts(const MoeContext& c, int64_t stream_rows) {
    MoeWorkspace& ws = c.workspace;
    for (std::vector<int>* list : {&ws.whole, &ws.split, &ws.streamed}) list->clear();
    int64_t total = 0;
    for (int e = 0; e < c.bank.size(); ++e) total += cost(c, e);
    const int64_t share = total / c.executor.workers();
    for (int e = 0; e < c.bank.size(); ++e) {
        const int rows = c.plan.expert_rows(e);
        if (rows == 0) continue;
        if (rows <= stream_rows) {
            ws.streamed.push_back(e);
        } else {
            const int64_t part = c.resident(e) ? kResidentPart : kWholePart;
            (cost(c, e) <= share / part ? ws.whole : ws.split).push_back(e);
        }
    }
    std::sort(ws.whole.begin(), ws.whole.end(), [&](int a, int b) {
        return cost(c, a) != cost(c, b) ? cost(c, a) > cost(c, b) : a < b;
    });
}

void add_tasks(const MoeContext& c, int expert, int kind, int64_t k, int64_t cols) {
    const int begin = c.first_row(expert), end = begin + c.plan.expert_rows(expert);
    const int64_t nr = c.gemm.nr;
    const int64_t panels = c.gemm.panels(cols);
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

void place_hidden(const MoeContext& c, int expert, int arrays, int first, int last,
                  float* base) noexcept {
    const int64_t stride = hidden_stride(c, expert);
    for (int array = 0; array < arrays; ++array) {
        for (int r = first; r < last; ++r, base += stride) {
            c.workspace.hidden_rows[array][static_cast<size_t>(r)] = base;
        }
    }
}

void place_shared_hidden(const MoeContext& c, int arrays) {
    MoeWorkspace& ws = c.workspace;
    for (int array = 0; array < arrays; ++array) {
        ws.hidden_rows[array].reserve(c.plan.tokens.size());
    }
    const auto size = [&](int e) { return arrays * hidden_stride(c, e) * c.plan.expert_rows(e); };
    int64_t total = 0;
    for (const std::vector<int>* list : {&ws.split, &ws.streamed}) {
        for (int e : *list) total += size(e);
    }
    ws.hidden.reserve(static_cast<size_t>(total));
    float* base = ws.hidden.data();
    for (const std::vector<int>* list : {&ws.split, &ws.streamed}) {
        for (int e : *list) {
            const int first = c.first_row(e);
            place_hidden(c, e, arrays, first, first + c.plan.expert_rows(e), base);
            base += size(e);
        }
    }
}

void combine_rows(const MoeContext& c, const ExpertKernels& kernels, const RouteTable& routes,
                  int token, const float* weights, float* y, bool accumulate) noexcept {
    constexpr int kStep = 16;  // rows at a time, for tokens with many experts
    const float* rows[kStep];
    WeightedSum sum;
    sum.rows = rows;
    sum.y = y;
    sum.n = c.bank.d_model;
    sum.accumulate = accumulate;
    const int end = routes.offsets[static_cast<size_t>(token) + 1];
    if (token + 2 <= routes.tokens()) {  // the next token's rows: they may lie anywhere
        for (int b = end; b < routes.offsets[static_cast<size_t>(token) + 2]; ++b) {
            const int64_t row = c.plan.row_of[static_cast<size_t>(b)];
            const float* values = c.workspace.rows.data() + row * c.bank.d_model;
            for (int64_t j = 0; j < c.bank.d_model; j += 16) __builtin_prefetch(values + j);
        }
    }
    int a = routes.offsets[static_cast<size_t>(token)];
    do {
        sum.count = std::min(kStep, end - a);
        for (int i = 0; i < sum.count; ++i) {
            const int64_t row = c.plan.row_of[static_cast<size_t>(a) + static_cast<size_t>(i)];
            rows[i] = c.workspace.rows.data() + row * c.bank.d_model;
        }
        sum.weights = weights != nullptr ? weights + a : nullptr;
        kernels.weighted_sum(sum);
        sum.accumulate = true;
        a += sum.count;
    } while (a < end);
}

}  // namespace muster
