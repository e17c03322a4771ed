// SPDX-License-Identifier: Apache-2.0
// Bringing operands into the form that gemm.h multiplies.
#pragma once

#include <cstdint>

#include "muster/core/tensor_view.h"
#include "muster/kernels/gemm.h"

namespace muster {

/// Memory that pack_rows needs beside the panels, in floats: 32 rows of a chunk of 256 values fill
/// 32 KB, two thirds of a first-level cache.
constexpr int64_t kPackChunk = 256;
constexpr int64_t kPackScratch = kMaxTileCols * kPackChunk;

/// A part of a weight matrix as B: output columns [first, last) of the product, sums over values
/// [k_first, k_last) (k_first a multiple of kPackChunk).
struct PackRange {
    int64_t first = 0, last = 0;
    int64_t k_first = 0, k_last = 0;
};

/// B = w^T (columns of the product are rows of w): transposed into panels [elements][nr], one
/// behind the other; columns missing in the last are zero. `scratch`: kPackScratch floats.
Panels pack_rows(const GemmKernels& kernels, Compute compute, Isa isa, const WeightMatrix& w,
                 const PackRange& range, float* scratch, float* panels) noexcept;

/// B = w (columns of the product are columns of w, which is f32, f16 or bf16). Points into w itself
/// where that will do, otherwise to `panels`, which it fills.
Panels pack_cols(const GemmKernels& kernels, Compute compute, Isa isa, const WeightMatrix& w,
                 const PackRange& range, float* panels) noexcept;

struct ColumnRange {
    int64_t first = 0, last = 0;
};

/// Columns of `count` rows, neighbours along the rows' direction: elements(count) rows of elements,
/// ld from each other. Each nr elements lie `stride` from the nr before: nr for whole rows, or the
/// size of a panel (ld == nr), whose last columns are then zeroed.
void pack_gathered(const GemmKernels& kernels, Compute compute, const float* const* rows,
                   int64_t count, ColumnRange columns, float* out, int64_t ld,
                   int64_t stride) noexcept;

/// Fetches the weights that pack_rows or pack_cols will read for `range` while `tiles` tiles of k
/// elements run.
Prefetch prefetch_rows(const WeightMatrix& w, const PackRange& range, int64_t tiles,
                       int64_t k) noexcept;
Prefetch prefetch_cols(const WeightMatrix& w, const PackRange& range, int64_t tiles,
                       int64_t k) noexcept;

}  // namespace muster
