// SPDX-License-Identifier: Apache-2.0
// `llama`: Llama and what is built like it (arXiv 2302.13971; Llama 3: arXiv 2407.21783, with
// factors for RoPE in rope_freqs.weight), and Mixtral (arXiv 2401.04088): softmax, top-k, weights
// that sum to one. Interleaved RoPE: converters permute queries and keys.
#include "muster/model/arch/architecture.h"

namespace muster {
namespace {

ModelConfig read_config(const WeightMap& f) {
    const Keys keys(f, "llama");
    ModelConfig c = read_decoder(keys, "llama");
    c.rope = RopeLayout::norm;
    const int width = keys.integer("feed_forward_length", 1, kMostDimension);
    FeedForwardConfig ff;
    ff.widths = {width};
    if (keys.integer_or("expert_count", 0, 4096, 0) > 0)
        ff = read_experts(keys, width, Weighting::renorm);
    c.layers.assign(c.layers.size(), ff);
    return c;
}

void bind_experts(TensorReader& f, const ModelConfig& c, int l, LayerWeights& w) {
    if (c.layers[l].dense()) return binding::bind_dense(f, c, l, w);
    binding::bind_stacked_experts(f, c, l, w);
}

void bind(TensorReader& f, const ModelConfig& c, ModelWeights& weights) {
    binding::bind_ends(f, c, true, weights);
    for (int l = 0; l < c.num_layers(); ++l) {
        binding::bind_layer(f, c, l, weights.layers[l]);
        bind_experts(f, c, l, weights.layers[l]);
    }
}

}  // namespace

const Architecture kLlama{"llama", read_config, bind};

}  // namespace muster
