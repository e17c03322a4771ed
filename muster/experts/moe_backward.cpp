// SPDX-License-Identifier: Apache-2.0
// Gradients of y[t] = sum over the token's activations of w (W_down h + b_down),
// h = act(g) u, g = W_gate x + b_gate, u = W_up x + b_up:
//   q  = W_down^T dy                       per row of the plan, before the combine weight
//   dw = <h, q> + <dy, b_down>
//   dg, du from w q through the activation; W_down's gradient = sum of dy (w h)^T
//   W_gate's = sum of dg x^T, W_up's = sum of du x^T; dx = W_gate^T dg + W_up^T du
#include <algorithm>

#include "muster/core/error.h"
#include "muster/experts/activation_kernels.h"
#include "muster/experts/moe.h"
#include "muster/experts/moe_tasks.h"

namespace muster {
namespace {

enum Kind : int { kInput, kUpWeights, kDownWeights, kBiases, kClear };

struct Gradients {
    MatrixView<float> dx;
    std::span<float> dweights;
    std::span<const ExpertGradients> experts;
    bool accumulate;
};

class Backward {
  public:
    Backward(const MoeContext& context, const MoeSaved& saved, MatrixView<const float> x,
             MatrixView<const float> dy, const Gradients& out)
        : c_(context),
          saved_(saved),
          x_(x),
          dy_(dy),
          out_(out),
          differentiate_(
              activation_kernels(c_.isa).backward[static_cast<size_t>(c_.bank.activation)]) {}

    void run(const RouteTable& routes) {
        place_rows();
        gather_operand(c_, dy_, c_.workspace.dy, c_.workspace.dy_rows);
        hidden_phase();
        gradient_phase();
        combine(routes);
    }

  private:
    using DifferentiateFn = float (*)(const HiddenGradientRow&) noexcept;

    size_t rows() const noexcept { return c_.plan.tokens.size(); }
    int begin(int e) const noexcept { return c_.plan.expert_offsets[static_cast<size_t>(e)]; }

    // hidden (weighted), dgate and dup share the layout of the saved pre-activations but for a
    // cache line between rows.
    void place_rows() {
        MoeWorkspace& ws = c_.workspace;
        dot_stride_ = (c_.bank.max_width() + c_.gemm.nr - 1) / c_.gemm.nr;
        ws.dots.reserve(rows() * static_cast<size_t>(dot_stride_));
        const size_t size = static_cast<size_t>(saved_.row_offsets[rows()]) + rows() * 16;
        ws.hidden.reserve(size);
        ws.dup.reserve(size);
        if (c_.bank.gated) ws.dgate.reserve(size);
        for (auto* pointers : {&ws.hidden_rows, &ws.up_rows, &ws.gate_rows, &ws.x_rows}) {
            pointers->reserve(rows());
        }
        for (size_t r = 0; r < rows(); ++r) {
            const int64_t at = saved_.row_offsets[r] + static_cast<int64_t>(r) * 16;
            ws.hidden_rows[r] = ws.hidden.data() + at;
            ws.up_rows[r] = ws.dup.data() + at;
            ws.gate_rows[r] = c_.bank.gated ? ws.dgate.data() + at : nullptr;
            ws.x_rows[r] = x_.row(c_.plan.tokens[r]);
        }
    }

    void hidden_phase() {
        const int64_t k = c_.elements(c_.bank.d_model);
        std::vector<MoeTask>& tasks = c_.workspace.tasks;
        tasks.clear();
        for (int e = 0; e < c_.bank.size(); ++e) {
            add_tasks(c_, e, 0, k, c_.expert(e).width(), 1, tasks);
        }
        const int64_t tile = kMaxTileRows * kMaxTileCols;
        const int64_t size = reserve_scratch(c_.workspace, c_.executor, tile + k * c_.gemm.nr);
        c_.executor.run(static_cast<int>(tasks.size()), [&](int task, int worker) {
            const MoeTask& t = tasks[static_cast<size_t>(task)];
            float* scratch = c_.workspace.scratch.data() + worker * size;
            for (int64_t f = t.first; f < t.last; f += c_.gemm.nr) {
                hidden_panel(t, f, static_cast<int>(std::min<int64_t>(c_.gemm.nr, t.last - f)),
                             scratch);
            }
        });
    }

    void hidden_panel(const MoeTask& t, int64_t f, int cols, float* scratch) noexcept {
        const int64_t k = c_.elements(c_.bank.d_model);
        const int nr = c_.gemm.nr;
        const PanelRef panel = pack_cols(c_.gemm, c_.compute, c_.isa, c_.expert(t.expert).down, f,
                                         cols, scratch + kMaxTileRows * kMaxTileCols);
        const int64_t height = tile_height(c_.gemm, t.row_last - t.row_first);
        for (int64_t r = t.row_first; r < t.row_last; r += height) {
            const int64_t m = std::min<int64_t>(height, t.row_last - r);
            GemmTile tile;
            tile.a = c_.workspace.dy_rows.data() + r;
            tile.b = panel.data;
            tile.ldb = panel.ldb;
            tile.c = scratch;
            tile.ldc = nr;
            tile.k = k;
            c_.gemm.by_rows[static_cast<int>(c_.compute)][m - 1](tile);
            for (int64_t i = 0; i < m; ++i) hidden_row(r + i, f, scratch + i * nr, cols);
        }
    }

    void hidden_row(int64_t row, int64_t f, const float* dhidden, int cols) noexcept {
        const size_t r = static_cast<size_t>(row);
        const int64_t at = saved_.row_offsets[r] + f;
        const int64_t out = at + row * 16;
        MoeWorkspace& ws = c_.workspace;
        HiddenGradientRow g;
        g.gate = c_.bank.gated ? saved_.gate.data() + at : nullptr;
        g.up = saved_.up.data() + at;
        g.dhidden = dhidden;
        g.weight = c_.plan.weights[r];
        g.dgate = c_.bank.gated ? ws.dgate.data() + out : nullptr;
        g.dup = ws.dup.data() + out;
        g.hidden = ws.hidden.data() + out;
        g.n = cols;
        ws.dots[static_cast<size_t>(row * dot_stride_ + f / c_.gemm.nr)] = differentiate_(g);
    }

    // The input's and the weights' gradients need only what hidden_phase left: one phase.
    void gradient_phase() {
        std::vector<MoeTask>& tasks = c_.workspace.tasks;
        tasks.clear();
        const int64_t d = c_.bank.d_model;
        const int matrices = c_.bank.gated ? 2 : 1;
        int64_t longest = 0;  // sum over an expert's rows
        for (int e = 0; e < c_.bank.size(); ++e) {
            const int64_t count = c_.plan.expert_rows(e);
            const int64_t ff = c_.expert(e).width();
            longest = std::max(longest, c_.elements(count));
            if (count == 0) {
                if (!out_.accumulate) tasks.push_back({e, kClear, 0, 0, 0, 0});
                continue;
            }
            const ExpertGradients& g = out_.experts[static_cast<size_t>(e)];
            if (out_.dx.data != nullptr) {
                add_tasks(c_, e, kInput, c_.elements(ff), d, matrices, tasks);
            }
            if (g.up.data != nullptr || g.gate.data != nullptr) {
                add_weight_tasks(e, kUpWeights, d, ff * matrices);
            }
            if (g.down.data != nullptr) add_weight_tasks(e, kDownWeights, ff, d);
            if (!g.up_bias.empty() || !g.gate_bias.empty() || !g.down_bias.empty()) {
                tasks.push_back({e, kBiases, 0, 0, 0, 0});
            }
        }
        if (out_.dx.data != nullptr) c_.workspace.rows.reserve(rows() * static_cast<size_t>(d));
        const int64_t nr = c_.gemm.nr;
        const int64_t widest = std::max(d, c_.bank.max_width());
        // Even, for the pointers behind it.
        paired_ = c_.compute == Compute::bf16 ? (longest * widest + 1) / 2 * 2 : 0;
        rounded_ = c_.compute == Compute::bf16 ? kMaxTileRows * (widest + 16) : 0;
        const int64_t panel = nr * std::max(longest, c_.elements(c_.bank.max_width()));
        const int64_t size = reserve_scratch(c_.workspace, c_.executor,
                                             2 * panel + paired_ + rounded_ + 2 * longest);
        panel_ = panel;
        c_.executor.run(static_cast<int>(tasks.size()), [&](int task, int worker) {
            run_task(tasks[static_cast<size_t>(task)], c_.workspace.scratch.data() + worker * size);
        });
    }

    void add_weight_tasks(int e, Kind kind, int64_t cols, int64_t height) {
        const int64_t nr = c_.gemm.nr;
        const int64_t panels = (cols + nr - 1) / nr;
        const int64_t work = std::max<int64_t>(1, height * c_.plan.expert_rows(e) * nr);
        constexpr int64_t kWork = int64_t{4} << 20;  // as kTaskWork; in bf16 A is paired per task
        const int64_t step = std::max<int64_t>(1, kWork / work);
        for (int64_t p = 0; p < panels; p += step) {
            c_.workspace.tasks.push_back({e, kind, p * nr, std::min(cols, (p + step) * nr),
                                          begin(e), begin(e) + c_.plan.expert_rows(e)});
        }
    }

    void run_task(const MoeTask& t, float* scratch) noexcept {
        switch (t.kind) {
            case kInput:
                return input_task(t, scratch);
            case kUpWeights: {
                const ExpertGradients& g = out_.experts[static_cast<size_t>(t.expert)];
                const int64_t ff = c_.expert(t.expert).width();
                const float* const* x = c_.workspace.x_rows.data();
                if (g.up.data != nullptr) {
                    weight_task(t, c_.workspace.up_rows.data(), ff, x, g.up, scratch);
                }
                if (g.gate.data != nullptr) {
                    weight_task(t, c_.workspace.gate_rows.data(), ff, x, g.gate, scratch);
                }
                return;
            }
            case kDownWeights:
                return weight_task(t, nullptr, c_.bank.d_model, c_.workspace.hidden_rows.data(),
                                   out_.experts[static_cast<size_t>(t.expert)].down, scratch);
            case kBiases:
                return bias_task(t.expert);
            default:
                return clear_task(t.expert);
        }
    }

    // Rows [row_first, row_last) of dx before the combine: dgate W_gate + dup W_up.
    void input_task(const MoeTask& t, float* scratch) noexcept {
        const Expert& expert = c_.expert(t.expert);
        const int64_t d = c_.bank.d_model;
        const int matrices = c_.bank.gated ? 2 : 1;
        const WeightMatrix* weights[2] = {&expert.up, &expert.gate};
        const float* const* operands[2] = {c_.workspace.up_rows.data(),
                                           c_.workspace.gate_rows.data()};
        for (int64_t j = t.first; j < t.last; j += c_.gemm.nr) {
            GemmBlock block;
            block.cols = static_cast<int>(std::min<int64_t>(c_.gemm.nr, t.last - j));
            block.k = c_.elements(expert.width());
            block.ldc = d;
            for (int i = 0; i < matrices; ++i) {
                block.b = pack_cols(c_.gemm, c_.compute, c_.isa, *weights[i], j, block.cols,
                                    scratch + i * panel_);
                block.accumulate = i > 0;
                by_rounded_rows(t, operands[i], expert.width(), block, j, scratch + 2 * panel_);
            }
        }
    }

    // gemm_by_rows, in bf16 over rows rounded a tile at a time.
    void by_rounded_rows(const MoeTask& t, const float* const* operand, int64_t width,
                         GemmBlock block, int64_t column, float* rounded) noexcept {
        const int64_t d = c_.bank.d_model;
        if (c_.compute == Compute::f32) {
            block.a = operand + t.row_first;
            block.rows = t.row_last - t.row_first;
            block.c = c_.workspace.rows.data() + t.row_first * d + column;
            gemm_by_rows(c_.gemm, c_.compute, block);
            return;
        }
        const float* rows[kMaxTileRows];
        const int64_t height = tile_height(c_.gemm, t.row_last - t.row_first);
        for (int64_t r = t.row_first; r < t.row_last; r += height) {
            block.rows = std::min<int64_t>(height, t.row_last - r);
            for (int64_t i = 0; i < block.rows; ++i) {
                float* row = rounded + i * (width + 16);
                c_.gemm.round_row(operand[r + i], width, row);
                rows[i] = row;
            }
            block.a = rows;
            block.c = c_.workspace.rows.data() + r * d + column;
            gemm_by_rows(c_.gemm, c_.compute, block);
        }
    }

    // out (=|+=) left^T right over the task's rows, columns [first, last). A null `left` means the
    // rows of dy.
    void weight_task(const MoeTask& t, const float* const* left, int64_t height,
                     const float* const* right, MatrixView<float> out, float* scratch) noexcept {
        const int64_t count = t.row_last - t.row_first;
        float* paired = scratch + 2 * panel_;
        auto* pointers = reinterpret_cast<const float**>(paired + paired_ + rounded_);
        GemmBlock block;
        block.k = c_.elements(count);
        block.rows = height;
        if (left == nullptr) {
            // In bf16 workspace.dy_rows are rounded: go back to the source.
            for (int64_t i = 0; i < std::min(count, block.k); ++i) {
                pointers[i] = dy_.row(c_.plan.tokens[static_cast<size_t>(t.row_first + i)]);
            }
        }
        block.a = left != nullptr ? left + t.row_first : pointers;
        if (c_.compute == Compute::bf16) {
            pair_operand(t, left, height, paired);
            for (int64_t i = 0; i < block.k; ++i) pointers[i] = paired + i * height;
            block.a = pointers;
        }
        block.ldc = out.stride;
        block.accumulate = out_.accumulate;
        for (int64_t j = t.first; j < t.last; j += c_.gemm.nr) {
            block.cols = static_cast<int>(std::min<int64_t>(c_.gemm.nr, t.last - j));
            pack_gathered(c_.gemm, c_.compute, right + t.row_first, count, j, block.cols, scratch,
                          c_.gemm.nr);
            block.b = {scratch, c_.gemm.nr};
            block.c = out.data + j;
            gemm_by_cols(c_.gemm, c_.compute, block);
        }
    }

    void pair_operand(const MoeTask& t, const float* const* left, int64_t height,
                      float* paired) noexcept {
        const int64_t values = c_.gemm.bf16_values;
        for (int64_t r = t.row_first; r < t.row_last; r += values, paired += height) {
            const float* rows[2];
            const int64_t n = std::min<int64_t>(values, t.row_last - r);
            for (int64_t i = 0; i < n; ++i) {
                rows[i] = left != nullptr ? left[r + i]
                                          : dy_.row(c_.plan.tokens[static_cast<size_t>(r + i)]);
            }
            pack_gathered(c_.gemm, c_.compute, rows, n, 0, height, paired, height);
        }
    }

    void bias_task(int e) noexcept {
        const ExpertGradients& g = out_.experts[static_cast<size_t>(e)];
        const std::span<float> spans[3] = {g.gate_bias, g.up_bias, g.down_bias};
        const int first = begin(e), last = first + c_.plan.expert_rows(e);
        for (int which = 0; which < 3; ++which) {
            const std::span<float> out = spans[which];
            if (out.empty()) continue;
            if (!out_.accumulate) std::fill(out.begin(), out.end(), 0.0f);
            for (int r = first; r < last; ++r) {
                const size_t row = static_cast<size_t>(r);
                const float* values = which == 0   ? c_.workspace.gate_rows[row]
                                      : which == 1 ? c_.workspace.up_rows[row]
                                                   : dy_.row(c_.plan.tokens[row]);
                const float w = which == 2 ? c_.plan.weights[row] : 1.0f;
                for (size_t i = 0; i < out.size(); ++i) out[i] += w * values[i];
            }
        }
    }

    void clear_task(int e) noexcept {
        const ExpertGradients& g = out_.experts[static_cast<size_t>(e)];
        for (const MatrixView<float>& m : {g.gate, g.up, g.down}) {
            if (m.data == nullptr) continue;
            for (int64_t i = 0; i < m.rows; ++i) std::fill(m.row(i), m.row(i) + m.cols, 0.0f);
        }
        for (std::span<float> s : {g.gate_bias, g.up_bias, g.down_bias}) {
            std::fill(s.begin(), s.end(), 0.0f);
        }
    }

    void combine(const RouteTable& routes) {
        const int64_t d = c_.bank.d_model;
        for_tokens(c_.executor, routes.tokens(), [&](int t) {
            float* dx = out_.dx.data != nullptr ? out_.dx.row(t) : nullptr;
            if (dx != nullptr) std::fill(dx, dx + d, 0.0f);
            for (int a = routes.offsets[static_cast<size_t>(t)];
                 a < routes.offsets[static_cast<size_t>(t) + 1]; ++a) {
                const size_t activation = static_cast<size_t>(a);
                const int64_t r = c_.plan.row_of[activation];
                out_.dweights[activation] = dweight(r, t, routes.experts[activation]);
                if (dx == nullptr) continue;
                const float* row = c_.workspace.rows.data() + r * d;
                for (int64_t j = 0; j < d; ++j) dx[j] += row[j];
            }
        });
    }

    float dweight(int64_t r, int token, int e) const noexcept {
        const Expert& expert = c_.expert(e);
        const int64_t parts = (expert.width() + c_.gemm.nr - 1) / c_.gemm.nr;
        float sum = 0;
        for (int64_t i = 0; i < parts; ++i) {
            sum += c_.workspace.dots[static_cast<size_t>(r * dot_stride_ + i)];
        }
        const float* dy = dy_.row(token);
        for (size_t j = 0; j < expert.down_bias.size(); ++j) sum += dy[j] * expert.down_bias[j];
        return sum;
    }

    const MoeContext& c_;
    const MoeSaved& saved_;
    MatrixView<const float> x_, dy_;
    const Gradients& out_;
    DifferentiateFn differentiate_;
    int64_t dot_stride_ = 0;
    int64_t panel_ = 0, paired_ = 0, rounded_ = 0;  ///< parts of a worker's scratch
};

}  // namespace

void moe_backward(const ExpertBank& bank, const RouteTable& routes, const MoeSaved& saved,
                  MatrixView<const float> x, MatrixView<const float> dy, MatrixView<float> dx,
                  std::span<float> dweights, std::span<const ExpertGradients> experts,
                  MoeWorkspace& workspace, Executor& executor, Compute compute, bool accumulate) {
    MUSTER_ASSERT(routes.num_experts == bank.size() && routes.tokens() == x.rows);
    MUSTER_ASSERT(x.rows == dy.rows && x.cols == bank.d_model && dy.cols == bank.d_model);
    MUSTER_ASSERT(dx.data == nullptr || (dx.rows == x.rows && dx.cols == x.cols));
    MUSTER_ASSERT(static_cast<int>(dweights.size()) == routes.activations());
    MUSTER_ASSERT(static_cast<int>(experts.size()) == bank.size());
    MUSTER_ASSERT(saved.plan.rows() == routes.activations());
    const Isa isa = current_isa();
    const MoeContext context{bank,    saved.plan, workspace,        executor,
                             compute, isa,        gemm_kernels(isa)};
    const Gradients out{dx, dweights, experts, accumulate};
    Backward(context, saved, x, dy, out).run(routes);
}

}  // namespace muster
