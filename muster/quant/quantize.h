// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "muster/core/dtype.h"
#include "muster/cpu/isa.h"

namespace muster {

/// Stores `rows` rows of `cols` f32 values in a format, so that the squared error, weighted by
/// `importance` [cols] (empty: all alike), is small: scales are searched for and fitted by least
/// squares, codes and the scales' own codes are rounded to what the decoder will read.
/// values: [rows, cols], row-major; out: dtype_bytes(dtype, rows * cols). f32, f16, bf16 and q8_0
/// are what encoder() stores, whatever the importance. A block with NaN or infinity is stored so
/// that has_non_finite() finds it (all of it decodes to NaN, but for mxfp4, whose scale becomes
/// E8M0's NaN).
/// Throws Error when cols are no whole blocks, when importance has another length or holds a number
/// that is negative or not finite. dtype is no i32 (asserted). Thread-safe; every instruction set
/// gives the same bits.
void quantize_rows(DType dtype, const float* values, int64_t rows, int64_t cols,
                   std::span<const float> importance, std::byte* out, Isa isa = current_isa());

/// The largest magnitude that values of a sign can have in a format, with every scale at its own
/// largest. dtype is no i32 (asserted).
double largest_value(DType dtype, bool negative) noexcept;

}  // namespace muster
