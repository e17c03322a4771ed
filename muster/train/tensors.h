// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "muster/core/tensor_view.h"

namespace muster::train {

/// Whether the engine's kernels can work on it: f32, on the CPU.
inline bool is_kernel_tensor(const at::Tensor& t) {
    return t.device().is_cpu() && t.scalar_type() == at::kFloat;
}

/// Views of contiguous two-dimensional f32 tensors; they do not keep the tensor alive.
inline MatrixView<const float> matrix(const at::Tensor& t) {
    return {t.data_ptr<float>(), t.size(0), t.size(1)};
}
inline MatrixView<float> mutable_matrix(const at::Tensor& t) {
    return {t.data_ptr<float>(), t.size(0), t.size(1)};
}
inline WeightMatrix weight_matrix(const at::Tensor& t) {
    return {DType::f32, reinterpret_cast<const std::byte*>(t.data_ptr<float>()), t.size(0),
            t.size(1)};
}

}  // namespace muster::train
