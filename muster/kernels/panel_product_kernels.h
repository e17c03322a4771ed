// SPDX-License-Identifier: Apache-2.0
// What the instruction sets offer to panel_product.cpp and quantized_rows.cpp.
#pragma once

#include <limits>

#include "muster/kernels/panel_product.h"

namespace muster {

PanelProductFn panel_product_avx2(DType dtype) noexcept;
PanelProductFn panel_product_avx512(DType dtype) noexcept;

using QuantizeFn = void (*)(const float* x, int64_t n, ActivationScale scale,
                            QuantizedChunk* out) noexcept;
void quantize_row_avx2(const float* x, int64_t n, ActivationScale scale,
                       QuantizedChunk* out) noexcept;
void quantize_row_avx512(const float* x, int64_t n, ActivationScale scale,
                         QuantizedChunk* out) noexcept;

/// What to multiply activations by for scale d: 0 where d is 0, so small that 1 / d overflows, or
/// NaN.
inline float inverse_scale(float d) noexcept {
    const float inverse = 1.0f / d;
    return d > 0 && inverse <= std::numeric_limits<float>::max() ? inverse : 0.0f;
}

/// Fills in what a chunk says of the sums of its group g: `low` and `high` over 16 values each.
inline void set_sums(QuantizedChunk& chunk, int g, int32_t low, int32_t high,
                     ActivationScale scale) noexcept {
    const auto place = [](int i) { return i / 4 * 4 + i % 2 * 2 + i / 2 % 2; };
    chunk.minus_sum16[2 * g] = -low;
    chunk.minus_sum16[2 * g + 1] = -high;
    chunk.minus_sum32[g] = -(low + high);
    chunk.minus_pairs16[place(2 * g)] = static_cast<int16_t>(-low);
    chunk.minus_pairs16[place(2 * g + 1)] = static_cast<int16_t>(-high);
    chunk.minus_pairs32[place(g)] = static_cast<int16_t>(-(low + high));
    const float factor = scale == ActivationScale::per_32 ? chunk.scale[g] : 1.0f;
    chunk.sum32[g] = factor * static_cast<float>(low + high);
}

}  // namespace muster
