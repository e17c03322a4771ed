// SPDX-License-Identifier: Apache-2.0
// Granite 3 MoE (Hugging Face's modeling_granitemoe.py and modeling_granitemoeshared.py): a mixture
// of equal SwiGLU experts, softmax over the selected, interleaved RoPE, and four scales: of the
// embedding, of what each half layer adds, of the attention's scores, and (dividing) of the logits.
// Files may have one ungated shared expert.
#include "muster/core/error.h"
#include "muster/model/arch/architecture.h"

namespace muster {
namespace {

ModelConfig read_config(const WeightMap& f) {
    const Keys keys(f, "granitemoe");
    ModelConfig c = read_decoder(keys, "granitemoe");
    c.rope = RopeLayout::norm;
    // In this family the key says whether there are rotary positions at all.
    if (keys.has("rope.scaling.finetuned") && !f.boolean(keys.full("rope.scaling.finetuned")))
        throw Error(f.name(), "key " + keys.full("rope.scaling.finetuned") +
                                  " is false, expected a model with rotary positions");
    // llama.cpp takes 0 for "no scale".
    const auto scale = [&](const char* key) {
        const float value = keys.real_or(key, 0);
        return value == 0 ? 1.0f : value;
    };
    c.embedding_scale = scale("embedding_scale");
    c.residual_scale = scale("residual_scale");
    c.attention_scale = keys.real_or("attention.scale", 0);
    const float divisor = keys.real("logit_scale");
    if (divisor == 0) throw Error(f.name(), "key " + keys.full("logit_scale") + " is 0");
    c.logit_scale = 1 / divisor;
    const int width = keys.integer("feed_forward_length", 1, kMostDimension);
    FeedForwardConfig ff = read_experts(keys, width, Weighting::renorm);
    ff.shared_width = keys.integer_or("expert_shared_feed_forward_length", 0, kMostDimension, 0);
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

const Architecture kGraniteMoe{"granitemoe", read_config, bind};

}  // namespace muster
