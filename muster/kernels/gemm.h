// SPDX-License-Identifier: Apache-2.0
// The inner kernels of every matrix product with many rows: C tile += A * B panel, where A and B
// consist of 32-bit elements. In Compute::f32 an element is one value. In Compute::bf16 it holds
// `bf16_values` values that are neighbours along k: two bf16 where the instruction set multiplies
// such pairs, otherwise one value rounded to bf16 and kept as f32.
#pragma once

#include <cstdint>

#include "muster/core/tensor_view.h"
#include "muster/cpu/isa.h"
#include "muster/kernels/matmul.h"
#include "muster/quant/convert.h"

namespace muster {

/// C [m, nr] (=|+=) sum over k of A(i, k) * B(k, j), sums in f32 in ascending k.
struct GemmTile {
    const float* const* a = nullptr;  ///< pointers to rows of A or of its transpose (GemmKernels)
    int64_t a_offset = 0;             ///< first element within each of them
    const float* b = nullptr;         ///< B(k, j) = b[k * ldb + j]
    int64_t ldb = 0;
    float* c = nullptr;
    int64_t ldc = 0;
    int64_t k = 0;  ///< elements; may be 0
    bool accumulate = false;
    /// Past the caches, for results that nobody reads soon: c is aligned to 64 bytes and ldc a
    /// multiple of 16, `accumulate` is false, and fence() follows before others read C.
    bool stream = false;
    const std::byte* prefetch = nullptr;  ///< fetched at prefetch + k * step, k by k; never null
    int64_t prefetch_step = 0;            ///< bytes
};

using GemmTileFn = void (*)(const GemmTile& tile) noexcept;

constexpr int kMaxTileRows = 14;
constexpr int kMaxTileCols = 32;

/// One instruction set's kernels.
struct GemmKernels {
    int mr = 0;           ///< most rows of a tile
    int nr = 0;           ///< columns of a tile and of a panel
    int bf16_values = 0;  ///< values per element in Compute::bf16

    /// [compute][m - 1]. by_rows: A(i, k) = a[i][a_offset + k]. by_cols: A(i, k) = a[k][a_offset +
    /// i].
    GemmTileFn by_rows[2][kMaxTileRows] = {};
    GemmTileFn by_cols[2][kMaxTileRows] = {};

    /// panel [k][nr] = transpose of `count` <= nr rows of k elements; missing columns are zero.
    void (*transpose)(const float* const* rows, int count, int64_t k, float* panel) noexcept;
    /// n values -> elements(n) elements in Compute::bf16, neighbours along the row.
    void (*round_row)(const float* values, int64_t n, float* elements) noexcept;
    /// Two rows of n values -> n elements in Compute::bf16, when bf16_values == 2: element j holds
    /// (first[j], second[j]); a null second counts as zeros.
    void (*pair_rows)(const float* first, const float* second, int64_t n, float* elements) noexcept;

    void (*fence)() noexcept;

    int64_t elements(Compute compute, int64_t values) const noexcept {
        return compute == Compute::f32 ? values : (values + bf16_values - 1) / bf16_values;
    }
};

const GemmKernels& gemm_kernels(Isa isa) noexcept;

/// Per-worker memory that packing needs beside the panel, in floats.
constexpr int64_t kPackChunk = 256;  // values: 32 rows of them fill 32 KB, two thirds of L1
constexpr int64_t kPackScratch = kMaxTileCols * kPackChunk;

/// panel [elements(cols)][nr]: rows [first, first + count) of w, transposed; count <= nr.
/// `scratch`: kPackScratch floats.
void pack_rows(const GemmKernels& kernels, Compute compute, Isa isa, const WeightMatrix& w,
               int64_t first, int count, float* scratch, float* panel) noexcept;

/// A panel of B in memory: element (k, j) at data[k * ldb + j].
struct PanelRef {
    const float* data = nullptr;
    int64_t ldb = 0;
};

/// [elements(rows)][nr]: columns [first, first + count) of w (f32, f16 or bf16), neighbours along
/// its rows. Points into w itself where that will do, otherwise to `panel`, which it fills.
PanelRef pack_cols(const GemmKernels& kernels, Compute compute, Isa isa, const WeightMatrix& w,
                   int64_t first, int count, float* panel) noexcept;

/// out [elements(count)][ld], `cols` elements written per row: columns [first, first + cols) of
/// `count` rows, neighbours along the rows' direction. What is B of a weight gradient as a panel
/// (cols <= nr = ld; the rest of nr is zeroed) and, in bf16, its A as a whole.
void pack_gathered(const GemmKernels& kernels, Compute compute, const float* const* rows,
                   int64_t count, int64_t first, int64_t cols, float* out, int64_t ld) noexcept;

/// What to fetch into the cache while a product runs, usually the next panel's weights: tile i of
/// the first `tiles` fetches data + i * tile_step + k * step for each of its k.
struct Prefetch {
    const std::byte* data = nullptr;
    int64_t step = 0, tile_step = 0, tiles = 0;

    void apply(int64_t tile, GemmTile& t) const noexcept {
        const bool useful = tile < tiles;
        t.prefetch = useful ? data + tile * tile_step : reinterpret_cast<const std::byte*>(t.b);
        t.prefetch_step = useful ? step : 0;
    }
};

/// Rows [first, first + count) of w, spread over a product of `rows` rows and k elements.
Prefetch prefetch_rows(const GemmKernels& kernels, const WeightMatrix& w, int64_t first,
                       int64_t count, int64_t rows, int64_t k) noexcept;
/// Columns [first, first + count) of w, over a product of `rows` rows.
Prefetch prefetch_cols(const GemmKernels& kernels, const WeightMatrix& w, int64_t first,
                       int64_t count, int64_t rows, int64_t k) noexcept;

/// One B panel against many rows of A.
struct GemmBlock {
    const float* const* a = nullptr;  ///< [rows]; or, by_cols, [k]
    int64_t a_offset = 0;
    int64_t rows = 0;
    int64_t k = 0;
    PanelRef b;
    int cols = 0;  ///< of the panel's nr, how many C has
    float* c = nullptr;
    int64_t ldc = 0;
    bool accumulate = false;
    bool stream = false;  ///< as in GemmTile, without its conditions
    Prefetch prefetch;
};

/// C [rows, cols] (=|+=) A B. Rows are cut into tiles of equal height.
void gemm_by_rows(const GemmKernels& kernels, Compute compute, const GemmBlock& block) noexcept;
void gemm_by_cols(const GemmKernels& kernels, Compute compute, const GemmBlock& block) noexcept;

/// C [height, last - first] (=|+=) A^T B, the sum over `count` rows: a weight gradient.
struct OuterProduct {
    /// Rows of A: [count] in Compute::f32, otherwise the [elements(count)] rows that pack_gathered
    /// makes of them.
    const float* const* a = nullptr;
    int64_t height = 0;
    const float* const* b = nullptr;  ///< [count] f32 rows in either case
    int64_t count = 0;
    int64_t first = 0, last = 0;  ///< columns of B and C; first is a multiple of nr
    MatrixView<float> c;
    bool accumulate = false;
    bool stream = false;
};

/// Floats of scratch that gemm_outer needs: its packed columns of B, half of a 1 MB second-level
/// cache.
constexpr int64_t kOuterScratch = int64_t{128} << 10;

void gemm_outer(const GemmKernels& kernels, Compute compute, const OuterProduct& product,
                float* scratch) noexcept;

/// Height of the tiles that gemm_by_* cut `rows` rows into; the last may be lower.
int64_t tile_height(const GemmKernels& kernels, int64_t rows) noexcept;

}  // namespace muster
