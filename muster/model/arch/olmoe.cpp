// SPDX-License-Identifier: Apache-2.0
// OLMoE (arXiv 2409.02060) as llama.cpp stores it: every layer is a mixture of equal SwiGLU
// experts, softmax, top-k, raw weights; q/k RMSNorm over all heads; NEOX RoPE; a head of its own.
// Keys that are ours (muster.routing.policy, muster.router.*, muster.mean_experts) refine the
// routing and are not known to other programs.
#include "muster/core/error.h"
#include "muster/model/arch/architecture.h"

namespace muster {
namespace {

ModelConfig read_config(const WeightMap& f) {
    const Keys keys(f, "olmoe");
    ModelConfig c = read_decoder(keys, "olmoe");
    c.qk_norm = QkNorm::full;
    if (c.kv_heads != c.heads || int64_t{c.heads} * c.head_dim != c.d_model)
        throw Error(f.name(), "olmoe with " + std::to_string(c.heads) + " heads, " +
                                  std::to_string(c.kv_heads) + " K/V heads and width " +
                                  std::to_string(c.d_model) +
                                  ", expected equal heads that divide the width");
    const int width = keys.integer("feed_forward_length", 1, kMostDimension);
    c.layers.assign(c.layers.size(), read_experts(keys, width, Weighting::raw));
    return c;
}

void bind(TensorReader& f, const ModelConfig& c, ModelWeights& weights) {
    binding::bind_ends(f, c, false, weights);
    for (int l = 0; l < c.num_layers(); ++l) {
        binding::bind_layer(f, c, l, weights.layers[l]);
        binding::bind_stacked_experts(f, c, l, weights.layers[l]);
    }
}

}  // namespace

const Architecture kOlmoe{"olmoe", read_config, bind};

}  // namespace muster
