// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "muster/core/error.h"
#include "muster/experts/activation_kernels.h"
#include "muster/experts/moe.h"
#include "muster/experts/moe_tasks.h"

namespace muster {
namespace {

class Forward {
  public:
    Forward(const MoeContext& context, MatrixView<const float> x, MoeSaved* saved)
        : c_(context), x_(x), saved_(saved), activate_(pick_activation(context)) {}

    void run(const RouteTable& routes, MatrixView<float> y, bool accumulate) {
        place_rows();
        gather_operand(c_, x_, c_.workspace.x, c_.workspace.x_rows);
        hidden_phase();
        down_phase();
        combine(routes, y, accumulate);
    }

  private:
    using ActivateFn = void (*)(const HiddenRow&) noexcept;

    static ActivateFn pick_activation(const MoeContext& c) noexcept {
        return activation_kernels(c.isa).forward[static_cast<size_t>(c.bank.activation)];
    }

    // Rows of `hidden` are operands: elements, one cache line apart from a power of two.
    int64_t hidden_stride(int e) const noexcept { return c_.elements(c_.expert(e).width()) + 16; }

    void place_rows() {
        MoeWorkspace& ws = c_.workspace;
        const size_t rows = c_.plan.tokens.size();
        ws.hidden_rows.reserve(rows);
        if (saved_ != nullptr) saved_->row_offsets.assign(rows + 1, 0);
        int64_t elements = 0, values = 0;
        for (int e = 0; e < c_.bank.size(); ++e) {
            elements += hidden_stride(e) * c_.plan.expert_rows(e);
        }
        ws.hidden.reserve(static_cast<size_t>(elements));
        float* row = ws.hidden.data();
        size_t r = 0;
        for (int e = 0; e < c_.bank.size(); ++e) {
            for (int i = 0; i < c_.plan.expert_rows(e); ++i, ++r, row += hidden_stride(e)) {
                ws.hidden_rows[r] = row;
                if (saved_ == nullptr) continue;
                saved_->row_offsets[r] = values;
                values += c_.expert(e).width();
            }
        }
        if (saved_ == nullptr) return;
        saved_->row_offsets[rows] = values;
        saved_->up.reserve(static_cast<size_t>(values));
        if (c_.bank.gated) saved_->gate.reserve(static_cast<size_t>(values));
    }

    void hidden_phase() {
        const int matrices = c_.bank.gated ? 2 : 1;
        const int64_t k = c_.elements(c_.bank.d_model);
        std::vector<MoeTask>& tasks = c_.workspace.tasks;
        tasks.clear();
        for (int e = 0; e < c_.bank.size(); ++e) {
            add_tasks(c_, e, 0, k, c_.expert(e).width(), matrices, tasks);
        }
        const int64_t panel = k * c_.gemm.nr;
        const int64_t tile = kMaxTileRows * kMaxTileCols;
        const int64_t size =
            reserve_scratch(c_.workspace, c_.executor, kPackScratch + 2 * tile + matrices * panel);
        c_.executor.run(static_cast<int>(tasks.size()), [&](int task, int worker) {
            const MoeTask& t = tasks[static_cast<size_t>(task)];
            float* scratch = c_.workspace.scratch.data() + worker * size;
            for (int64_t f = t.first; f < t.last; f += c_.gemm.nr) {
                hidden_panel(t, f, static_cast<int>(std::min<int64_t>(c_.gemm.nr, t.last - f)),
                             scratch);
            }
        });
    }

    // Columns [f, f + cols) of the hidden layer for the task's rows.
    void hidden_panel(const MoeTask& t, int64_t f, int cols, float* scratch) noexcept {
        const Expert& expert = c_.expert(t.expert);
        const int64_t k = c_.elements(c_.bank.d_model);
        const int nr = c_.gemm.nr;
        float* tiles[2] = {scratch + kPackScratch,
                           scratch + kPackScratch + kMaxTileRows * kMaxTileCols};
        float* panels = tiles[1] + kMaxTileRows * kMaxTileCols;
        const WeightMatrix* weights[2] = {&expert.up, &expert.gate};
        const std::span<const float> biases[2] = {expert.up_bias, expert.gate_bias};
        const int matrices = c_.bank.gated ? 2 : 1;
        for (int i = 0; i < matrices; ++i) {
            pack_rows(c_.gemm, c_.compute, c_.isa, *weights[i], f, cols, scratch,
                      panels + i * k * nr);
        }
        const int64_t height = tile_height(c_.gemm, t.row_last - t.row_first);
        for (int64_t r = t.row_first; r < t.row_last; r += height) {
            const int64_t m = std::min<int64_t>(height, t.row_last - r);
            for (int i = 0; i < matrices; ++i) {
                GemmTile tile;
                tile.a = c_.workspace.x_rows.data() + r;
                tile.b = panels + i * k * nr;
                tile.ldb = nr;
                tile.c = tiles[i];
                tile.ldc = nr;
                tile.k = k;
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
        for (int64_t i = 0; i < m; ++i) {
            const size_t r = static_cast<size_t>(first + i);
            const float* up = tiles[0] + i * c_.gemm.nr;
            const float* gate = gated ? tiles[1] + i * c_.gemm.nr : nullptr;
            if (saved_ != nullptr) {
                const int64_t at = saved_->row_offsets[r] + f;
                std::copy_n(up, cols, saved_->up.data() + at);
                if (gated) std::copy_n(gate, cols, saved_->gate.data() + at);
            }
            float* hidden = const_cast<float*>(c_.workspace.hidden_rows[r]) + c_.elements(f);
            const bool round = c_.compute == Compute::bf16;
            activate_({gate, up, round ? row : hidden, cols});
            if (round) c_.gemm.round_row(row, cols, hidden);
        }
    }

    void down_phase() {
        const int64_t d = c_.bank.d_model;
        std::vector<MoeTask>& tasks = c_.workspace.tasks;
        tasks.clear();
        for (int e = 0; e < c_.bank.size(); ++e) {
            add_tasks(c_, e, 0, c_.elements(c_.expert(e).width()), d, 1, tasks);
        }
        c_.workspace.rows.reserve(c_.plan.tokens.size() * static_cast<size_t>(d));
        const int64_t panel = c_.elements(c_.bank.max_width()) * c_.gemm.nr;
        const int64_t size = reserve_scratch(c_.workspace, c_.executor, kPackScratch + panel);
        c_.executor.run(static_cast<int>(tasks.size()), [&](int task, int worker) {
            const MoeTask& t = tasks[static_cast<size_t>(task)];
            float* scratch = c_.workspace.scratch.data() + worker * size;
            for (int64_t j = t.first; j < t.last; j += c_.gemm.nr) {
                down_panel(t, j, static_cast<int>(std::min<int64_t>(c_.gemm.nr, t.last - j)),
                           scratch);
            }
        });
    }

    void down_panel(const MoeTask& t, int64_t j, int cols, float* scratch) noexcept {
        const Expert& expert = c_.expert(t.expert);
        const int64_t d = c_.bank.d_model;
        pack_rows(c_.gemm, c_.compute, c_.isa, expert.down, j, cols, scratch,
                  scratch + kPackScratch);
        GemmBlock block;
        block.a = c_.workspace.hidden_rows.data() + t.row_first;
        block.rows = t.row_last - t.row_first;
        block.k = c_.elements(expert.width());
        block.b = {scratch + kPackScratch, c_.gemm.nr};
        block.cols = cols;
        block.c = c_.workspace.rows.data() + t.row_first * d + j;
        block.ldc = d;
        gemm_by_rows(c_.gemm, c_.compute, block);
        if (expert.down_bias.empty()) return;
        for (int64_t r = 0; r < block.rows; ++r) {
            for (int i = 0; i < cols; ++i) {
                block.c[r * d + i] += expert.down_bias[static_cast<size_t>(j + i)];
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
                const float* row =
                    c_.workspace.rows.data() + c_.plan.row_of[static_cast<size_t>(a)] * d;
                for (int64_t j = 0; j < d; ++j) out[j] += w * row[j];
            }
        });
    }

    const MoeContext& c_;
    MatrixView<const float> x_;
    MoeSaved* saved_;
    ActivateFn activate_;
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
    Forward(context, x, saved).run(routes, y, accumulate);
}

}  // namespace muster
