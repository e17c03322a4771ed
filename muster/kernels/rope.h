// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "muster/core/tensor_view.h"

namespace muster {

/// Rotary position embedding (Su et al., arXiv 2104.09864), in place. x: [T, heads * head_dim]; row
/// t stands at positions[t]; pair i of a head turns by position * theta^(-2i / head_dim).
/// interleaved: pairs (2i, 2i + 1), else (i, i + head_dim / 2). head_dim is even.
void rope(MatrixView<float> x, int head_dim, std::span<const int32_t> positions, float theta,
          bool interleaved);

}  // namespace muster
