// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/matmul.h"

#include <algorithm>

#include "muster/core/buffer.h"
#include "muster/core/error.h"
#include "muster/kernels/gemm.h"
#include "muster/kernels/matmul_stream.h"

namespace muster {
namespace {

// Rows of C that one task computes with one panel: enough to pay for packing it (which costs about
// as much as four rows of products), few enough to split a matrix with few panels over workers.
constexpr int64_t kRowChunk = 512;

struct Product {
    const GemmKernels& kernels;
    Isa isa;
    Compute compute;
    MatrixView<float> c;
    bool accumulate;
};

int64_t chunks(int64_t size, int64_t step) noexcept { return (size + step - 1) / step; }

// Pointers to the rows of x, and in bf16 a rounded copy of them that they point to instead.
struct RowOperand {
    Buffer<const float*> rows;
    Buffer<float> copy;

    RowOperand(const GemmKernels& kernels, Compute compute, MatrixView<const float> x,
               Executor& executor) {
        rows.reserve(static_cast<size_t>(x.rows));
        if (compute == Compute::f32) {
            for (int64_t i = 0; i < x.rows; ++i) rows[static_cast<size_t>(i)] = x.row(i);
            return;
        }
        // One cache line more than the row, so that rows of a power of two do not share a set.
        const int64_t stride = kernels.elements(compute, x.cols) + 16;
        copy.reserve(static_cast<size_t>(x.rows * stride));
        constexpr int64_t kRows = 32;
        executor.run(static_cast<int>(chunks(x.rows, kRows)), [&](int task, int) {
            const int64_t end = std::min(x.rows, (task + 1) * kRows);
            for (int64_t i = task * kRows; i < end; ++i) {
                float* row = copy.data() + i * stride;
                kernels.round_row(x.row(i), x.cols, row);
                rows[static_cast<size_t>(i)] = row;
            }
        });
    }
};

// Runs body(panel's first column, its columns, first row, last row, worker's scratch).
template <typename Body>
void for_panels(const Product& p, int64_t scratch_size, Executor& executor, Body body) {
    const int64_t panels = chunks(p.c.cols, p.kernels.nr);
    const int64_t row_chunks = chunks(p.c.rows, kRowChunk);
    const int64_t aligned = chunks(scratch_size, 16) * 16;
    Buffer<float> scratch(static_cast<size_t>(aligned * executor.workers()));
    executor.run(static_cast<int>(panels * row_chunks), [&](int task, int worker) {
        const int64_t first = task % panels * p.kernels.nr;
        const int64_t row = task / panels * kRowChunk;
        body(first, static_cast<int>(std::min<int64_t>(p.kernels.nr, p.c.cols - first)), row,
             std::min(p.c.rows, row + kRowChunk), scratch.data() + worker * aligned);
    });
}

void stream_matmul(MatrixView<const float> x, const WeightMatrix& w, MatrixView<float> y,
                   Executor& executor, bool accumulate) {
    const StreamFn product = stream_kernel(w.dtype, current_isa());
    const float* rows[kStreamRows];
    for (int64_t i = 0; i < x.rows; ++i) rows[i] = x.row(i);
    const int64_t step = stream_task_rows(w, w.bytes(), executor.workers());
    executor.run(static_cast<int>(chunks(w.rows, step)), [&](int task, int) {
        float out[kStreamRows * kStreamTaskRows];
        const int64_t first = task * step;
        const int64_t count = std::min(step, w.rows - first);
        product({w.row(first), w.row_bytes(), count, w.cols, rows, x.rows, out, kStreamTaskRows,
                 nullptr});
        for (int64_t i = 0; i < x.rows; ++i) {
            const float* from = out + i * kStreamTaskRows;
            float* to = y.row(i) + first;
            for (int64_t j = 0; j < count; ++j) to[j] = accumulate ? to[j] + from[j] : from[j];
        }
    });
}

void clear(MatrixView<float> c) noexcept {
    for (int64_t i = 0; i < c.rows; ++i) std::fill(c.row(i), c.row(i) + c.cols, 0.0f);
}

}  // namespace

void matmul(MatrixView<const float> x, const WeightMatrix& w, MatrixView<float> y,
            Executor& executor, Compute compute, bool accumulate) {
    MUSTER_ASSERT(x.rows == y.rows && x.cols == w.cols && y.cols == w.rows);
    if (x.rows <= kStreamRows) return stream_matmul(x, w, y, executor, accumulate);
    const Isa isa = current_isa();
    const Product p{gemm_kernels(isa), isa, compute, y, accumulate};
    const RowOperand operand(p.kernels, compute, x, executor);
    const int64_t k = p.kernels.elements(compute, x.cols);
    const int64_t size = k * p.kernels.nr + kPackScratch;
    for_panels(p, size, executor,
               [&](int64_t first, int cols, int64_t row, int64_t end, float* scratch) {
                   float* panel = scratch + kPackScratch;
                   pack_rows(p.kernels, compute, isa, w, first, cols, scratch, panel);
                   GemmBlock block;
                   block.a = operand.rows.data() + row;
                   block.rows = end - row;
                   block.k = k;
                   block.b = {panel, p.kernels.nr};
                   block.cols = cols;
                   block.c = y.row(row) + first;
                   block.ldc = y.stride;
                   block.accumulate = accumulate;
                   gemm_by_rows(p.kernels, compute, block);
               });
}

void matmul_input_gradient(MatrixView<const float> dy, const WeightMatrix& w, MatrixView<float> dx,
                           Executor& executor, Compute compute, bool accumulate) {
    MUSTER_ASSERT(dy.rows == dx.rows && dy.cols == w.rows && dx.cols == w.cols);
    MUSTER_ASSERT(w.dtype != DType::q8_0);
    const Isa isa = current_isa();
    const Product p{gemm_kernels(isa), isa, compute, dx, accumulate};
    const RowOperand operand(p.kernels, compute, dy, executor);
    const int64_t k = p.kernels.elements(compute, dy.cols);
    for_panels(p, k * p.kernels.nr, executor,
               [&](int64_t first, int cols, int64_t row, int64_t end, float* scratch) {
                   GemmBlock block;
                   block.a = operand.rows.data() + row;
                   block.rows = end - row;
                   block.k = k;
                   block.b = pack_cols(p.kernels, compute, isa, w, first, cols, scratch);
                   block.cols = cols;
                   block.c = dx.row(row) + first;
                   block.ldc = dx.stride;
                   block.accumulate = accumulate;
                   gemm_by_rows(p.kernels, compute, block);
               });
}

void matmul_weight_gradient(MatrixView<const float> dy, MatrixView<const float> x,
                            MatrixView<float> dw, Executor& executor, Compute compute,
                            bool accumulate) {
    MUSTER_ASSERT(dy.rows == x.rows && dw.rows == dy.cols && dw.cols == x.cols);
    if (dy.rows == 0) {
        if (!accumulate) clear(dw);
        return;
    }
    const Isa isa = current_isa();
    const Product p{gemm_kernels(isa), isa, compute, dw, accumulate};
    const int64_t k = p.kernels.elements(compute, dy.rows);
    Buffer<const float*> a_rows(static_cast<size_t>(dy.rows)), x_rows(static_cast<size_t>(x.rows));
    for (int64_t i = 0; i < dy.rows; ++i) {
        a_rows[static_cast<size_t>(i)] = dy.row(i);
        x_rows[static_cast<size_t>(i)] = x.row(i);
    }
    Buffer<float> a_copy;
    if (compute == Compute::bf16) {
        const int64_t values = p.kernels.bf16_values;
        a_copy.reserve(static_cast<size_t>(k * dy.cols));
        executor.run(static_cast<int>(k), [&](int i, int) {
            const int64_t count = std::min<int64_t>(values, dy.rows - i * values);
            pack_gathered(p.kernels, compute, a_rows.data() + i * values, count, 0, dy.cols,
                          a_copy.data() + i * dy.cols, dy.cols);
        });
        for (int64_t i = 0; i < k; ++i) {
            a_rows[static_cast<size_t>(i)] = a_copy.data() + i * dy.cols;
        }
    }
    // Tasks of several panels, which share what they read of A.
    constexpr int64_t kPanels = 4;
    const int64_t step = kPanels * p.kernels.nr;
    Buffer<float> scratch(static_cast<size_t>(kOuterScratch * executor.workers()));
    executor.run(static_cast<int>(chunks(dw.cols, step)), [&](int task, int worker) {
        OuterProduct product;
        product.a = a_rows.data();
        product.height = dw.rows;
        product.b = x_rows.data();
        product.count = x.rows;
        product.first = task * step;
        product.last = std::min(dw.cols, product.first + step);
        product.c = dw;
        product.accumulate = accumulate;
        gemm_outer(p.kernels, compute, product, scratch.data() + worker * kOuterScratch);
    });
}

}  // namespace muster
