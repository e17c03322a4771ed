// SPDX-License-Identifier: Apache-2.0
// Qwen3-MoE (arXiv 2505.09388): every layer a mixture of equal SwiGLU experts, softmax, top-k,
// weights that sum to one; q/k RMSNorm over each head; NEOX RoPE; heads wider than the model.
#include "muster/model/arch/architecture.h"

namespace muster {
namespace {

ModelConfig read_config(const WeightMap& f) {
    const Keys keys(f, "qwen3moe");
    ModelConfig c = read_decoder(keys, "qwen3moe");
    c.qk_norm = QkNorm::per_head;
    const int width = keys.integer("expert_feed_forward_length", 1, kMostDimension);
    c.layers.assign(c.layers.size(), read_experts(keys, width, Weighting::renorm));
    return c;
}

void bind(TensorReader& f, const ModelConfig& c, ModelWeights& weights) {
    binding::bind_ends(f, c, true, weights);
    for (int l = 0; l < c.num_layers(); ++l) {
        binding::bind_layer(f, c, l, weights.layers[l]);
        binding::bind_stacked_experts(f, c, l, weights.layers[l]);
    }
}

}  // namespace

const Architecture kQwen3Moe{"qwen3moe", read_config, bind};

}  // namespace muster
