// SPDX-License-Identifier: Apache-2.0
// Qwen1.5-MoE and Qwen2-MoE (arXiv 2407.10671): equal SwiGLU experts, softmax, top-k, raw weights,
// beside a shared expert that counts sigmoid(gate . x) times; biases on q, k and v; NEOX RoPE.
#include <algorithm>

#include "muster/model/arch/architecture.h"

namespace muster {
namespace {

ModelConfig read_config(const WeightMap& f) {
    const Keys keys(f, "qwen2moe");
    ModelConfig c = read_decoder(keys, "qwen2moe");
    // Without a width of their own, the experts share the dense width (llama.cpp's default).
    const auto width = [&](const char* key, int divisor) {
        if (keys.has(key)) return keys.integer(key, 1, kMostDimension);
        return std::max(1, keys.integer("feed_forward_length", 1, kMostDimension) / divisor);
    };
    const int used = keys.integer("expert_used_count", 1, 4096);
    FeedForwardConfig ff =
        read_experts(keys, width("expert_feed_forward_length", used), Weighting::raw);
    ff.shared_width = width("expert_shared_feed_forward_length", 1);
    ff.shared_gate = true;
    c.layers.assign(c.layers.size(), ff);
    return c;
}

void bind(TensorReader& f, const ModelConfig& c, ModelWeights& weights) {
    binding::bind_ends(f, c, true, weights);
    for (int l = 0; l < c.num_layers(); ++l) {
        binding::bind_layer(f, c, l, weights.layers[l]);
        binding::bind_stacked_experts(f, c, l, weights.layers[l]);
        binding::bind_shared(f, c, l, weights.layers[l]);
    }
}

}  // namespace

const Architecture kQwen2Moe{"qwen2moe", read_config, bind};

}  // namespace muster
