// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/head_matmul.h"

#include <algorithm>

#include "muster/core/buffer.h"
#include "muster/core/error.h"
#include "muster/kernels/matmul_stream.h"
#include "muster/kernels/panel_product.h"
#include "muster/quant/convert.h"

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
                       Executor& executor) {
    const auto heads = static_cast<int64_t>(w.size());
    const DType dtype = w[0].dtype;
    QuantizedRows quantized;  // row t * heads + h
    quantized.assign({x.data, x.rows * heads, w[0].cols, x.step}, activation_scale(dtype),
                     executor);
    Buffer<const QuantizedChunk*> rows(static_cast<size_t>(x.rows * heads));  // by head
    for (int64_t h = 0; h < heads; ++h)
        for (int64_t t = 0; t < x.rows; ++t) rows[h * x.rows + t] = quantized.row(t * heads + h);
    const PanelProductFn product = panel_product(dtype, current_isa());
    const int64_t parts = chunks(x.rows, kTaskRows);
    executor.run(static_cast<int>(heads * parts), [&](int task, int) {
        const int64_t h = task / parts, first = task % parts * kTaskRows;
        const MatrixView<float> out = head_of(y, heads, h, w[h].rows);
        product({w[h], 0, w[h].rows, rows.data() + h * x.rows + first,
                 std::min(kTaskRows, x.rows - first), out.row(first), out.stride});
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
                 Executor& executor, Compute compute) {
    check(x, w, y);
    if (effective_compute(compute, w[0].dtype) == Compute::int8)
        return multiply_integers(x, w, y, executor);
    MUSTER_ASSERT(w[0].layout == WeightLayout::rows);
    if (x.rows <= kStreamRows) return multiply_few(x, w, y, executor);
    const auto heads = static_cast<int64_t>(w.size());
    for (int64_t h = 0; h < heads; ++h)
        matmul(head_of(x, heads, h, w[h].cols), w[h], head_of(y, heads, h, w[h].rows), executor,
               compute);
}

void head_matmul_by_row(HeadView<const float> x, std::span<const WeightMatrix> w, HeadView<float> y,
                        Executor& executor, Compute compute) {
    check(x, w, y);
    const auto heads = static_cast<int64_t>(w.size());
    const bool plain = w[0].dtype == DType::f32 || w[0].dtype == DType::bf16;
    const bool exact = effective_compute(compute, w[0].dtype) == Compute::f32;
    Buffer<float> decoded(plain ? 0 : static_cast<size_t>(w[0].rows * w[0].cols));
    for (int64_t h = 0; h < heads; ++h) {
        WeightMatrix values = w[h];
        MUSTER_ASSERT(values.layout == WeightLayout::rows);
        if (!plain) {
            constexpr int64_t kRows = 16;
            executor.run(static_cast<int>(chunks(values.rows, kRows)), [&](int task, int) {
                const int64_t first = task * kRows;
                decode_row(w[h].dtype, w[h].row(first), decoded.data() + first * w[h].cols,
                           std::min(kRows, w[h].rows - first) * w[h].cols);
            });
            values.dtype = DType::f32;
            values.data = reinterpret_cast<const std::byte*>(decoded.data());
        }
        matmul_input_gradient(head_of(x, heads, h, values.rows), values,
                              head_of(y, heads, h, values.cols), executor,
                              exact ? Compute::f32 : Compute::bf16);
    }
}

}  // namespace muster
