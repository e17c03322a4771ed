// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "muster/kernels/matmul.h"

namespace muster::train {

/// Differentiable operations on the engine's kernels. Each takes contiguous or strided f32 CPU
/// tensors and falls back to LibTorch operations for any other device or type.

/// x [..., K] * w [N, K]^T -> [..., N]. bf16 rounds both operands, sums in f32.
at::Tensor linear(const at::Tensor& x, const at::Tensor& w, Compute compute);

/// x / sqrt(mean(x^2) + eps) * weight over the last dimension.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

/// Rotary embedding of x [tokens, heads * head_dim], row t at position t % context; tokens is a
/// multiple of context.
at::Tensor rope(const at::Tensor& x, int64_t head_dim, int64_t context, double theta,
                bool interleaved);

}  // namespace muster::train
