// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/head_matmul.h"

#include <algorithm>

#include "muster/core/buffer.h"
#include "muster/core/error.h"
#include "muster/kernels/matmul_stream.h"
#include "muster/kernels/panel_product.h"

namespace muster {
namespace {

constexpr int64_t kTaskRows = 64;  // activation rows of an integer task

int64_t chunks(int64_t size, int64_t step) noexcept { return (size + step - 1) / step; }

/// Head h alone; all heads side by side in `stride` values of a row.
template <typename T>
MatrixView<T> head_of(HeadView<T> x, int64_t heads, int64_t h, int64_t cols) {
    return {x.data + h * x.step, x.rows, cols, heads * x.step};
}

void check(HeadView<const float> x, std::span<const WeightMatrix> w, HeadView<float> y) {
    MUSTER_ASSERT(!w.empty() && x.rows == y.rows);
    for (const WeightMatrix& m : w)
        MUSTER_ASSERT(m.rows == w[0].rows && m.cols == w[0].cols && m.dtype == w[0].dtype &&
                      m.layout == w[0].layout);
}

/// Heads, and stretches of rows, side by side: one head's product is little work.
void multiply_integers(HeadView<const float> x, std::span<const WeightMatrix> w, HeadView<float> y,
                       Executor& executor, MatmulWorkspace& workspace) {
    const auto heads = static_cast<int64_t>(w.size());
    const DType dtype = w[0].dtype;
    QuantizedRows& quantized = workspace.quantized;  // row t * heads + h
    quantized.assign({x.data, x.rows * heads, w[0].cols, x.step}, activation_scale(dtype),
                     executor);
    workspace.rows.reserve(static_cast<size_t>(x.rows * heads));
    const QuantizedChunk** rows = workspace.rows.data();  // by head
    for (int64_t h = 0; h < heads; ++h)
        for (int64_t t = 0; t < x.rows; ++t) rows[h * x.rows + t] = quantized.row(t * heads + h);
    const PanelProductFn product = panel_product(dtype, current_isa());
    const int64_t parts = chunks(x.rows, kTaskRows);
    executor.run(static_cast<int>(heads * parts), [&](int task, int) {
        const int64_t h = task / parts, first = task % parts * kTaskRows;
        const MatrixView<float> out = head_of(y, heads, h, w[h].rows);
        product({w[h], 0, w[h].rows, rows + h * x.rows + first, std::min(kTaskRows, x.rows - first),
                 out.row(first), out.stride});
    });
}

void multiply_few(HeadView<const float> x, std::span<const WeightMatrix> w, HeadView<float> y,
                  Executor& executor) {
    const auto heads = static_cast<int64_t>(w.size());
    const StreamFn product = stream_kernel(w[0].dtype, current_isa());
    const int64_t parts = chunks(w[0].rows, kStreamTaskRows);
    executor.run(static_cast<int>(heads * parts), [&](int task, int) {
        const int64_t h = task / parts, first = task % parts * kStreamTaskRows;
        const MatrixView<const float> in = head_of(x, heads, h, w[h].cols);
        const MatrixView<float> out = head_of(y, heads, h, w[h].rows);
        const float* rows[kStreamRows];
        for (int64_t t = 0; t < in.rows; ++t) rows[t] = in.row(t);
        product({w[h].row(first), w[h].row_bytes(), std::min(kStreamTaskRows, w[h].rows - first),
                 w[h].cols, rows, in.rows, out.data + first, out.stride, nullptr});
    });
}

}  // namespace

void head_matmul(HeadView<const float> x, std::span<const WeightMatrix> w, HeadView<float> y,
                 Executor& executor, Compute compute, MatmulWorkspace* workspace) {
    check(x, w, y);
    if (effective_compute(compute, w[0].dtype) == Compute::int8) {
        MatmulWorkspace own;
        return multiply_integers(x, w, y, executor, workspace != nullptr ? *workspace : own);
    }
    MUSTER_ASSERT(w[0].layout == WeightLayout::rows);
    if (x.rows <= kStreamRows) return multiply_few(x, w, y, executor);
    const auto heads = static_cast<int64_t>(w.size());
    for (int64_t h = 0; h < heads; ++h)
        matmul(head_of(x, heads, h, w[h].cols), w[h], head_of(y, heads, h, w[h].rows), executor,
               compute, false, workspace);
}

}  // namespace muster
