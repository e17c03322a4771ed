// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "muster/core/error.h"
#include "muster/experts/activation_kernels.h"
#include "muster/experts/moe.h"
#include "muster/experts/moe_tasks.h"

namespace muster {
namespace {

enum Kind : int { kWhole, kHidden, kDown };

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
        plan_experts(c_);
        if (saved_ != nullptr) place_saved();
        const int64_t hidden = place_split_hidden(c_, 1);
        gather_operand(c_, x);

        const int64_t d = c_.bank.d_model;
        const int64_t k = c_.elements(d) * c_.matrices();
        const int64_t panels = std::max(k, c_.elements(c_.bank.max_width())) * c_.gemm.nr;
        scratch_tiles_ = kPackScratch + panels;
        scratch_hidden_ = scratch_tiles_ + 2 * kTile;
        ws_.tasks.clear();
        for (int e : ws_.whole) ws_.tasks.push_back(whole_task(c_, e, kWhole, 0));
        for (int e : ws_.split) add_tasks(c_, e, kHidden, k, c_.expert(e).width());
        ws_.rows.reserve(c_.plan.tokens.size() * static_cast<size_t>(d));
        const auto run = [this](const MoeTask& t, float* scratch) { run_task(t, scratch); };
        run_tasks(c_, scratch_hidden_ + hidden, run);
        ws_.tasks.clear();
        for (int e : ws_.split) add_tasks(c_, e, kDown, c_.elements(c_.expert(e).width()), d);
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

    void run_task(MoeTask t, float* scratch) noexcept {
        if (t.kind == kWhole) {
            place_hidden(c_, t.expert, 1, scratch + scratch_hidden_);
            t.last = c_.expert(t.expert).width();
            hidden(t, scratch);
            t.last = c_.bank.d_model;
            down(t, scratch);
        } else {
            t.kind == kHidden ? hidden(t, scratch) : down(t, scratch);
        }
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
                if (!biases[i].empty()) add_bias(tiles[i], m, biases[i].data() + f, cols);
            }
            activate_tile(tiles, r, m, f, cols);
        }
    }

    void add_bias(float* tile, int64_t m, const float* bias, int cols) const noexcept {
        for (int64_t i = 0; i < m; ++i) {
            for (int j = 0; j < cols; ++j) tile[i * c_.gemm.nr + j] += bias[j];
        }
    }

    void activate_tile(float* const* tiles, int64_t first, int64_t m, int64_t f,
                       int cols) noexcept {
        alignas(64) float row[kMaxTileCols];
        const bool gated = c_.bank.gated;
        const bool round = c_.compute == Compute::bf16;
        for (int64_t i = 0; i < m; ++i) {
            const size_t r = static_cast<size_t>(first + i);
            const float* up = tiles[0] + i * c_.gemm.nr;
            const float* gate = gated ? tiles[1] + i * c_.gemm.nr : nullptr;
            if (saved_ != nullptr) {
                const int64_t at = saved_->row_offsets[r] + f;
                std::copy_n(up, cols, saved_->up.data() + at);
                if (gated) std::copy_n(gate, cols, saved_->gate.data() + at);
            }
            float* hidden = ws_.hidden_rows[0][r] + c_.elements(f);
            activate_({gate, up, round ? row : hidden, cols});
            if (round) c_.gemm.round_row(row, cols, hidden);
        }
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
            if (expert.down_bias.empty()) continue;
            for (int64_t r = 0; r < block.rows; ++r) {
                for (int i = 0; i < block.cols; ++i) {
                    block.c[r * d + i] += expert.down_bias[static_cast<size_t>(j + i)];
                }
            }
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
