// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "muster/core/error.h"
#include "muster/experts/activation_kernels.h"
#include "muster/experts/moe.h"
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
          activate_(activation_kernels(c_.isa).forward[static_cast<size_t>(c_.bank.activation)]) {}

    void run(const RouteTable& routes, MatrixView<const float> x, MatrixView<float> y,
             bool accumulate) {
        plan_experts(c_, kStreamRows);
        if (saved_ != nullptr) place_saved();
        const int64_t hidden = place_split_hidden(c_, 1);
        x_ = x;
        if (ws_.whole.size() + ws_.split.size() > 0) gather_operand(c_, x);

        const int64_t d = c_.bank.d_model;
        const int64_t k = c_.elements(d) * c_.matrices();
        const int64_t panels = std::max(k, c_.elements(c_.bank.max_width())) * c_.gemm.nr;
        scratch_tiles_ = kPackScratch + panels;
        scratch_hidden_ = scratch_tiles_ + 2 * kTile;
        ws_.tasks.clear();
        for (int e : ws_.whole) ws_.tasks.push_back(whole_task(c_, e, kWhole, 0));
        for (int e : ws_.split) add_tasks(c_, e, kHidden, k, c_.expert(e).width());
        int64_t streamed = 0;  // bytes of either phase, roughly
        for (int e : ws_.streamed) streamed += c_.expert(e).down.bytes();
        for (int e : ws_.streamed) add_stream_tasks(e, kStreamHidden, c_.expert(e).up, streamed);
        ws_.rows.reserve(c_.plan.tokens.size() * static_cast<size_t>(d));
        const auto run = [this](const MoeTask& t, float* scratch) { run_task(t, scratch); };
        run_tasks(c_, scratch_hidden_ + hidden, run);
        ws_.tasks.clear();
        for (int e : ws_.split) add_tasks(c_, e, kDown, c_.elements(c_.expert(e).width()), d);
        for (int e : ws_.streamed) add_stream_tasks(e, kStreamDown, c_.expert(e).down, streamed);
        run_tasks(c_, scratch_hidden_, run);
        combine(routes, y, accumulate);
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

    void add_stream_tasks(int e, Kind kind, const WeightMatrix& w, int64_t total) {
        const int64_t step = stream_task_rows(w, total, c_.executor.workers());
        for (int64_t j = 0; j < w.rows; j += step) {
            MoeTask t = whole_task(c_, e, kind, std::min(w.rows, j + step));
            t.first = j;
            ws_.tasks.push_back(t);
        }
    }

    void run_task(MoeTask t, float* scratch) noexcept {
        switch (t.kind) {
            case kWhole:
                place_hidden(c_, t.expert, 1, scratch + scratch_hidden_);
                t.last = c_.expert(t.expert).width();
                hidden(t, scratch);
                t.last = c_.bank.d_model;
                return down(t, scratch);
            case kHidden:
                return hidden(t, scratch);
            case kDown:
                return down(t, scratch);
            case kStreamHidden:
                return stream_hidden(t);
            default:
                return stream_down(t);
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

    void hidden(const MoeTask& t, float* scratch) noexcept {
        const Expert& expert = c_.expert(t.expert);
        const WeightMatrix* weights[2] = {&expert.up, &expert.gate};
        const int64_t k = c_.elements(c_.bank.d_model);
        const int nr = c_.gemm.nr;
        const int64_t rows = t.row_last - t.row_first;
        for (int64_t f = t.first; f < t.last; f += nr) {
            const int cols = static_cast<int>(std::min<int64_t>(nr, t.last - f));
            Prefetch next[2];
            for (int i = 0; i < c_.matrices(); ++i) {
                pack_rows(c_.gemm, c_.compute, c_.isa, *weights[i], f, cols, scratch,
                          scratch + kPackScratch + i * k * nr);
                next[i] = prefetch_rows(c_.gemm, *weights[i], f + nr,
                                        std::min<int64_t>(nr, t.last - f - nr), rows, k);
            }
            if (f + nr >= t.last && t.kind == kWhole) {
                const int64_t first = std::min<int64_t>(nr, c_.bank.d_model);
                next[0] = prefetch_rows(c_.gemm, expert.down, 0, first, rows, k);
            }
            hidden_panel(t, f, cols, next, scratch);
        }
    }

    // Columns [f, f + cols) of the hidden layer for the task's rows.
    void hidden_panel(const MoeTask& t, int64_t f, int cols, const Prefetch* next,
                      float* scratch) noexcept {
        const Expert& expert = c_.expert(t.expert);
        const std::span<const float> biases[2] = {expert.up_bias, expert.gate_bias};
        const int64_t k = c_.elements(c_.bank.d_model);
        const int nr = c_.gemm.nr;
        float* const tiles[2] = {scratch + scratch_tiles_, scratch + scratch_tiles_ + kTile};
        const int64_t height = tile_height(c_.gemm, t.row_last - t.row_first);
        int64_t index = 0;
        for (int64_t r = t.row_first; r < t.row_last; r += height, ++index) {
            const int64_t m = std::min<int64_t>(height, t.row_last - r);
            for (int i = 0; i < c_.matrices(); ++i) {
                GemmTile tile;
                tile.a = ws_.operand_rows.data() + r;
                tile.b = scratch + kPackScratch + i * k * nr;
                tile.ldb = nr;
                tile.c = tiles[i];
                tile.ldc = nr;
                tile.k = k;
                next[i].apply(index, tile);
                c_.gemm.by_rows[static_cast<int>(c_.compute)][m - 1](tile);
                add_bias(tiles[i], nr, m, biases[i], f, f + cols);
            }
            activate_tile(tiles, r, m, f, cols);
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

    void down(const MoeTask& t, float* scratch) noexcept {
        const Expert& expert = c_.expert(t.expert);
        const int64_t d = c_.bank.d_model;
        const int nr = c_.gemm.nr;
        GemmBlock block;
        block.a = ws_.hidden_rows[0].data() + t.row_first;
        block.rows = t.row_last - t.row_first;
        block.k = c_.elements(expert.width());
        block.b = {scratch + kPackScratch, nr};
        block.ldc = d;
        for (int64_t j = t.first; j < t.last; j += nr) {
            block.cols = static_cast<int>(std::min<int64_t>(nr, t.last - j));
            block.c = ws_.rows.data() + t.row_first * d + j;
            pack_rows(c_.gemm, c_.compute, c_.isa, expert.down, j, block.cols, scratch,
                      scratch + kPackScratch);
            block.prefetch =
                prefetch_rows(c_.gemm, expert.down, j + nr, std::min<int64_t>(nr, t.last - j - nr),
                              block.rows, block.k);
            gemm_by_rows(c_.gemm, c_.compute, block);
            add_bias(block.c, d, block.rows, expert.down_bias, j, j + block.cols);
        }
    }

    void combine(const RouteTable& routes, MatrixView<float> y, bool accumulate) {
        const int64_t d = c_.bank.d_model;
        for_tokens(c_.executor, routes.tokens(), [&](int t) {
            float* out = y.row(t);
            if (!accumulate) std::fill(out, out + d, 0.0f);
            for (int a = routes.offsets[static_cast<size_t>(t)];
                 a < routes.offsets[static_cast<size_t>(t) + 1]; ++a) {
                const float w = routes.weights[static_cast<size_t>(a)];
                const float* row = ws_.rows.data() + c_.plan.row_of[static_cast<size_t>(a)] * d;
                for (int64_t j = 0; j < d; ++j) out[j] += w * row[j];
            }
        });
    }

    const MoeContext& c_;
    MoeWorkspace& ws_;
    MoeSaved* saved_;
    MatrixView<const float> x_;
    void (*activate_)(const HiddenRow&) noexcept;
    // A worker's scratch: for packing, panels, tiles of up and gate, hidden rows of a whole expert.
    int64_t scratch_tiles_ = 0, scratch_hidden_ = 0;
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
    const MoeContext context{bank, plan, workspace, executor, compute, isa, gemm_kernels(isa)};
    Forward(context, saved).run(routes, x, y, accumulate);
}

}  // namespace muster
