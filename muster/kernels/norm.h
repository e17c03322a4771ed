// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "muster/core/tensor_view.h"

namespace muster {

/// y = x / sqrt(mean(x^2) + eps) * weight, row by row (Zhang, Sennrich 2019). x, y: [T, d]; weight:
/// [d]. y may be x.
void rms_norm(MatrixView<const float> x, std::span<const float> weight, float eps,
              MatrixView<float> y);

/// y = (x - mean) / sqrt(var + eps) * weight + bias, row by row (Ba et al. 2016); bias may be
/// empty.
void layer_norm(MatrixView<const float> x, std::span<const float> weight,
                std::span<const float> bias, float eps, MatrixView<float> y);

}  // namespace muster
