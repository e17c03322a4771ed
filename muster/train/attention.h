// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "muster/kernels/matmul.h"

namespace muster::train {

struct AttentionShape {
    int64_t length = 0;  ///< of each sequence
    int64_t heads = 0;
    int64_t kv_heads = 0;  ///< divides heads; head h reads key/value head h / (heads / kv_heads)
    int64_t head_dim = 0;
    Compute compute = Compute::f32;  ///< of the products; softmax and sums are f32
};

/// Differentiable causal attention softmax(q k^T / sqrt(head_dim)) v within each sequence. q:
/// [tokens, heads * head_dim]; k, v: [tokens, kv_heads * head_dim]; tokens = sequences * length;
/// returns the shape of q. f32 on the CPU runs the engine's kernels block by block: probabilities
/// are never stored but computed again for the gradient. Otherwise LibTorch.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const AttentionShape& shape);

}  // namespace muster::train
