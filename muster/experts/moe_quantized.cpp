// SPDX-License-Identifier: Apache-2.0
// Two phases of tasks and the combine. The tasks of the first make 256 columns of an expert's
// hidden layer for up to kTaskRows of its rows and quantise them, those of the second some columns
// of its result. Tokens are quantised once, whatever the number of their experts.
#include "muster/experts/moe_quantized.h"

#include <algorithm>

#include "muster/core/error.h"
#include "muster/experts/expert_kernels.h"
#include "muster/experts/moe_tasks.h"
#include "muster/kernels/panel_product.h"

namespace muster {
namespace {

constexpr int kTaskRows = 96;  // results of gate and up of a task: 192 KB
constexpr int64_t kHiddenColumns = kPanelChunk;
// Rows of results that lie a power of two apart share few lines of a cache: those of many rows are
// gathered first.
constexpr int kDirectRows = 16;

bool blocks(const WeightMatrix& w) noexcept { return dtype_info(w.dtype).block_elements > 1; }

class QuantizedForward {
  public:
    explicit QuantizedForward(const MoeContext& context)
        : c_(context),
          bank_(c_.bank),
          ws_(c_.workspace),
          plan_(c_.plan),
          kernels_(expert_kernels(c_.isa)),
          activate_(kernels_.forward[static_cast<size_t>(bank_.activation)]) {}

    void run(const RouteTable& routes, MatrixView<const float> x, MatrixView<float> y,
             bool accumulate) {
        const auto rows = static_cast<int64_t>(plan_.tokens.size());
        quantize_input(x);
        ws_.hidden_quantized.reserve(rows, bank_.max_width());
        ws_.rows.reserve(static_cast<size_t>(rows * bank_.d_model));
        plan_hidden();
        run_tasks([this](const MoeTask& t, float* scratch) { hidden(t, scratch); });
        plan_down();
        run_tasks([this](const MoeTask& t, float* scratch) { down(t, scratch); });
        for_tokens(c_.executor, routes.tokens(), [&](int t) {
            combine_rows(c_, kernels_, routes, t, routes.weights.data(), y.row(t), accumulate);
        });
    }

  private:
    const Expert& expert(int e) const noexcept { return bank_.experts[static_cast<size_t>(e)]; }

    /// Every activation's row as its expert's first products take it.
    void quantize_input(MatrixView<const float> x) {
        bool wanted[2] = {false, false};
        for (int e = 0; e < bank_.size(); ++e) {
            if (plan_.expert_rows(e) == 0) continue;
            wanted[static_cast<int>(activation_scale(expert(e).up.dtype))] = true;
            if (bank_.gated)
                wanted[static_cast<int>(activation_scale(expert(e).gate.dtype))] = true;
        }
        for (int scale = 0; scale < 2; ++scale) {
            if (!wanted[scale]) continue;
            ws_.quantized[scale].assign(x, static_cast<ActivationScale>(scale), c_.executor);
            ws_.quantized_rows[scale].reserve(plan_.tokens.size());
            for (size_t r = 0; r < plan_.tokens.size(); ++r) {
                ws_.quantized_rows[scale][r] = ws_.quantized[scale].row(plan_.tokens[r]);
            }
        }
    }

    /// Cuts columns [0, columns) and the rows of expert e.
    void add_tasks(int e, int64_t columns, int64_t step) {
        const int rows = plan_.expert_rows(e);
        const int first = plan_.expert_offsets[static_cast<size_t>(e)];
        const int parts = (rows + kTaskRows - 1) / kTaskRows;
        for (int64_t c = 0; c < columns; c += step) {
            for (int p = 0; p < parts; ++p) {
                ws_.tasks.push_back({e, 0, c, std::min(columns, c + step),
                                     first + static_cast<int>(int64_t{rows} * p / parts),
                                     first + static_cast<int>(int64_t{rows} * (p + 1) / parts)});
            }
        }
    }

    void plan_hidden() {
        ws_.tasks.clear();
        for (int e = 0; e < bank_.size(); ++e) add_tasks(e, expert(e).width(), kHiddenColumns);
    }

    void plan_down() {
        ws_.tasks.clear();
        for (int e = 0; e < bank_.size(); ++e) add_tasks(e, bank_.d_model, kHiddenColumns);
    }

    template <typename F>
    void run_tasks(F f) {
        constexpr int64_t kFloats = 2 * kTaskRows * kHiddenColumns;
        ws_.scratch.reserve(static_cast<size_t>(kFloats * c_.executor.workers()));
        c_.executor.run(static_cast<int>(ws_.tasks.size()), [&](int task, int worker) {
            f(ws_.tasks[static_cast<size_t>(task)], ws_.scratch.data() + worker * kFloats);
        });
    }

    /// The task's columns of w times its rows x.
    void product(const MoeTask& t, const WeightMatrix& w, const QuantizedChunk* const* x,
                 std::span<const float> bias, float* out, int64_t ldo) const noexcept {
        panel_product(w.dtype, c_.isa)({w, t.first, t.last, x, t.row_last - t.row_first, out, ldo});
        if (bias.empty()) return;
        for (int64_t i = 0; i < t.row_last - t.row_first; ++i) {
            for (int64_t j = t.first; j < t.last; ++j) {
                out[i * ldo + j - t.first] += bias[static_cast<size_t>(j)];
            }
        }
    }

    /// The task's rows of the layer's input, as products with w take them.
    const QuantizedChunk* const* input(const MoeTask& t, const WeightMatrix& w) const noexcept {
        return ws_.quantized_rows[static_cast<int>(activation_scale(w.dtype))].data() + t.row_first;
    }

    void hidden(const MoeTask& t, float* up) const noexcept {
        const Expert& e = expert(t.expert);
        const int64_t columns = t.last - t.first;
        float* gate = up + kTaskRows * kHiddenColumns;
        product(t, e.up, input(t, e.up), e.up_bias, up, columns);
        if (bank_.gated) product(t, e.gate, input(t, e.gate), e.gate_bias, gate, columns);
        const ActivationScale scale = activation_scale(e.down.dtype);
        for (int64_t i = 0; i < t.row_last - t.row_first; ++i) {
            float* values = up + i * columns;
            activate_({bank_.gated ? gate + i * columns : nullptr, values, values, columns});
            quantize_row(values, columns, scale,
                         ws_.hidden_quantized.row(t.row_first + i) + t.first / kPanelChunk);
        }
    }

    void down(const MoeTask& t, float* scratch) const noexcept {
        const Expert& e = expert(t.expert);
        const QuantizedChunk* rows[kTaskRows];
        for (int r = t.row_first; r < t.row_last; ++r) {
            rows[r - t.row_first] = ws_.hidden_quantized.row(r);
        }
        float* out = ws_.rows.data() + t.row_first * bank_.d_model + t.first;
        const int64_t count = t.row_last - t.row_first, columns = t.last - t.first;
        if (count <= kDirectRows) return product(t, e.down, rows, e.down_bias, out, bank_.d_model);
        product(t, e.down, rows, e.down_bias, scratch, columns);
        for (int64_t i = 0; i < count; ++i)
            std::copy_n(scratch + i * columns, columns, out + i * bank_.d_model);
    }

    const MoeContext& c_;
    const ExpertBank& bank_;
    MoeWorkspace& ws_;
    const DispatchPlan& plan_;
    const ExpertKernels& kernels_;
    void (*activate_)(const HiddenRow&) noexcept;
};

}  // namespace

bool quantized_bank(const ExpertBank& bank) noexcept {
    return std::all_of(bank.experts.begin(), bank.experts.end(), [&](const Expert& e) {
        return blocks(e.up) && blocks(e.down) && (!bank.gated || blocks(e.gate));
    });
}

void quantized_forward(const MoeContext& context, const RouteTable& routes,
                       MatrixView<const float> x, MatrixView<float> y, bool accumulate) {
    QuantizedForward(context).run(routes, x, y, accumulate);
}

}  // namespace muster
