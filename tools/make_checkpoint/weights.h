// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tools/make_checkpoint/spec.h"

namespace muster::checkpoints {

/// What a tensor is for: decides its values and which formats it may have.
enum class Role : uint8_t {
    embedding,
    head,
    matrix,        ///< of attention or a dense or shared feed-forward part
    experts,       ///< [E, out, in]
    router,        ///< [E, d_model], always f32
    norm,          ///< f32
    router_norm,   ///< the norm whose output the router reads
    vector,        ///< biases, sinks, factors; f32
    rope_factors,  ///< Llama 3's; f32
    key_part,      ///< attn_k_b [heads, kv_rank, nope_dim]: attn_kv_b's, each head transposed
    value_part     ///< attn_v_b [heads, value_dim, kv_rank]: attn_kv_b's
};

/// A tensor of a checkpoint, under GGUF's name. Its values are a function of the specification's
/// seed, `source` and their place, so that they may be made in any order.
struct TensorPlan {
    std::string name;
    std::vector<int64_t> shape;  ///< row-major, slowest dimension first
    Role role = Role::matrix;
    double mean = 0;
    double deviation = 0;
    int layer = -1;
    bool to_stream = false;  ///< its output is added to the residual stream
    std::string source;      ///< whose values these are; `name` where empty

    int64_t cols() const noexcept { return shape.back(); }
    int64_t rows() const noexcept;
    bool quantizable() const noexcept {
        return role <= Role::experts || role == Role::key_part || role == Role::value_part;
    }
};

/// All tensors of a checked specification, in the order of a file.
///
/// Scales: the residual stream starts with values of root mean square 1 (of granitemoe's and tied
/// heads' own unit), every layer adds about half of that, attention scores have a deviation of
/// about 2, and logits one of sqrt(2 (ln vocab - 2)), which leaves the next token an entropy of
/// 3 to 4 nats (of a random energy model: ln vocab - deviation^2 / 2, and less near the end).
std::vector<TensorPlan> plan_tensors(const CheckpointSpec& spec);

/// Row `row` of a tensor whose leading dimensions are flattened; `out` has cols() values.
void fill_row(const CheckpointSpec& spec, const TensorPlan& plan, int64_t row,
              std::span<float> out);

/// The seed of a tensor's values.
uint64_t stream_seed(const CheckpointSpec& spec, const TensorPlan& plan) noexcept;

/// The deviation of logits that plan_tensors aims at.
double logit_deviation(const CheckpointSpec& spec);
/// granitemoe's logit_scale, by which logits are divided.
double logit_scale(const CheckpointSpec& spec);

}  // namespace muster::checkpoints
