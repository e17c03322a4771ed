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
};

using StreamFn = void (*)(const StreamProduct& product) noexcept;

/// For weights in f32, f16, bf16 or q8_0 (asserted).
StreamFn stream_kernel(DType dtype, Isa isa) noexcept;

/// Up to this many rows of x streaming is faster than packing panels.
constexpr int64_t kStreamRows = 8;

/// Rows of w that a task streams: 64 KB, some microseconds; at most kStreamTaskRows.
constexpr int64_t kStreamTaskRows = 64;
inline int64_t stream_task_rows(const WeightMatrix& w) noexcept {
    const int64_t rows = (int64_t{64} << 10) / (w.row_bytes() + 1);
    return rows < 4 ? 4 : rows > kStreamTaskRows ? kStreamTaskRows : rows;
}

/// One instruction set's kernels, by DType.
struct StreamKernels {
    StreamFn product[4];
};

}  // namespace muster
