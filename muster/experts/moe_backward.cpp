// SPDX-License-Identifier: Apache-2.0
// Gradients of y[t] = sum over the token's activations of w (W_down h + b_down),
// h = act(g) u, g = W_gate x + b_gate, u = W_up x + b_up:
//   q  = W_down^T dy                       per row of the plan, before the combine weight
//   dw = <h, q> + <dy, b_down>
//   dg, du from w q through the activation; W_down's gradient = sum of dy (w h)^T
//   W_gate's = sum of dg x^T, W_up's = sum of du x^T; dx = W_gate^T dg + W_up^T du
#include <algorithm>

#include "muster/core/error.h"
#include "muster/experts/expert_kernels.h"
#include "muster/experts/moe.h"
#include "muster/experts/moe_tasks.h"

namespace muster {
namespace {

enum Kind : int { kWhole, kHidden, kInput, kUpWeights, kDownWeights, kBiases, kClear };

// Arrays of workspace.hidden_rows: w h, du, dg; in bf16 also du and dg rounded, as operands.
enum Array : int { kWeighted, kUp, kGate, kUpRounded, kGateRounded };

constexpr int64_t kTile = kMaxTileRows * kMaxTileCols;

// Gradients of more bytes than this pass by the caches: whoever reads them next (an optimiser)
// starts from the first of them, which such a cache has long lost.
constexpr int64_t kStreamBytes = int64_t{16} << 20;

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
          ws_(context.workspace),
          saved_(saved),
          x_(x),
          dy_(dy),
          out_(out),
          kernels_(expert_kernels(c_.isa)),
          differentiate_(kernels_.backward[static_cast<size_t>(c_.bank.activation)]) {}

    void run(const RouteTable& routes) {
        plan_experts(c_, 0);
        const bool bf16 = c_.compute == Compute::bf16;
        arrays_ = bf16 ? 5 : c_.matrices() + 1;
        rounded_ = bf16 ? kUpRounded - kUp : 0;
        place_shared_hidden(c_, arrays_);
        gather_operand(c_, dy_);
        place_rows();
        plan_scratch();
        const int64_t d = c_.bank.d_model;
        const auto run = [this](const MoeTask& t, float* scratch) { run_task(t, scratch); };
        ws_.tasks.clear();
        for (int e : ws_.whole) ws_.tasks.push_back(whole_task(c_, e, kWhole, 0));
        for (int e : ws_.split) add_tasks(c_, e, kHidden, c_.elements(d), c_.expert(e).width());
        for (int e = 0; e < c_.bank.size(); ++e) {
            if (c_.plan.expert_rows(e) == 0 && !out_.accumulate) {
                ws_.tasks.push_back(whole_task(c_, e, kClear, 0));
            }
        }
        run_tasks(c_, scratch_size_, run);
        ws_.tasks.clear();
        for (int e : ws_.split) add_gradient_tasks(e);
        run_tasks(c_, scratch_hidden_, run);
        combine(routes);
    }

  private:
    const ExpertGradients& gradients(int e) const noexcept {
        return out_.experts[static_cast<size_t>(e)];
    }

    void place_rows() {
        const size_t rows = c_.plan.tokens.size();
        const int64_t d = c_.bank.d_model;
        dot_stride_ = c_.gemm.panels(c_.bank.max_width());
        ws_.dots.reserve(rows * static_cast<size_t>(dot_stride_));
        if (out_.dx.data != nullptr) ws_.rows.reserve(rows * static_cast<size_t>(d));
        ws_.x_rows.reserve(rows);
        ws_.dy_rows.reserve(rows);
        for (size_t r = 0; r < rows; ++r) {
            ws_.x_rows[r] = x_.row(c_.plan.tokens[r]);
            ws_.dy_rows[r] = dy_.row(c_.plan.tokens[r]);
        }
        int64_t weights = 0;
        for (int e = 0; e < c_.bank.size(); ++e) {
            weights += c_.expert(e).width() * d * (c_.matrices() + 1);
        }
        stream_ = weights * static_cast<int64_t>(sizeof(float)) > kStreamBytes;
    }

    void plan_scratch() {
        const int64_t d = c_.bank.d_model;
        int64_t panels = 0, hidden = 0;
        for (const std::vector<int>* list : {&ws_.whole, &ws_.split}) {
            for (int e : *list) {
                const int64_t ff = c_.expert(e).width();
                const int64_t down = c_.elements(d), up = c_.matrices() * c_.elements(ff);
                panels = std::max({panels, c_.group(down, 1) * down,
                                   c_.group(c_.elements(ff), c_.matrices()) * up});
                if (c_.resident(e)) {
                    panels = std::max(panels, c_.packed(ff, down) + c_.packed(d, up));
                }
            }
        }
        for (int e : ws_.whole) {
            hidden = std::max(hidden, arrays_ * hidden_stride(c_, e) * chunk_rows(e));
        }
        scratch_panels_ = std::max(kTile, kOuterScratch);
        scratch_hidden_ = scratch_panels_ + panels;
        scratch_size_ = scratch_hidden_ + hidden;
    }

    // Rows that pass by the panels of a resident expert at once. Fewer would stay in the cache with
    // all their arrays, but read the weights' gradients more often.
    static constexpr int64_t kResidentRows = 16 * kMaxTileRows;

    int64_t chunk_rows(int e) const noexcept {
        const int64_t rows = c_.plan.expert_rows(e);
        return c_.resident(e) ? std::min(rows, kResidentRows) : rows;
    }

    void add_gradient_tasks(int e) {
        const ExpertGradients& g = gradients(e);
        const int64_t d = c_.bank.d_model, ff = c_.expert(e).width();
        if (out_.dx.data != nullptr) add_tasks(c_, e, kInput, c_.elements(ff) * c_.matrices(), d);
        if (g.up.data != nullptr || g.gate.data != nullptr) {
            add_weight_tasks(e, kUpWeights, d, ff * c_.matrices());
        }
        if (g.down.data != nullptr) add_weight_tasks(e, kDownWeights, ff, d);
        ws_.tasks.push_back(whole_task(c_, e, kBiases, 0));
    }

    // Wide tasks: what they read of the other side they pack again for each.
    void add_weight_tasks(int e, Kind kind, int64_t cols, int64_t height) {
        constexpr int64_t kWork = int64_t{8} << 20;
        const int64_t nr = c_.gemm.nr;
        const int64_t panel = std::max<int64_t>(1, height * c_.plan.expert_rows(e) * nr);
        const int64_t step = std::max<int64_t>(1, kWork / panel) * nr;
        for (int64_t j = 0; j < cols; j += step) {
            MoeTask t = whole_task(c_, e, kind, std::min(cols, j + step));
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
            case kInput:
                return input(t, nullptr, scratch);
            case kUpWeights:
                return up_weights(t, out_.accumulate, scratch);
            case kDownWeights:
                return down_weights(t, out_.accumulate, scratch);
            case kBiases:
                return biases(t, out_.accumulate);
            default:
                return clear(t.expert);
        }
    }

    void whole(const MoeTask& task, float* scratch) noexcept {
        const int64_t d = c_.bank.d_model, ff = c_.expert(task.expert).width();
        const bool resident = c_.resident(task.expert);
        Panels panels[3];
        if (resident) pack_all(task.expert, panels, scratch + scratch_panels_);
        const int chunk = static_cast<int>(chunk_rows(task.expert));
        for (int row = task.row_first; row < task.row_last; row += chunk) {
            MoeTask t = task;
            t.row_first = row;
            t.row_last = std::min(task.row_last, row + chunk);
            const bool add = out_.accumulate || row > task.row_first;
            place_hidden(c_, t.expert, arrays_, t.row_first, t.row_last, scratch + scratch_hidden_);
            t.last = ff;
            hidden(t, resident ? panels : nullptr, scratch);
            down_weights(t, add, scratch);
            t.last = d;
            if (out_.dx.data != nullptr) input(t, resident ? panels + 1 : nullptr, scratch);
            up_weights(t, add, scratch);
            biases(t, add);
        }
    }

    // All of down, up and gate, behind each other.
    void pack_all(int e, Panels* panels, float* out) noexcept {
        const Expert& expert = c_.expert(e);
        const WeightMatrix* weights[3] = {&expert.down, &expert.up, &expert.gate};
        for (int i = 0; i < 3; ++i) {
            const WeightMatrix& w = *weights[i];
            if (w.empty()) continue;
            panels[i] = pack_cols(c_.gemm, c_.compute, c_.isa, w, {0, w.cols, 0, w.rows}, out);
            out += c_.packed(w.cols, c_.elements(w.rows));
        }
    }

    // The task's columns of w h, dg and du; `resident`: all panels of down, if packed.
    void hidden(const MoeTask& t, const Panels* resident, float* scratch) noexcept {
        const WeightMatrix& down = c_.expert(t.expert).down;
        const int64_t d = c_.bank.d_model, k = c_.elements(d);
        const int64_t step = resident != nullptr ? t.last : c_.group(k, 1);
        for (int64_t f = t.first; f < t.last; f += step) {
            MoeTask group = t;
            group.first = f;
            group.last = std::min(t.last, f + step);
            if (resident != nullptr) {
                hidden_group(group, *resident, {}, scratch);
                continue;
            }
            const Panels panels = pack_cols(c_.gemm, c_.compute, c_.isa, down,
                                            {f, group.last, 0, d}, scratch + scratch_panels_);
            const int64_t tiles =
                c_.gemm.row_tiles(t.row_last - t.row_first) * c_.gemm.panels(group.last - f);
            const PackRange next{group.last, std::min(t.last, group.last + step), 0, d};
            hidden_group(group, panels, prefetch_cols(down, next, tiles, k), scratch);
        }
    }

    void hidden_group(const MoeTask& t, const Panels& panels, const Prefetch& next,
                      float* scratch) noexcept {
        const int nr = c_.gemm.nr;
        const int64_t height = tile_height(c_.gemm, t.row_last - t.row_first);
        GemmTile tile;
        tile.ldb = panels.ldb;
        tile.c = scratch;
        tile.ldc = nr;
        tile.k = c_.elements(c_.bank.d_model);
        int64_t index = 0;
        for (int64_t r = t.row_first; r < t.row_last; r += height) {
            const int64_t m = std::min<int64_t>(height, t.row_last - r);
            const GemmTileFn run = c_.gemm.by_rows[static_cast<int>(c_.compute)][m - 1];
            tile.a = ws_.operand_rows.data() + r;
            prefetch_operand(ws_, r + m, std::min<int64_t>(t.row_last, r + m + height), tile.k);
            tile.b = panels.data;
            for (int64_t f = t.first; f < t.last; f += nr, tile.b += panels.stride, ++index) {
                const int cols = static_cast<int>(std::min<int64_t>(nr, t.last - f));
                next.apply(index, tile);
                prefetch_saved(r, m, f);
                run(tile);
                for (int64_t i = 0; i < m; ++i) hidden_row(r + i, f, scratch + i * nr, cols);
            }
        }
    }

    // The tile's pre-activations come from far away, in pieces too short for the hardware to
    // guess; they arrive while its product runs. (A function of nothing but prefetches counts as
    // pure for g++, and calls of it are dropped, unless it is inlined.)
    [[gnu::always_inline]] void prefetch_saved(int64_t first, int64_t m, int64_t f) const noexcept {
        for (int64_t i = 0; i < m; ++i) {
            const int64_t at = saved_.row_offsets[static_cast<size_t>(first + i)] + f;
            for (int64_t line = 0; line < c_.gemm.nr; line += 16) {
                __builtin_prefetch(saved_.up.data() + at + line);
                if (c_.bank.gated) __builtin_prefetch(saved_.gate.data() + at + line);
            }
        }
    }

    void hidden_row(int64_t row, int64_t f, const float* dhidden, int cols) noexcept {
        const size_t r = static_cast<size_t>(row);
        const int64_t at = saved_.row_offsets[r] + f;
        HiddenGradientRow g;
        g.gate = c_.bank.gated ? saved_.gate.data() + at : nullptr;
        g.up = saved_.up.data() + at;
        g.dhidden = dhidden;
        g.weight = c_.plan.weights[r];
        g.dgate = c_.bank.gated ? ws_.hidden_rows[kGate][r] + f : nullptr;
        g.dup = ws_.hidden_rows[kUp][r] + f;
        g.hidden = ws_.hidden_rows[kWeighted][r] + f;
        g.n = cols;
        ws_.dots[static_cast<size_t>(row * dot_stride_ + f / c_.gemm.nr)] = differentiate_(g);
        if (c_.compute == Compute::f32) return;
        c_.gemm.round_row(g.dup, cols, ws_.hidden_rows[kUpRounded][r] + c_.elements(f));
        if (!c_.bank.gated) return;
        c_.gemm.round_row(g.dgate, cols, ws_.hidden_rows[kGateRounded][r] + c_.elements(f));
    }

    // Columns of dx's rows before the combine: du W_up + dg W_gate.
    void input(const MoeTask& t, const Panels* resident, float* scratch) noexcept {
        const Expert& expert = c_.expert(t.expert);
        const int64_t d = c_.bank.d_model, ff = expert.width();
        const WeightMatrix* weights[2] = {&expert.up, &expert.gate};
        GemmRows product;
        product.k = c_.elements(ff);
        product.rows = t.row_last - t.row_first;
        product.ldc = d;
        const int64_t group = c_.group(product.k, c_.matrices());
        const int64_t step = resident != nullptr ? t.last : group;
        for (int64_t j = t.first; j < t.last; j += step) {
            const int64_t last = std::min(t.last, j + step);
            product.cols = last - j;
            product.c = ws_.rows.data() + t.row_first * d + j;
            const int64_t tiles = c_.gemm.row_tiles(product.rows) * c_.gemm.panels(last - j);
            for (int i = 0; i < c_.matrices(); ++i) {
                product.a = ws_.hidden_rows[kUp + rounded_ + i].data() + t.row_first;
                product.accumulate = i > 0;
                if (resident != nullptr) {
                    product.b = resident[i];
                } else {
                    product.b =
                        pack_cols(c_.gemm, c_.compute, c_.isa, *weights[i], {j, last, 0, ff},
                                  scratch + scratch_panels_ + i * group * product.k);
                    const PackRange next{last, std::min(t.last, last + step), 0, ff};
                    product.prefetch = prefetch_cols(*weights[i], next, tiles, product.k);
                }
                gemm_rows(c_.gemm, c_.compute, product);
            }
        }
    }

    void up_weights(const MoeTask& t, bool add, float* scratch) noexcept {
        const ExpertGradients& g = gradients(t.expert);
        GemmOuter product = outer_product(t, add);
        product.b = ws_.x_rows.data() + t.row_first;
        product.m_last = c_.expert(t.expert).width();
        int matrices = 0;
        for (int i = 0; i < c_.matrices(); ++i) {
            const MatrixView<float>& out = i == 0 ? g.up : g.gate;
            if (out.data == nullptr) continue;
            product.c[matrices] = out;
            product.a[matrices++] = ws_.hidden_rows[kUp + i].data() + t.row_first;
        }
        if (matrices > 0) gemm_outer(c_.gemm, c_.compute, product, scratch);
    }

    void down_weights(const MoeTask& t, bool add, float* scratch) noexcept {
        const ExpertGradients& g = gradients(t.expert);
        if (g.down.data == nullptr) return;
        GemmOuter product = outer_product(t, add);
        product.a[0] = ws_.dy_rows.data() + t.row_first;
        product.b = ws_.hidden_rows[kWeighted].data() + t.row_first;
        product.m_last = c_.bank.d_model;
        product.c[0] = g.down;
        gemm_outer(c_.gemm, c_.compute, product, scratch);
    }

    GemmOuter outer_product(const MoeTask& t, bool add) const noexcept {
        GemmOuter product;
        product.count = t.row_last - t.row_first;
        // Sums in the same steps whether the expert is done as a whole or in tasks.
        product.step = c_.resident(t.expert) ? kResidentRows : 0;
        product.first = t.first;
        product.last = t.last;
        product.accumulate = add;
        product.stream = stream_ && product.count == c_.plan.expert_rows(t.expert);
        return product;
    }

    void biases(const MoeTask& t, bool add) noexcept {
        const ExpertGradients& g = gradients(t.expert);
        const std::span<float> spans[3] = {g.gate_bias, g.up_bias, g.down_bias};
        for (int which = 0; which < 3; ++which) {
            const std::span<float> out = spans[which];
            if (out.empty()) continue;
            if (!add) std::fill(out.begin(), out.end(), 0.0f);
            for (int r = t.row_first; r < t.row_last; ++r) {
                const size_t row = static_cast<size_t>(r);
                const float* values = which == 0   ? ws_.hidden_rows[kGate][row]
                                      : which == 1 ? ws_.hidden_rows[kUp][row]
                                                   : ws_.dy_rows[row];
                const float w = which == 2 ? c_.plan.weights[row] : 1.0f;
                for (size_t i = 0; i < out.size(); ++i) out[i] += w * values[i];
            }
        }
    }

    void clear(int e) noexcept {
        const ExpertGradients& g = gradients(e);
        for (const MatrixView<float>& m : {g.gate, g.up, g.down}) {
            if (m.data == nullptr) continue;
            for (int64_t i = 0; i < m.rows; ++i) std::fill(m.row(i), m.row(i) + m.cols, 0.0f);
        }
        for (std::span<float> s : {g.gate_bias, g.up_bias, g.down_bias}) {
            std::fill(s.begin(), s.end(), 0.0f);
        }
    }

    void combine(const RouteTable& routes) {
        for_tokens(c_.executor, routes.tokens(), [&](int t) {
            for (int a = routes.offsets[static_cast<size_t>(t)];
                 a < routes.offsets[static_cast<size_t>(t) + 1]; ++a) {
                const size_t activation = static_cast<size_t>(a);
                out_.dweights[activation] =
                    dweight(c_.plan.row_of[activation], t, routes.experts[activation]);
            }
            if (out_.dx.data == nullptr) return;
            combine_rows(c_, kernels_, routes, t, nullptr, out_.dx.row(t), false);
        });
    }

    float dweight(int64_t r, int token, int e) const noexcept {
        const Expert& expert = c_.expert(e);
        const int64_t parts = c_.gemm.panels(expert.width());
        float sum = 0;
        for (int64_t i = 0; i < parts; ++i) {
            sum += ws_.dots[static_cast<size_t>(r * dot_stride_ + i)];
        }
        const float* dy = dy_.row(token);
        for (size_t j = 0; j < expert.down_bias.size(); ++j) sum += dy[j] * expert.down_bias[j];
        return sum;
    }

    const MoeContext& c_;
    MoeWorkspace& ws_;
    const MoeSaved& saved_;
    MatrixView<const float> x_, dy_;
    const Gradients& out_;
    const ExpertKernels& kernels_;
    float (*differentiate_)(const HiddenGradientRow&) noexcept;
    int arrays_ = 0, rounded_ = 0;
    int64_t dot_stride_ = 0;
    bool stream_ = false;
    // A worker's scratch: for gemm_outer or a tile, panels, hidden rows of a whole expert.
    int64_t scratch_panels_ = 0, scratch_hidden_ = 0, scratch_size_ = 0;
};

}  // namespace

void moe_backward(const ExpertBank& bank, const RouteTable& routes, const MoeSaved& saved,
                  MatrixView<const float> x, MatrixView<const float> dy, MatrixView<float> dx,
                  std::span<float> dweights, std::span<const ExpertGradients> experts,
                  MoeWorkspace& workspace, Executor& executor, Compute compute, bool accumulate) {
    MUSTER_ASSERT(routes.num_experts == bank.size() && routes.tokens() == x.rows);
    MUSTER_ASSERT(differentiable(bank.activation));
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
