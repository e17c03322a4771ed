// SPDX-License-Identifier: Apache-2.0
// gpt-oss (arXiv 2508.10925): mixtures of SwiGLU experts with clamps and biases everywhere, weights
// by a softmax over the selected logits; a learned sink joins every head's softmax; every other
// layer, the first one included, sees a window only; YaRN. The norm before the experts is called
// post_attention_norm.
#include "muster/core/error.h"
#include "muster/model/arch/architecture.h"

namespace muster {
namespace {

ModelConfig read_config(const WeightMap& f) {
    const Keys keys(f, "gpt-oss");
    ModelConfig c = read_decoder(keys, "gpt-oss");
    c.qkv_bias = c.output_bias = c.sinks = true;
    c.activation = Activation::swiglu_oai;
    const int window = keys.integer("attention.sliding_window", 0, kMostDimension);
    const int period = keys.integer_or("attention.sliding_window_pattern", 1, 1024, 2);
    c.windows.assign(c.layers.size(), 0);
    for (int l = 0; l < c.num_layers(); ++l)
        if (l % period < period - 1) c.windows[l] = window;
    const int width = keys.integer("expert_feed_forward_length", 1, kMostDimension);
    FeedForwardConfig ff = read_experts(keys, width, Weighting::softmax);
    ff.router_bias = ff.expert_bias = true;
    c.layers.assign(c.layers.size(), ff);
    return c;
}

void bind(TensorReader& f, const ModelConfig& c, ModelWeights& weights) {
    binding::bind_ends(f, c, true, weights);
    for (int l = 0; l < c.num_layers(); ++l) {
        for (const char* bias : {"attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"}) {
            const std::string name = binding::layer_name(l, bias);
            if (!f.has_tensor(name)) throw Error(f.file().name(), "has no tensor " + name);
        }
        binding::bind_layer(f, c, l, weights.layers[l], "post_attention_norm.weight");
        binding::bind_stacked_experts(f, c, l, weights.layers[l]);
    }
}

}  // namespace

const Architecture kGptOss{"gpt-oss", read_config, bind};

}  // namespace muster
