// SPDX-License-Identifier: Apache-2.0
// Activations as the integer products of block formats take them.
#pragma once

#include <cstdint>

#include "muster/core/buffer.h"
#include "muster/core/executor.h"
#include "muster/core/tensor_view.h"
#include "muster/quant/panels.h"

namespace muster {

/// Over how many values one scale of quantised activations stands. GGML pairs formats of blocks of
/// 32 with scales over 32 activations, and those of super-blocks of 256 with scales over 256; the
/// noise of the product follows the same choice here.
enum class ActivationScale : uint8_t { per_32, per_256 };

/// The scale that products with weights of a block format take.
ActivationScale activation_scale(DType dtype) noexcept;

/// 256 consecutive activations of one row: x[i] ~ scale * q[i], q = round(x / scale), ties to even,
/// scale = max|x| / 127 over its 32 or 256 values. Values past the end of the row are 0.
struct alignas(32) QuantizedChunk {
    int8_t q[kPanelChunk];
    float scale[8];             ///< of each 32; all equal under per_256
    int32_t minus_sum16[16];    ///< -sum of q over each 16
    int32_t minus_sum32[8];     ///< the same over each 32
    float sum32[8];             ///< sum of q over each 32, times its scale under per_32
    int16_t minus_pairs16[16];  ///< minus_sum16, of each four in the order 0, 2, 1, 3
    int16_t minus_pairs32[8];   ///< minus_sum32 in the same order
};

/// Quantises one row of n values into (n + 255) / 256 chunks. NaN and infinities make their
/// scale NaN, and so every product with it.
void quantize_row(const float* x, int64_t n, ActivationScale scale, QuantizedChunk* out) noexcept;

/// The rows of a matrix, quantised. Memory is grown on demand and reused.
class QuantizedRows {
  public:
    /// x: [T, K]. Results do not depend on the number of workers.
    void assign(MatrixView<const float> x, ActivationScale scale, Executor& executor);
    /// Makes room for `rows` rows of `cols` values without filling them.
    void reserve(int64_t rows, int64_t cols);

    const QuantizedChunk* row(int64_t i) const noexcept { return chunks_.data() + i * per_row_; }
    QuantizedChunk* row(int64_t i) noexcept { return chunks_.data() + i * per_row_; }
    int64_t chunks_per_row() const noexcept { return per_row_; }

  private:
    Buffer<QuantizedChunk> chunks_;
    int64_t per_row_ = 0;
};

}  // namespace muster
