// SPDX-License-Identifier: Apache-2.0
// What a model architecture is: how its GGUF file says the shape, and where its tensors are.
// Internal to model/.
#pragma once

#include <span>
#include <string_view>

#include "muster/checkpoint/weight_map.h"
#include "muster/model/model.h"

namespace muster {

struct Architecture {
    std::string_view name;  ///< general.architecture
    /// The shape, from metadata; throws Error naming the key. `vocab` is left to the caller.
    ModelConfig (*read_config)(const WeightMap& file);
    /// Views of the tensors, shapes checked; throws Error naming the tensor.
    void (*bind)(const WeightMap& file, const ModelConfig& config, ModelWeights& weights);
};

extern const Architecture kOlmoe;
extern const Architecture kMuster;

/// All of them; a new architecture gets its line in architecture.cpp.
std::span<const Architecture* const> architectures() noexcept;

/// Tensors that several architectures have in common. Each throws Error naming the tensor.
namespace binding {

/// A weight matrix [rows, cols] in a format that products understand.
WeightMatrix matrix(const WeightMap& file, std::string_view name, int64_t rows, int64_t cols);
/// A vector of `size` f32 values.
std::span<const float> vector(const WeightMap& file, std::string_view name, int64_t size);
/// blk.{layer}.{rest}
std::string layer_name(int layer, std::string_view rest);
/// Embedding, final norm and head; without output.weight the head is the embedding when
/// `tied_allowed`.
void bind_ends(const WeightMap& file, const ModelConfig& config, bool tied_allowed,
               ModelWeights& weights);
/// Norms, attention and router of a layer.
void bind_layer(const WeightMap& file, const ModelConfig& config, int layer, LayerWeights& weights);
/// ffn_{gate,up,down}_exps of a layer with experts of one width.
void bind_stacked_experts(const WeightMap& file, const ModelConfig& config, int layer,
                          LayerWeights& weights);
/// One expert of tensors {prefix}ffn_{gate,up,down}{suffix}.weight.
Expert bind_expert(const WeightMap& file, const ModelConfig& config, int layer, int width,
                   std::string_view suffix);

/// Fills what the file says of muster.routing.policy, muster.mean_experts and, when
/// muster.router.selection is there, the router specs from muster.router.* arrays, [layers] each.
void read_routing(const WeightMap& file, ModelConfig& config);
bool has_routing(const WeightMap& file);

}  // namespace binding

}  // namespace muster
