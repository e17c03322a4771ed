// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "muster/core/buffer.h"
#include "muster/core/tensor_view.h"

namespace muster {

/// Cosines and sines of rope() for the rows of one batch, for layers to share: row t of each holds
/// the head_dim / 2 angles of positions[t].
class RopeTable {
  public:
    /// Fills the table; head_dim is even. Angles are computed in double. Reuses its memory.
    void fill(int head_dim, std::span<const int32_t> positions, float theta);

    int half() const noexcept { return half_; }
    int64_t rows() const noexcept { return rows_; }
    const float* cosines(int64_t row) const noexcept { return values_.data() + row * 2 * half_; }
    const float* sines(int64_t row) const noexcept { return cosines(row) + half_; }

  private:
    int half_ = 0;
    int64_t rows_ = 0;
    Buffer<float> values_;
    Buffer<double> frequencies_;
};

/// Rotary position embedding (Su et al., arXiv 2104.09864), in place. x: [T, heads * head_dim]; row
/// t stands at positions[t] (negative ones turn back); pair i of a head turns by position *
/// theta^(-2i / head_dim). interleaved: pairs (2i, 2i + 1), else (i, i + head_dim / 2). head_dim is
/// even.
void rope(MatrixView<float> x, int head_dim, std::span<const int32_t> positions, float theta,
          bool interleaved);

/// The same; row t of x takes row first + t of the table.
void rope(MatrixView<float> x, const RopeTable& table, int64_t first, bool interleaved);

}  // namespace muster
