// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/attention.h"

#include <algorithm>
#include <cmath>

#include "muster/core/error.h"
#include "muster/kernels/attention_kernels.h"

namespace muster {
namespace {

constexpr int64_t kRange = 512;     // positions of a range, at least
constexpr int64_t kMaxRanges = 16;  // of a block: bounds the memory of parts

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/// How a run is cut: into blocks of rows, or, when one block holds it, into ranges of positions.
/// It depends on shapes alone, so that results do not depend on the number of workers.
struct Cut {
    int64_t rows;    ///< of a block
    int64_t blocks;  ///< per K/V head
    int64_t begin;   ///< first position that the run's first row sees, down to a whole tile
    int64_t range;   ///< positions of a range
    int64_t ranges;  ///< per block
    int64_t parts;   ///< floats before this run's parts in the workspace

    int64_t tasks(int kv_heads) const { return blocks * kv_heads * ranges; }
};

Cut cut_of(const AttentionRun& run, const AttentionShape& shape) {
    const int group = shape.heads / shape.kv_heads;
    Cut cut{};
    cut.rows = std::max<int64_t>(1, kAttentionQueries / group);
    cut.blocks = (run.count + cut.rows - 1) / cut.rows;
    const int64_t end = run.position + run.count;
    const int64_t seen =
        shape.window > 0 ? std::max<int64_t>(0, run.position - shape.window + 1) : 0;
    cut.begin = seen / kAttentionTile * kAttentionTile;
    const int64_t length = end - cut.begin;
    cut.range = std::max(kRange, round_up((length + kMaxRanges - 1) / kMaxRanges, kAttentionTile));
    cut.ranges = cut.blocks == 1 ? (length + cut.range - 1) / cut.range : 1;
    return cut;
}

struct AttentionCall {
    MatrixView<const float> q;
    MatrixView<float> y;
    std::span<const AttentionRun> runs;
    AttentionShape shape;
    AttentionWorkspace& workspace;
    int64_t scratch;  ///< floats of a worker

    int group() const { return shape.heads / shape.kv_heads; }
    int64_t part_floats(const AttentionRun& run) const {
        return AttentionPart::floats(run.count * group(), shape.values());
    }
    /// Part of a run that is cut into ranges.
    AttentionPart part(const AttentionRun& run, const Cut& cut, int64_t head, int64_t range) const {
        const int64_t at = cut.parts + (head * cut.ranges + range) * part_floats(run);
        return AttentionPart::at(workspace.parts.data() + at, run.count * group(), shape.values());
    }
};

/// Where a task works.
struct Place {
    size_t run = 0;
    Cut cut{};
    int64_t head = 0;
    int64_t first = 0;  ///< row of the run
    int64_t rows = 0;
    int64_t range = 0;
};

/// Tasks go through runs, then blocks, latest rows first (they are the longest), then K/V heads,
/// then ranges.
Place place_of(int64_t task, const AttentionCall& call) {
    Place p;
    int64_t parts = 0;
    for (;; ++p.run) {
        p.cut = cut_of(call.runs[p.run], call.shape);
        p.cut.parts = parts;
        const int64_t tasks = p.cut.tasks(call.shape.kv_heads);
        if (task < tasks) break;
        task -= tasks;
        if (p.cut.ranges > 1) parts += tasks * call.part_floats(call.runs[p.run]);
    }
    p.range = task % p.cut.ranges;
    task /= p.cut.ranges;
    p.head = task % call.shape.kv_heads;
    p.first = (p.cut.blocks - 1 - task / call.shape.kv_heads) * p.cut.rows;
    p.rows = std::min(p.cut.rows, call.runs[p.run].count - p.first);
    return p;
}

AttentionBlock block_at(const Place& p, const AttentionCall& call) {
    const auto& [q, y, runs, shape, workspace, scratch] = call;
    const AttentionRun& run = runs[p.run];
    AttentionBlock b;
    b.kv = run.kv;
    b.kv.keys += p.head * run.kv.key_head_stride;
    b.kv.values += p.head * run.kv.value_head_stride;
    b.q = q.row(run.first + p.first) + p.head * call.group() * shape.head_dim;
    b.q_stride = q.stride;
    b.rows = p.rows;
    b.group = call.group();
    b.position = run.position + p.first;
    b.head_dim = shape.head_dim;
    b.value_dim = shape.values();
    b.scale = shape.scale;
    b.softcap = shape.softcap;
    b.window = shape.window;
    const int64_t end = b.position + b.rows;
    if (p.cut.ranges > 1) {
        b.begin = p.cut.begin + p.range * p.cut.range;
        b.end = std::min(end, b.begin + p.cut.range);
    } else {
        b.begin = b.first_seen(0) / kAttentionTile * kAttentionTile;
        b.end = end;
    }
    return b;
}

/// y of query vector `i` of a block at `p` from its parts, merged in the order of positions.
/// With m the largest of the tops and the sink, y = sum of e^(top - m) outputs / (sum of
/// e^(top - m) sum + e^(sink - m)).
void finish(const AttentionCall& call, const Place& p, std::span<const AttentionPart> parts,
            int64_t i) {
    const int64_t head = p.head * call.group() + i % call.group();
    const int dim = call.shape.values();
    const float* sinks = call.shape.sinks;
    float top = sinks != nullptr ? sinks[head] : -INFINITY;
    for (const AttentionPart& part : parts) top = std::max(top, part.top[i]);
    float total = sinks != nullptr ? std::exp(sinks[head] - top) : 0.0f;
    for (const AttentionPart& part : parts) total += part.sum[i] * std::exp(part.top[i] - top);
    const AttentionRun& run = call.runs[p.run];
    float* y = call.y.row(run.first + p.first + i / call.group()) + head * dim;
    for (size_t r = 0; r < parts.size(); ++r) {
        const float factor = std::exp(parts[r].top[i] - top) / total;
        const float* x = parts[r].outputs + i * attention_padded(dim);
        if (r == 0) {
            for (int d = 0; d < dim; ++d) y[d] = factor * x[d];
        } else {
            for (int d = 0; d < dim; ++d) y[d] += factor * x[d];
        }
    }
}

void check_format(const KvView& kv, const AttentionShape& shape) {
    const bool plain = kv.dtype == DType::f32 || kv.dtype == DType::f16;
    MUSTER_ASSERT(
        plain || (kv.dtype == DType::q8_0 && shape.head_dim % 32 == 0 && shape.values() % 32 == 0));
}

void check(MatrixView<const float> q, std::span<const AttentionRun> runs,
           const AttentionShape& shape, MatrixView<float> y) {
    MUSTER_ASSERT(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0 && shape.head_dim > 0);
    MUSTER_ASSERT(shape.value_dim >= 0 && shape.window >= 0 && shape.softcap >= 0);
    MUSTER_ASSERT(q.cols == int64_t{shape.heads} * shape.head_dim);
    MUSTER_ASSERT(y.cols == int64_t{shape.heads} * shape.values());
    MUSTER_ASSERT(q.rows == y.rows);
    for (const AttentionRun& run : runs) {
        MUSTER_ASSERT(run.first >= 0 && run.count >= 0 && run.first + run.count <= q.rows);
        MUSTER_ASSERT(run.position >= 0);
        check_format(run.kv, shape);
    }
}

/// Merges the parts of the runs that were cut into ranges.
void merge(const AttentionCall& call, Executor& executor) {
    const int heads = call.shape.kv_heads;
    const auto tasks = static_cast<int64_t>(call.runs.size()) * heads;
    executor.run(static_cast<int>(tasks), [&](int task, int) {
        Place p;
        int64_t parts = 0;
        for (; p.run < static_cast<size_t>(task / heads); ++p.run) {
            const Cut cut = cut_of(call.runs[p.run], call.shape);
            if (cut.ranges > 1) parts += cut.tasks(heads) * call.part_floats(call.runs[p.run]);
        }
        const AttentionRun& run = call.runs[p.run];
        p.cut = cut_of(run, call.shape);
        if (p.cut.ranges <= 1) return;
        p.cut.parts = parts;
        p.head = task % heads;
        AttentionPart ranges[kMaxRanges];
        for (int64_t r = 0; r < p.cut.ranges; ++r) ranges[r] = call.part(run, p.cut, p.head, r);
        const auto n = static_cast<size_t>(p.cut.ranges);
        for (int64_t i = 0; i < run.count * call.group(); ++i) finish(call, p, {ranges, n}, i);
    });
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
    int64_t tasks = 0, parts = 0, queries = 1;
    AttentionCall call{q, y, runs, shape, workspace, 0};
    for (const AttentionRun& run : runs) {
        const Cut cut = cut_of(run, shape);
        tasks += cut.tasks(shape.kv_heads);
        if (cut.ranges > 1) parts += cut.tasks(shape.kv_heads) * call.part_floats(run);
        queries = std::max(queries, std::min(run.count, cut.rows) * call.group());
    }
    const int64_t own = AttentionPart::floats(queries, shape.values());
    call.scratch = round_up(own + attention_scratch(queries, shape.head_dim, shape.values()), 16);
    workspace.floats.reserve(call.scratch * executor.workers());
    workspace.parts.reserve(parts);
    const AttentionFn kernel = attention_kernel(current_isa());
    executor.run(static_cast<int>(tasks), [&](int task, int worker) {
        const Place p = place_of(task, call);
        AttentionBlock b = block_at(p, call);
        float* memory = workspace.floats.data() + worker * call.scratch;
        b.scratch = memory + own;
        const bool whole = p.cut.ranges == 1;
        b.part = whole ? AttentionPart::at(memory, b.queries(), b.value_dim)
                       : call.part(runs[p.run], p.cut, p.head, p.range);
        kernel(b);
        if (whole)
            for (int64_t i = 0; i < b.queries(); ++i) finish(call, p, {&b.part, 1}, i);
    });
    if (parts > 0) merge(call, executor);
}

}  // namespace muster
