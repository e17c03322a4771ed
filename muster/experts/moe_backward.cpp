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
          differentiate_(
              activation_kernels(c_.isa).backward[static_cast<size_t>(c_.bank.activation)]) {}

    void run(const RouteTable& routes) {
        plan_experts(c_, 0);
        prepare();
        gather_operand(c_, dy_);
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

    void prepare() {
        const size_t rows = c_.plan.tokens.size();
        const int64_t d = c_.bank.d_model, nr = c_.gemm.nr, widest = c_.bank.max_width();
        const bool bf16 = c_.compute == Compute::bf16;
        arrays_ = bf16 ? 5 : c_.matrices() + 1;
        rounded_ = bf16 ? 2 : 0;  // from kUp to kUpRounded
        const int64_t hidden = place_split_hidden(c_, arrays_);
        dot_stride_ = (widest + nr - 1) / nr;
        ws_.dots.reserve(rows * static_cast<size_t>(dot_stride_));
        if (out_.dx.data != nullptr) ws_.rows.reserve(rows * static_cast<size_t>(d));
        ws_.x_rows.reserve(rows);
        for (size_t r = 0; r < rows; ++r) ws_.x_rows[r] = x_.row(c_.plan.tokens[r]);

        int64_t longest = 0, weights = 0;
        for (int e = 0; e < c_.bank.size(); ++e) {
            longest = std::max<int64_t>(longest, c_.plan.expert_rows(e));
            weights += c_.expert(e).width() * d * (c_.matrices() + 1);
        }
        stream_ = weights * static_cast<int64_t>(sizeof(float)) > kStreamBytes;
        const int64_t panels = nr * std::max(c_.elements(d), c_.matrices() * c_.elements(widest));
        scratch_pairs_ = std::max(kTile + panels, kOuterScratch);
        const int64_t pairs = bf16 ? c_.elements(longest) * std::max(d, widest) : 0;
        scratch_pointers_ = (scratch_pairs_ + pairs + 1) / 2 * 2;
        scratch_hidden_ = scratch_pointers_ + 2 * longest;
        scratch_size_ = scratch_hidden_ + hidden;
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

    // Wide tasks: what they read of A they read (and in bf16 pair) again for each.
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

    void run_task(MoeTask t, float* scratch) noexcept {
        const Expert& expert = c_.expert(t.expert);
        const int64_t d = c_.bank.d_model;
        switch (t.kind) {
            case kWhole:
                place_hidden(c_, t.expert, arrays_, scratch + scratch_hidden_);
                t.last = expert.width();
                hidden(t, scratch);
                down_weights(t, scratch);
                t.last = d;
                if (out_.dx.data != nullptr) input(t, scratch);
                up_weights(t, scratch);
                return biases(t.expert);
            case kHidden:
                return hidden(t, scratch);
            case kInput:
                return input(t, scratch);
            case kUpWeights:
                return up_weights(t, scratch);
            case kDownWeights:
                return down_weights(t, scratch);
            case kBiases:
                return biases(t.expert);
            default:
                return clear(t.expert);
        }
    }

    void hidden(const MoeTask& t, float* scratch) noexcept {
        const WeightMatrix& down = c_.expert(t.expert).down;
        const int64_t k = c_.elements(c_.bank.d_model);
        const int nr = c_.gemm.nr;
        const int64_t rows = t.row_last - t.row_first;
        const int64_t height = tile_height(c_.gemm, rows);
        for (int64_t f = t.first; f < t.last; f += nr) {
            const int cols = static_cast<int>(std::min<int64_t>(nr, t.last - f));
            const PanelRef panel =
                pack_cols(c_.gemm, c_.compute, c_.isa, down, f, cols, scratch + kTile);
            const Prefetch next = prefetch_cols(c_.gemm, down, f + nr,
                                                std::min<int64_t>(nr, t.last - f - nr), rows, k);
            int64_t index = 0;
            for (int64_t r = t.row_first; r < t.row_last; r += height, ++index) {
                const int64_t m = std::min<int64_t>(height, t.row_last - r);
                GemmTile tile;
                tile.a = ws_.operand_rows.data() + r;
                tile.b = panel.data;
                tile.ldb = panel.ldb;
                tile.c = scratch;
                tile.ldc = nr;
                tile.k = k;
                next.apply(index, tile);
                prefetch_saved(r, m, f);
                c_.gemm.by_rows[static_cast<int>(c_.compute)][m - 1](tile);
                for (int64_t i = 0; i < m; ++i) hidden_row(r + i, f, scratch + i * nr, cols);
            }
        }
    }

    // The tile's pre-activations come from far away, in pieces too short for the hardware to
    // guess; they arrive while its product runs.
    void prefetch_saved(int64_t first, int64_t m, int64_t f) const noexcept {
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
    void input(const MoeTask& t, float* scratch) noexcept {
        const Expert& expert = c_.expert(t.expert);
        const int64_t d = c_.bank.d_model;
        const int64_t nr = c_.gemm.nr;
        const WeightMatrix* weights[2] = {&expert.up, &expert.gate};
        GemmBlock block;
        block.k = c_.elements(expert.width());
        block.rows = t.row_last - t.row_first;
        block.ldc = d;
        for (int64_t j = t.first; j < t.last; j += nr) {
            block.cols = static_cast<int>(std::min(nr, t.last - j));
            block.c = ws_.rows.data() + t.row_first * d + j;
            for (int i = 0; i < c_.matrices(); ++i) {
                block.a = ws_.hidden_rows[kUp + rounded_ + i].data() + t.row_first;
                block.b =
                    pack_cols(c_.gemm, c_.compute, c_.isa, *weights[i], j, block.cols, scratch);
                block.accumulate = i > 0;
                block.prefetch = prefetch_cols(c_.gemm, *weights[i], j + nr,
                                               std::min(nr, t.last - j - nr), block.rows, block.k);
                gemm_by_rows(c_.gemm, c_.compute, block);
            }
        }
    }

    void up_weights(const MoeTask& t, float* scratch) noexcept {
        const ExpertGradients& g = gradients(t.expert);
        const int64_t ff = c_.expert(t.expert).width();
        const float* const* x = ws_.x_rows.data();
        if (g.up.data != nullptr) {
            weights(t, ws_.hidden_rows[kUp].data(), ff, x, g.up, scratch);
        }
        if (g.gate.data != nullptr) {
            weights(t, ws_.hidden_rows[kGate].data(), ff, x, g.gate, scratch);
        }
    }

    void down_weights(const MoeTask& t, float* scratch) noexcept {
        const ExpertGradients& g = gradients(t.expert);
        if (g.down.data == nullptr) return;
        weights(t, nullptr, c_.bank.d_model, ws_.hidden_rows[kWeighted].data(), g.down, scratch);
    }

    // out (=|+=) left^T right over the task's rows, columns [first, last). A null `left` means the
    // rows of dy (workspace.operand_rows may point to rounded ones).
    void weights(const MoeTask& t, const float* const* left, int64_t height,
                 const float* const* right, MatrixView<float> out, float* scratch) noexcept {
        auto* pointers = reinterpret_cast<const float**>(scratch + scratch_pointers_);
        const int64_t count = t.row_last - t.row_first;
        if (left == nullptr) {
            for (int64_t i = 0; i < count; ++i) {
                pointers[i] = dy_.row(c_.plan.tokens[static_cast<size_t>(t.row_first + i)]);
            }
        }
        OuterProduct p;
        p.a = left != nullptr ? left + t.row_first : pointers;
        if (c_.compute == Compute::bf16) {
            float* pairs = scratch + scratch_pairs_;
            pack_gathered(c_.gemm, c_.compute, p.a, count, 0, height, pairs, height);
            for (int64_t i = 0; i < c_.elements(count); ++i) pointers[i] = pairs + i * height;
            p.a = pointers;
        }
        p.height = height;
        p.b = right + t.row_first;
        p.count = count;
        p.first = t.first;
        p.last = t.last;
        p.c = out;
        p.accumulate = out_.accumulate;
        p.stream = stream_;
        gemm_outer(c_.gemm, c_.compute, p, scratch);
    }

    void biases(int e) noexcept {
        const ExpertGradients& g = gradients(e);
        const std::span<float> spans[3] = {g.gate_bias, g.up_bias, g.down_bias};
        const int first = c_.first_row(e), last = first + c_.plan.expert_rows(e);
        for (int which = 0; which < 3; ++which) {
            const std::span<float> out = spans[which];
            if (out.empty()) continue;
            if (!out_.accumulate) std::fill(out.begin(), out.end(), 0.0f);
            for (int r = first; r < last; ++r) {
                const size_t row = static_cast<size_t>(r);
                const float* values = which == 0   ? ws_.hidden_rows[kGate][row]
                                      : which == 1 ? ws_.hidden_rows[kUp][row]
                                                   : dy_.row(c_.plan.tokens[row]);
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
                const float* row = ws_.rows.data() + r * d;
                for (int64_t j = 0; j < d; ++j) dx[j] += row[j];
            }
        });
    }

    float dweight(int64_t r, int token, int e) const noexcept {
        const Expert& expert = c_.expert(e);
        const int64_t parts = (expert.width() + c_.gemm.nr - 1) / c_.gemm.nr;
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
    float (*differentiate_)(const HiddenGradientRow&) noexcept;
    int arrays_ = 0, rounded_ = 0;
    int64_t dot_stride_ = 0;
    bool stream_ = false;
    // A worker's scratch: panels and a tile; A in pairs of rows (bf16); pointers to rows; hidden
    // rows of a whole expert.
    int64_t scratch_pairs_ = 0, scratch_pointers_ = 0, scratch_hidden_ = 0, scratch_size_ = 0;
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
