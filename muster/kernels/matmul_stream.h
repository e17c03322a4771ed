// SPDX-License-Identifier: Apache-2.0
// Products with few rows of x: memory decides, so the weights are read once, front to back, in
// their stored format, and widened to f32 in registers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "muster/core/tensor_view.h"
#include "muster/cpu/isa.h"

namespace muster {

/// out[i * ldo + j] = <x[i], row j of w>. Sums are f32; their order depends on cols alone, so that
/// a row's result does not depend on its neighbours. Rows of w are `row_bytes` apart; x must be
/// readable up to cols only.
struct StreamProduct {
    const std::byte* w = nullptr;
    int64_t row_bytes = 0;
    int64_t rows = 0;
    int64_t cols = 0;
    const float* const* x = nullptr;  ///< [m]
    int64_t m = 0;
    float* out = nullptr;
    int64_t ldo = 0;
    const std::byte* next = nullptr;  ///< weights that this worker reads next, if known
};

using StreamFn = void (*)(const StreamProduct& product) noexcept;

/// For weights in any format but i32 (asserted); f32, f16, bf16 and q8_0 have fast kernels.
StreamFn stream_kernel(DType dtype, Isa isa) noexcept;

/// Up to this many rows of x streaming is faster than packing panels.
constexpr int64_t kStreamRows = 8;

constexpr int64_t kStreamTaskRows = 512;

/// Rows of w that one task streams, when all tasks together read `total` bytes: some 256 KB, for
/// the memory takes a while to get going, but several tasks per worker; at most kStreamTaskRows.
int64_t stream_task_rows(const WeightMatrix& w, int64_t total, int workers) noexcept;

/// One instruction set's kernels, by DType.
struct StreamKernels {
    StreamFn product[4];
};

}  // namespace muster
