// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "muster/core/buffer.h"
#include "muster/core/tensor_view.h"

namespace muster {

/// How angles are stretched beyond the context of pretraining: divided by `factor` (linear), or by
/// wavelength (YaRN, arXiv 2309.00071, section 3.2: `extrapolation` 1, where wavelengths short
/// against original_context keep their angles).
struct RopeScaling {
    float factor = 1;
    float extrapolation = 0;  ///< how much YaRN's ramp counts; 0: linear only
    float beta_fast = 32;     ///< turns within original_context above which angles are kept
    float beta_slow = 1;      ///< turns below which they are divided by factor
    int original_context = 0;
    float magnitude = 1;  ///< multiplies the turned values of queries and keys (YaRN's mscale)

    bool operator==(const RopeScaling&) const = default;
};

/// The angles of a model: pair i of `dims` values turns by position * theta^(-2i / dims), divided
/// by factors[i] (Llama 3's rope_freqs), then stretched by `scaling`.
struct RopeAngles {
    int dims = 0;  ///< even, the turned part of a head
    float theta = 10000.0f;
    RopeScaling scaling = {};
    std::span<const float> factors = {};  ///< [dims / 2] or empty
};

/// Cosines and sines of rope() for the rows of one batch, for layers to share: row t of each holds
/// the head_dim / 2 angles of positions[t].
class RopeTable {
  public:
    /// Fills the table; head_dim is even. Angles are computed in double. Reuses its memory.
    void fill(int head_dim, std::span<const int32_t> positions, float theta);
    void fill(const RopeAngles& angles, std::span<const int32_t> positions);

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

/// The same for heads of `head_dim` values of which the table's 2 * half() turn, from value
/// `offset` of each head on; the others stay.
void rope(MatrixView<float> x, const RopeTable& table, int64_t first, bool interleaved,
          int head_dim, int offset = 0);

}  // namespace muster
