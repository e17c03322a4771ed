// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "muster/core/executor.h"
#include "muster/core/tensor_view.h"
#include "muster/kernels/matmul.h"

namespace muster {

/// The values of every head in the rows of a matrix: head h of row t starts at
/// data + t * heads * step + h * step and has as many values as the head's matrix takes or makes.
template <typename T>
struct HeadView {
    T* data = nullptr;
    int64_t rows = 0;
    int64_t step = 0;
};

/// y of head h = x of head h * w[h]^T, for every head a matrix of its own, all of one shape and
/// format (multi-head latent attention, arXiv 2405.04434); formats and `compute` as in matmul().
/// Shapes are asserted. Results do not depend on the number of workers.
void head_matmul(HeadView<const float> x, std::span<const WeightMatrix> w, HeadView<float> y,
                 Executor& executor, Compute compute = Compute::f32,
                 MatmulWorkspace* workspace = nullptr);

}  // namespace muster
