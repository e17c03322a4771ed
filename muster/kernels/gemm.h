// SPDX-License-Identifier: Apache-2.0
// The inner kernels of every matrix product with many rows: C tile += A * B panel, where A and B
// consist of 32-bit elements. In Compute::f32 an element is one value. In Compute::bf16 it holds
// `bf16_values` values that are neighbours along k: two bf16 where the instruction set multiplies
// such pairs, otherwise one value rounded to bf16 and kept as f32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "muster/cpu/isa.h"
#include "muster/kernels/matmul.h"

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
    /// The address of what is fetched at prefetch + k * step, k by k; it may lie past the end of
    /// an array.
    uintptr_t prefetch = 0;
    int64_t prefetch_step = 0;  ///< bytes
};

using GemmTileFn = void (*)(const GemmTile& tile) noexcept;

constexpr int kMaxTileRows = 14;
constexpr int kMaxTileCols = 32;

/// One instruction set's kernels.
struct GemmKernels {
    int mr = 0;           ///< most rows of a tile
    int nr = 0;           ///< columns of a tile and of a panel
    int bf16_values = 0;  ///< values per element in Compute::bf16

    /// [compute][m - 1]. by_rows: A(i, k) = a[i][a_offset + k]. by_cols: A(i, k) =
    /// a[0][k * a_offset + i].
    GemmTileFn by_rows[2][kMaxTileRows] = {};
    GemmTileFn by_cols[2][kMaxTileRows] = {};

    /// panel [k][nr] = transpose of `count` <= nr rows of k elements; missing columns are zero.
    void (*transpose)(const float* const* rows, int count, int64_t k, float* panel) noexcept;
    /// n values -> elements(n) elements in Compute::bf16, neighbours along the row.
    void (*round_row)(const float* values, int64_t n, float* elements) noexcept;
    /// Two rows of n values -> n elements in Compute::bf16, when bf16_values == 2: element j holds
    /// (first[j], second[j]); a null second counts as zeros. Each nr elements lie `stride` from the
    /// nr before (stride == nr: one row).
    void (*pair_rows)(const float* first, const float* second, int64_t n, float* elements,
                      int64_t stride) noexcept;
    /// The same for one row of f32.
    void (*copy_row)(const float* values, int64_t n, float* elements, int64_t stride) noexcept;
    void (*fence)() noexcept;

    int64_t elements(Compute compute, int64_t values) const noexcept {
        return compute == Compute::f32 ? values : (values + bf16_values - 1) / bf16_values;
    }
    /// Whether neighbours along k share an element.
    bool pairs(Compute compute) const noexcept {
        return compute == Compute::bf16 && bf16_values == 2;
    }
    int64_t panels(int64_t cols) const noexcept { return (cols + nr - 1) / nr; }
    int64_t row_tiles(int64_t rows) const noexcept { return (rows + mr - 1) / mr; }
};

const GemmKernels& gemm_kernels(Isa isa) noexcept;

/// What to fetch into the cache while a product runs, usually the next panels' weights: tile i of
/// the first `tiles` fetches data + i / fold * tile_step + i % fold * fold_step + k * step for each
/// of its k.
struct Prefetch {
    const std::byte* data = nullptr;
    int64_t tiles = 0, step = 0, tile_step = 0, fold = 1, fold_step = 0;

    void apply(int64_t tile, GemmTile& t) const noexcept {
        if (tile < tiles) {
            t.prefetch = reinterpret_cast<uintptr_t>(data) + tile / fold * tile_step +
                         tile % fold * fold_step;
            t.prefetch_step = step;
        } else {
            t.prefetch = reinterpret_cast<uintptr_t>(t.b);
            t.prefetch_step = 0;
        }
    }
};

/// Panels of B in memory: element (k, j) of panel p at data[p * stride + k * ldb + j].
struct Panels {
    const float* data = nullptr;
    int64_t ldb = 0;
    int64_t stride = 0;
};

/// C [rows, cols] (=|+=) A B, a row of tiles after the other.
struct GemmRows {
    const float* const* a = nullptr;  ///< [rows] of elements, or of f32 values where `rounded`
    int64_t a_offset = 0;             ///< first element or value of each
    /// Room for round_size() floats, where A has to be rounded to bf16 first. Null: A is elements.
    float* rounded = nullptr;
    int64_t values = 0;  ///< of A's rows, where `rounded`
    int64_t rows = 0;
    int64_t k = 0;
    Panels b;
    int64_t cols = 0;
    float* c = nullptr;
    int64_t ldc = 0;
    bool accumulate = false;
    Prefetch prefetch;

    /// Rounded rows lie one cache line further apart than they need: k may be a power of two.
    static constexpr int64_t round_stride(int64_t k) noexcept { return k + 16; }
    static constexpr int64_t round_size(int64_t k) noexcept {
        return kMaxTileRows * round_stride(k);
    }
};

void gemm_rows(const GemmKernels& kernels, Compute compute, const GemmRows& product) noexcept;

/// One or two weight gradients with the same right side: c[i] rows [m_first, m_last), columns
/// [first, last) (=|+=) a[i]^T b, sums over `count` rows, all operands f32.
struct GemmOuter {
    const float* const* a[2] = {};    ///< [count] each; the second may be null
    const float* const* b = nullptr;  ///< [count]
    int64_t count = 0;
    int64_t step = 0;  ///< rows summed before C is added to; even; 0: as many as are fast
    int64_t m_first = 0, m_last = 0;
    int64_t first = 0, last = 0;
    MatrixView<float> c[2];
    bool accumulate = false;
    bool stream = false;  ///< as in GemmTile, without its conditions
};

/// Floats of scratch that gemm_outer needs: packed parts of both sides, half of a 1 MB second-level
/// cache.
constexpr int64_t kOuterScratch = int64_t{128} << 10;

void gemm_outer(const GemmKernels& kernels, Compute compute, const GemmOuter& product,
                float* scratch) noexcept;

/// Height of equal tiles that cut `rows` rows; the last may be lower.
inline int64_t tile_height(const GemmKernels& kernels, int64_t rows) noexcept {
    const int64_t tiles = kernels.row_tiles(rows);
    return tiles == 0 ? 1 : (rows + tiles - 1) / tiles;
}

}  // namespace muster
