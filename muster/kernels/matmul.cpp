// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/matmul.h"

#include <algorithm>
#include <array>

#include "muster/core/buffer.h"
#include "muster/core/error.h"
#include "muster/kernels/gemm.h"
#include "muster/kernels/gemm_pack.h"
#include "muster/kernels/matmul_stream.h"
#include "muster/kernels/panel_product.h"

namespace muster {
namespace {

// Elements of B that a task keeps packed: a quarter of a 1 MB second-level cache, beside the rows
// of A and C that pass through it; 256 columns of sums over kDepth elements (the next step adds to
// C). Few columns would read (and in bf16 round) A more often, short sums C.
constexpr int64_t kPanelElements = int64_t{64} << 10;
constexpr int64_t kDepth = 256;

int64_t chunks(int64_t size, int64_t step) noexcept { return (size + step - 1) / step; }

// How C is cut into tasks: a row chunk and a column chunk each. Results do not depend on it.
struct Grid {
    int64_t rows, cols;  ///< of a chunk
    int64_t row_chunks, col_chunks;

    // Starts from the largest chunks and halves them until every worker has several tasks: the
    // columns first, for B is packed again for each row chunk.
    Grid(MatrixView<float> c, int64_t most_rows, int64_t row_unit, int64_t most_cols,
         int64_t col_unit, int workers)
        : rows(most_rows), cols(std::min(most_cols, chunks(c.cols, col_unit) * col_unit)) {
        const auto tasks = [&] { return chunks(c.rows, rows) * chunks(c.cols, cols); };
        while (tasks() < 4 * workers && cols > col_unit) {
            cols = chunks(cols / 2, col_unit) * col_unit;
        }
        while (tasks() < 4 * workers && rows > 4 * row_unit) {
            rows = chunks(rows / 2, row_unit) * row_unit;
        }
        row_chunks = chunks(c.rows, rows);
        col_chunks = chunks(c.cols, cols);
    }
    int tasks() const noexcept { return static_cast<int>(row_chunks * col_chunks); }
};

// c (=|+=) x B, sums of `k` values; pack(range, scratch, panels) brings parts of B.
template <typename Pack>
void multiply_rows(const GemmKernels& kernels, Compute compute, MatrixView<const float> x,
                   MatrixView<float> c, Executor& executor, bool accumulate,
                   MatmulWorkspace& workspace, Pack pack) {
    const int64_t depth = kDepth * (kernels.pairs(compute) ? 2 : 1);  // values
    const int64_t k = kernels.elements(compute, std::min(depth, x.cols));
    const int64_t nr = kernels.nr;
    const int64_t panels = std::max<int64_t>(1, kPanelElements / std::max<int64_t>(1, k * nr));
    const Grid grid(c, 36 * kernels.mr, kernels.mr, panels * nr, nr, executor.workers());
    workspace.float_rows.reserve(static_cast<size_t>(x.rows));
    const float** rows = workspace.float_rows.data();
    for (int64_t i = 0; i < x.rows; ++i) rows[i] = x.row(i);
    const int64_t rounded = compute == Compute::bf16 ? GemmRows::round_size(k) : 0;
    const int64_t size = kPackScratch + rounded + k * grid.cols;
    workspace.packed.reserve(static_cast<size_t>(size * executor.workers()));
    float* scratch = workspace.packed.data();
    executor.run(grid.tasks(), [&](int task, int worker) {
        float* mine = scratch + worker * size;
        const int64_t row = task / grid.col_chunks * grid.rows;
        const int64_t first = task % grid.col_chunks * grid.cols;
        GemmRows product;
        product.a = rows + row;
        product.rounded = rounded > 0 ? mine + kPackScratch : nullptr;
        product.rows = std::min(grid.rows, c.rows - row);
        product.cols = std::min(grid.cols, c.cols - first);
        product.c = c.row(row) + first;
        product.ldc = c.stride;
        for (int64_t start = 0; start == 0 || start < x.cols; start += depth) {
            const int64_t end = std::min(x.cols, start + depth);
            const PackRange range{first, first + product.cols, start, end};
            product.b = pack(range, mine, mine + kPackScratch + rounded);
            product.a_offset = start;
            product.values = end - start;
            product.k = kernels.elements(compute, end - start);
            product.accumulate = accumulate || start > 0;
            gemm_rows(kernels, compute, product);
        }
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

constexpr size_t kMostProducts = 4;

/// How several products are cut into tasks, one after the other.
struct PanelGrids {
    PanelGrids(int64_t rows, std::span<const Product> products, int workers) {
        for (const Product& p : products) {
            grids[count] = PanelGrid(rows, *p.w, workers);
            tasks += grids[count++].tasks();
        }
    }
    std::array<PanelGrid, kMostProducts> grids;
    size_t count = 0;
    int tasks = 0;
};

/// Rows of y that lie a power of two apart share few lines of a cache: results for many of them are
/// gathered first.
constexpr int64_t kDirectRows = 16;

void panel_task(const Product& p, const PanelGrid::Part& part, const QuantizedChunk* const* rows,
                PanelProductFn product, bool accumulate) noexcept {
    const WeightMatrix& w = *p.w;
    const MatrixView<float>& y = p.y;
    if (!accumulate && part.rows <= kDirectRows)
        return product({w, part.first, part.last, rows + part.row, part.rows,
                        y.row(part.row) + part.first, y.stride});
    alignas(64) float out[PanelGrid::kOutputs];
    const int64_t cols = part.last - part.first;
    product({w, part.first, part.last, rows + part.row, part.rows, out, cols});
    for (int64_t i = 0; i < part.rows; ++i) {
        const float* from = out + i * cols;
        float* to = y.row(part.row + i) + part.first;
        for (int64_t j = 0; j < cols; ++j) to[j] = accumulate ? to[j] + from[j] : from[j];
    }
}

void quantized_products(MatrixView<const float> x, std::span<const Product> products,
                        Executor& executor, bool accumulate, MatmulWorkspace& workspace) {
    QuantizedRows& quantized = workspace.quantized;
    quantized.assign(x, activation_scale(products[0].w->dtype), executor);
    workspace.rows.reserve(static_cast<size_t>(x.rows));
    const QuantizedChunk** rows = workspace.rows.data();
    for (int64_t i = 0; i < x.rows; ++i) rows[i] = quantized.row(i);
    const PanelGrids all(x.rows, products, executor.workers());
    executor.run(all.tasks, [&](int task, int) {
        size_t i = 0;
        while (task >= all.grids[i].tasks()) task -= all.grids[i++].tasks();
        panel_task(products[i], all.grids[i].part(task), rows,
                   panel_product(products[i].w->dtype, current_isa()), accumulate);
    });
}

void clear(MatrixView<float> c) noexcept {
    for (int64_t i = 0; i < c.rows; ++i) std::fill(c.row(i), c.row(i) + c.cols, 0.0f);
}

}  // namespace

Compute effective_compute(Compute compute, DType dtype) noexcept {
    if (compute != Compute::int8 || dtype_info(dtype).block_elements > 1) return compute;
    return dtype == DType::f32 ? Compute::f32 : Compute::bf16;
}

void matmul(MatrixView<const float> x, const WeightMatrix& w, MatrixView<float> y,
            Executor& executor, Compute compute, bool accumulate, MatmulWorkspace* workspace) {
    MUSTER_ASSERT(x.rows == y.rows && x.cols == w.cols && y.cols == w.rows);
    compute = effective_compute(compute, w.dtype);
    MatmulWorkspace own;
    if (workspace == nullptr) workspace = &own;
    if (compute == Compute::int8) {
        const Product product{&w, y};
        return quantized_products(x, {&product, 1}, executor, accumulate, *workspace);
    }
    MUSTER_ASSERT(w.layout == WeightLayout::rows);
    if (x.rows <= kStreamRows) return stream_matmul(x, w, y, executor, accumulate);
    const Isa isa = current_isa();
    const GemmKernels& kernels = gemm_kernels(isa);
    multiply_rows(kernels, compute, x, y, executor, accumulate, *workspace,
                  [&](const PackRange& range, float* scratch, float* panels) {
                      return pack_rows(kernels, compute, isa, w, range, scratch, panels);
                  });
}

void matmul_each(MatrixView<const float> x, std::span<const Product> products, Executor& executor,
                 Compute compute, MatmulWorkspace& workspace) {
    MUSTER_ASSERT(products.size() <= kMostProducts);
    const bool together = std::all_of(products.begin(), products.end(), [&](const Product& p) {
        return effective_compute(compute, p.w->dtype) == Compute::int8 &&
               activation_scale(p.w->dtype) == activation_scale(products[0].w->dtype);
    });
    if (together && !products.empty()) {
        for (const Product& p : products)
            MUSTER_ASSERT(x.rows == p.y.rows && x.cols == p.w->cols && p.y.cols == p.w->rows);
        return quantized_products(x, products, executor, false, workspace);
    }
    for (const Product& p : products) matmul(x, *p.w, p.y, executor, compute, false, &workspace);
}

void matmul_input_gradient(MatrixView<const float> dy, const WeightMatrix& w, MatrixView<float> dx,
                           Executor& executor, Compute compute, bool accumulate) {
    MUSTER_ASSERT(dy.rows == dx.rows && dy.cols == w.rows && dx.cols == w.cols);
    MUSTER_ASSERT(dtype_info(w.dtype).block_elements == 1);
    const Isa isa = current_isa();
    const GemmKernels& kernels = gemm_kernels(isa);
    MatmulWorkspace workspace;
    multiply_rows(kernels, compute, dy, dx, executor, accumulate, workspace,
                  [&](const PackRange& range, float*, float* panels) {
                      return pack_cols(kernels, compute, isa, w, range, panels);
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
    const GemmKernels& kernels = gemm_kernels(current_isa());
    Buffer<const float*> rows(static_cast<size_t>(2 * dy.rows));
    const float** x_rows = rows.data() + dy.rows;
    for (int64_t i = 0; i < dy.rows; ++i) {
        rows[static_cast<size_t>(i)] = dy.row(i);
        x_rows[i] = x.row(i);
    }
    // Both sides are packed again for each task: 256 columns of either cost about a tenth.
    const Grid grid(dw, 18 * kernels.mr, kernels.mr, 256, kernels.nr, executor.workers());
    Buffer<float> scratch(static_cast<size_t>(kOuterScratch * executor.workers()));
    executor.run(grid.tasks(), [&](int task, int worker) {
        GemmOuter product;
        product.a[0] = rows.data();
        product.b = x_rows;
        product.count = x.rows;
        product.m_first = task / grid.col_chunks * grid.rows;
        product.m_last = std::min(dw.rows, product.m_first + grid.rows);
        product.first = task % grid.col_chunks * grid.cols;
        product.last = std::min(dw.cols, product.first + grid.cols);
        product.c[0] = dw;
        product.accumulate = accumulate;
        gemm_outer(kernels, compute, product, scratch.data() + worker * kOuterScratch);
    });
}

}  // namespace muster
