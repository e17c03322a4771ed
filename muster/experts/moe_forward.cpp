// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "muster/core/error.h"
#include "muster/experts/expert_kernels.h"
#include "muster/experts/moe.h"
#include "muster/experts/moe_quantized.h"
#include "muster/experts/moe_tasks.h"
#include "muster/kernels/matmul_stream.h"

namespace muster {
namespace {

enum Kind : int { kWhole, kHidden, kDown, kStreamHidden, kStreamDown };

constexpr int64_t kTile = kMaxTileRows * kMaxTileCols;

class Forward {
  public:
    Forward(const MoeContext& context, MoeSaved* saved)
        : c_(context),
          ws_(context.workspace),
          saved_(saved),
          kernels_(expert_kernels(c_.isa)),
          activate_(kernels_.forward[static_cast<size_t>(c_.bank.activation)]) {}

    void run(const RouteTable& routes, MatrixView<const float> x, MatrixView<float> y,
             bool accumulate) {
        x_ = x;
        plan_experts(c_, kStreamRows);
        if (saved_ != nullptr) place_saved();
        place_shared_hidden(c_, 1);
        if (ws_.whole.size() + ws_.split.size() > 0) gather_operand(c_, x);
        plan_scratch();

        const int64_t d = c_.bank.d_model;
        const int64_t k = c_.elements(d) * c_.matrices();
        int64_t streamed = 0;  // bytes of either phase, roughly
        for (int e : ws_.streamed) streamed += c_.expert(e).down.bytes();
        ws_.rows.reserve(c_.plan.tokens.size() * static_cast<size_t>(d));
        ws_.tasks.clear();
        for (int e : ws_.whole) ws_.tasks.push_back(whole_task(c_, e, kWhole, 0));
        for (int e : ws_.split) add_tasks(c_, e, kHidden, k, c_.expert(e).width());
        for (int e : ws_.streamed) add_stream_tasks(e, kStreamHidden, c_.expert(e).up, streamed);
        const auto run = [this](const MoeTask& t, float* scratch) { run_task(t, scratch); };
        run_tasks(c_, scratch_size_, run);
        ws_.tasks.clear();
        for (int e : ws_.split) add_tasks(c_, e, kDown, c_.elements(c_.expert(e).width()), d);
        for (int e : ws_.streamed) add_stream_tasks(e, kStreamDown, c_.expert(e).down, streamed);
        run_tasks(c_, scratch_hidden_, run);
        for_tokens(c_.executor, routes.tokens(), [&](int t) {
            combine_rows(c_, kernels_, routes, t, routes.weights.data(), y.row(t), accumulate);
        });
    }

  private:
    void place_saved() {
        saved_->row_offsets.clear();
        int64_t values = 0;
        for (int e = 0; e < c_.bank.size(); ++e) {
            for (int i = 0; i < c_.plan.expert_rows(e); ++i, values += c_.expert(e).width()) {
                saved_->row_offsets.push_back(values);
            }
        }
        saved_->row_offsets.push_back(values);
        saved_->up.reserve(static_cast<size_t>(values));
        if (c_.bank.gated) saved_->gate.reserve(static_cast<size_t>(values));
    }

    void plan_scratch() {
        const int64_t d = c_.bank.d_model;
        int64_t panels = 0, hidden = 0;
        for (const std::vector<int>* list : {&ws_.whole, &ws_.split}) {
            for (int e : *list) {
                const int64_t ff = c_.expert(e).width();
                const int64_t up = c_.matrices() * c_.elements(d), down = c_.elements(ff);
                panels = std::max({panels, c_.group(c_.elements(d), c_.matrices()) * up,
                                   c_.group(down, 1) * down});
                if (c_.resident(e)) {
                    panels = std::max(panels, c_.packed(ff, up) + c_.packed(d, down));
                }
            }
        }
        for (int e : ws_.whole) {
            hidden = std::max(hidden, hidden_stride(c_, e) * chunk_rows(e));
        }
        scratch_tiles_ = kPackScratch + panels;
        scratch_hidden_ = scratch_tiles_ + 2 * kTile;
        scratch_size_ = scratch_hidden_ + hidden;
    }

    // Rows that pass by the panels of a whole expert at once.
    int64_t chunk_rows(int e) const noexcept {
        constexpr int64_t kChunk = 16 * kMaxTileRows;
        const int64_t rows = c_.plan.expert_rows(e);
        return c_.resident(e) ? std::min(rows, kChunk) : rows;
    }

    void add_stream_tasks(int e, Kind kind, const WeightMatrix& w, int64_t total) {
        const int64_t step = stream_task_rows(w, total, c_.executor.workers());
        for (int64_t j = 0; j < w.rows; j += step) {
            MoeTask t = whole_task(c_, e, kind, std::min(w.rows, j + step));
            t.first = j;
            ws_.tasks.push_back(t);
        }
    }

    void run_task(const MoeTask& t, float* scratch) noexcept {
        switch (t.kind) {
            case kWhole:
                return whole(t, scratch);
            case kHidden:
                return hidden(t, nullptr, scratch);
            case kDown:
                return down(t, nullptr, scratch);
            case kStreamHidden:
                return stream_hidden(t);
            default:
                return stream_down(t);
        }
    }

    void whole(const MoeTask& task, float* scratch) noexcept {
        const int64_t d = c_.bank.d_model, ff = c_.expert(task.expert).width();
        Panels panels[3];
        const bool resident = c_.resident(task.expert);
        if (resident) pack_all(task.expert, panels, scratch);
        const int next = next_expert(task);
        const int chunk = static_cast<int>(chunk_rows(task.expert));
        for (int row = task.row_first; row < task.row_last; row += chunk) {
            MoeTask t = task;
            t.row_first = row;
            t.row_last = std::min(task.row_last, row + chunk);
            place_hidden(c_, t.expert, 1, t.row_first, t.row_last, scratch + scratch_hidden_);
            t.last = ff;
            hidden(t, resident ? panels : nullptr, scratch);
            t.last = d;
            down(t, resident ? panels + 2 : nullptr, scratch, next);
        }
    }

    // The expert that the worker of a whole expert probably does next, or -1.
    int next_expert(const MoeTask& task) const noexcept {
        const int64_t next = &task - ws_.tasks.data() + c_.executor.workers();
        if (next >= static_cast<int64_t>(ws_.tasks.size())) return -1;
        const MoeTask& t = ws_.tasks[static_cast<size_t>(next)];
        return t.kind == kWhole ? t.expert : -1;
    }

    // The first weights of another expert.
    Prefetch prefetch_first(int e, int64_t tiles, int64_t k) const noexcept {
        const Expert& expert = c_.expert(e);
        const int64_t d = c_.bank.d_model;
        const int64_t last = std::min(expert.width(), c_.group(c_.elements(d), c_.matrices()));
        const PackRange range{0, last, 0, d};
        if (!c_.bank.gated) return prefetch_rows(expert.up, range, tiles, k);
        Prefetch p = prefetch_rows(expert.up, range, tiles / 2, k);
        p.tiles *= 2;
        p.fold = 2;
        p.fold_step = expert.gate.data - expert.up.data;
        return p;
    }

    // All of up, gate and down, behind each other.
    void pack_all(int e, Panels* panels, float* scratch) noexcept {
        const Expert& expert = c_.expert(e);
        const WeightMatrix* weights[3] = {&expert.up, &expert.gate, &expert.down};
        float* out = scratch + kPackScratch;
        for (int i = 0; i < 3; ++i) {
            const WeightMatrix& w = *weights[i];
            if (w.empty()) continue;
            panels[i] =
                pack_rows(c_.gemm, c_.compute, c_.isa, w, {0, w.rows, 0, w.cols}, scratch, out);
            out += c_.packed(w.rows, c_.elements(w.cols));
        }
    }

    void stream_hidden(const MoeTask& t) noexcept {
        const Expert& expert = c_.expert(t.expert);
        float up[kStreamRows * kStreamTaskRows], gate[kStreamRows * kStreamTaskRows];
        const float* x[kStreamRows];
        const int64_t m = t.row_last - t.row_first;
        for (int64_t i = 0; i < m; ++i) {
            x[i] = x_.row(c_.plan.tokens[static_cast<size_t>(t.row_first + i)]);
        }
        const std::byte* gate_rows = c_.bank.gated ? expert.gate.row(t.first) : nullptr;
        stream(expert.up, t, x, up, kStreamTaskRows, gate_rows);
        add_bias(up, kStreamTaskRows, m, expert.up_bias, t.first, t.last);
        if (c_.bank.gated) {
            stream(expert.gate, t, x, gate, kStreamTaskRows, nullptr);
            add_bias(gate, kStreamTaskRows, m, expert.gate_bias, t.first, t.last);
        }
        for (int64_t i = 0; i < m; ++i) {
            activate_row(t.row_first + i, t.first, t.last - t.first,
                         c_.bank.gated ? gate + i * kStreamTaskRows : nullptr,
                         up + i * kStreamTaskRows,
                         ws_.hidden_rows[0][static_cast<size_t>(t.row_first + i)] + t.first);
        }
    }

    void stream_down(const MoeTask& t) noexcept {
        const Expert& expert = c_.expert(t.expert);
        const int64_t d = c_.bank.d_model;
        float* out = ws_.rows.data() + t.row_first * d + t.first;
        stream(expert.down, t, ws_.hidden_rows[0].data() + t.row_first, out, d, nullptr);
        add_bias(out, d, t.row_last - t.row_first, expert.down_bias, t.first, t.last);
    }

    // Rows [first, last) of w times all rows of the task.
    void stream(const WeightMatrix& w, const MoeTask& t, const float* const* x, float* out,
                int64_t ldo, const std::byte* next) const noexcept {
        stream_kernel(w.dtype, c_.isa)({w.row(t.first), w.row_bytes(), t.last - t.first, w.cols, x,
                                        t.row_last - t.row_first, out, ldo, next});
    }

    // The task's columns of the hidden layer; `resident`: all panels of up and gate, if packed.
    void hidden(const MoeTask& t, const Panels* resident, float* scratch) noexcept {
        if (resident != nullptr) return hidden_group(t, resident, nullptr, scratch);
        const Expert& expert = c_.expert(t.expert);
        const WeightMatrix* weights[2] = {&expert.up, &expert.gate};
        const int64_t d = c_.bank.d_model, k = c_.elements(d);
        const int64_t step = c_.group(k, c_.matrices());
        const int64_t row_tiles = c_.gemm.row_tiles(t.row_last - t.row_first);
        for (int64_t f = t.first; f < t.last; f += step) {
            MoeTask group = t;
            group.first = f;
            group.last = std::min(t.last, f + step);
            const int64_t tiles = row_tiles * c_.gemm.panels(group.last - f);
            const PackRange ahead{group.last, std::min(t.last, group.last + step), 0, d};
            Panels panels[2];
            Prefetch next[2];
            float* out = scratch + kPackScratch;
            for (int i = 0; i < c_.matrices(); ++i, out += step * k) {
                panels[i] = pack_rows(c_.gemm, c_.compute, c_.isa, *weights[i],
                                      {f, group.last, 0, d}, scratch, out);
                next[i] = prefetch_rows(*weights[i], ahead, tiles, k);
            }
            if (group.last == t.last && t.kind == kWhole) {
                const int64_t first = std::min(d, c_.group(c_.elements(expert.width()), 1));
                next[0] = prefetch_rows(expert.down, {0, first, 0, expert.width()}, tiles, k);
            }
            hidden_group(group, panels, next, scratch);
        }
    }

    // Columns [first, last) for the task's rows; `panels` begin with column `first`.
    void hidden_group(const MoeTask& t, const Panels* panels, const Prefetch* next,
                      float* scratch) noexcept {
        const Expert& expert = c_.expert(t.expert);
        const std::span<const float> biases[2] = {expert.up_bias, expert.gate_bias};
        const int nr = c_.gemm.nr;
        float* const tiles[2] = {scratch + scratch_tiles_, scratch + scratch_tiles_ + kTile};
        const int64_t height = tile_height(c_.gemm, t.row_last - t.row_first);
        GemmTile tile;
        tile.ldb = tile.ldc = nr;
        tile.k = c_.elements(c_.bank.d_model);
        int64_t index = 0;
        for (int64_t r = t.row_first; r < t.row_last; r += height) {
            const int64_t m = std::min<int64_t>(height, t.row_last - r);
            const GemmTileFn run = c_.gemm.by_rows[static_cast<int>(c_.compute)][m - 1];
            tile.a = ws_.operand_rows.data() + r;
            prefetch_operand(ws_, r + m, std::min<int64_t>(t.row_last, r + m + height), tile.k);
            for (int64_t f = t.first; f < t.last; f += nr, ++index) {
                const int cols = static_cast<int>(std::min<int64_t>(nr, t.last - f));
                for (int i = 0; i < c_.matrices(); ++i) {
                    tile.b = panels[i].data + (f - t.first) / nr * panels[i].stride;
                    tile.c = tiles[i];
                    (next != nullptr ? next[i] : Prefetch{}).apply(index, tile);
                    run(tile);
                    add_bias(tiles[i], nr, m, biases[i], f, f + cols);
                }
                activate_tile(tiles, r, m, f, cols);
            }
        }
    }

    // Adds columns [first, last) of `bias`, which may be empty, to each of m rows.
    static void add_bias(float* rows, int64_t ld, int64_t m, std::span<const float> bias,
                         int64_t first, int64_t last) noexcept {
        if (bias.empty()) return;
        for (int64_t i = 0; i < m; ++i) {
            for (int64_t j = first; j < last; ++j) {
                rows[i * ld + j - first] += bias[static_cast<size_t>(j)];
            }
        }
    }

    void activate_tile(float* const* tiles, int64_t first, int64_t m, int64_t f,
                       int cols) noexcept {
        alignas(64) float row[kMaxTileCols];
        const bool round = c_.compute == Compute::bf16;
        for (int64_t i = 0; i < m; ++i) {
            float* hidden = ws_.hidden_rows[0][static_cast<size_t>(first + i)] + c_.elements(f);
            activate_row(first + i, f, cols, c_.bank.gated ? tiles[1] + i * c_.gemm.nr : nullptr,
                         tiles[0] + i * c_.gemm.nr, round ? row : hidden);
            if (round) c_.gemm.round_row(row, cols, hidden);
        }
    }

    // Columns [f, f + cols) of row r: keeps the pre-activations, writes the hidden values.
    void activate_row(int64_t r, int64_t f, int64_t cols, const float* gate, const float* up,
                      float* hidden) noexcept {
        if (saved_ != nullptr) {
            const int64_t at = saved_->row_offsets[static_cast<size_t>(r)] + f;
            std::copy_n(up, cols, saved_->up.data() + at);
            if (gate != nullptr) std::copy_n(gate, cols, saved_->gate.data() + at);
        }
        activate_({gate, up, hidden, cols});
    }

    void down(const MoeTask& t, const Panels* resident, float* scratch, int next = -1) noexcept {
        const WeightMatrix& w = c_.expert(t.expert).down;
        const int64_t d = c_.bank.d_model, ff = w.cols;
        GemmRows product;
        product.a = ws_.hidden_rows[0].data() + t.row_first;
        product.rows = t.row_last - t.row_first;
        product.k = c_.elements(ff);
        product.ldc = d;
        const int64_t step = resident != nullptr ? t.last : c_.group(product.k, 1);
        for (int64_t j = t.first; j < t.last; j += step) {
            const int64_t last = std::min(t.last, j + step);
            if (resident != nullptr) {
                product.b = *resident;
            } else {
                product.b = pack_rows(c_.gemm, c_.compute, c_.isa, w, {j, last, 0, ff}, scratch,
                                      scratch + kPackScratch);
                const PackRange ahead{last, std::min(t.last, last + step), 0, ff};
                const int64_t tiles = c_.gemm.row_tiles(product.rows) * c_.gemm.panels(last - j);
                product.prefetch = last == t.last && next >= 0
                                       ? prefetch_first(next, tiles, product.k)
                                       : prefetch_rows(w, ahead, tiles, product.k);
            }
            product.cols = last - j;
            product.c = ws_.rows.data() + t.row_first * d + j;
            gemm_rows(c_.gemm, c_.compute, product);
            add_bias(product.c, d, product.rows, c_.expert(t.expert).down_bias, j, last);
        }
    }

    const MoeContext& c_;
    MoeWorkspace& ws_;
    MoeSaved* saved_;
    MatrixView<const float> x_;
    const ExpertKernels& kernels_;
    void (*activate_)(const HiddenRow&) noexcept;
    // A worker's scratch: for packing, panels, tiles of up and gate, hidden rows of a whole expert.
    int64_t scratch_tiles_ = 0, scratch_hidden_ = 0, scratch_size_ = 0;
};

}  // namespace

void moe_forward(const ExpertBank& bank, const RouteTable& routes, MatrixView<const float> x,
                 MatrixView<float> y, MoeWorkspace& workspace, Executor& executor, Compute compute,
                 bool accumulate, MoeSaved* saved) {
    MUSTER_ASSERT(routes.num_experts == bank.size() && routes.tokens() == x.rows);
    MUSTER_ASSERT(x.rows == y.rows && x.cols == bank.d_model && y.cols == bank.d_model);
    DispatchPlan& plan = saved != nullptr ? saved->plan : workspace.plan;
    make_dispatch_plan(routes, plan);
    const Isa isa = current_isa();
    const bool integers = compute == Compute::int8 && bank.size() > 0 && quantized_bank(bank);
    if (compute == Compute::int8 && !integers) {
        compute = bank.experts[0].up.dtype == DType::f32 ? Compute::f32 : Compute::bf16;
    }
    const MoeContext context{bank, plan, workspace, executor, compute, isa, gemm_kernels(isa)};
    if (integers) {
        MUSTER_ASSERT(saved == nullptr);
        return quantized_forward(context, routes, x, y, accumulate);
    }
    Forward(context, saved).run(routes, x, y, accumulate);
}

}  // namespace muster
