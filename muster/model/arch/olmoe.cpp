// SPDX-License-Identifier: Apache-2.0
// OLMoE (arXiv 2409.02060) as llama.cpp stores it: every layer is a mixture of equal SwiGLU
// experts, softmax, top-k, raw weights; q/k RMSNorm over all heads; NEOX RoPE; a head of its own.
// Keys that are ours (muster.routing.policy, muster.router.*, muster.mean_experts) refine the
// routing and are not known to other programs.
#include "muster/core/error.h"
#include "muster/model/arch/architecture.h"

namespace muster {
namespace {

constexpr int kMost = 1 << 24;

ModelConfig read_config(const WeightMap& f) {
    const auto integer = [&](const char* key, int64_t low, int64_t high) {
        return static_cast<int>(f.integer(std::string("olmoe.") + key, low, high));
    };
    ModelConfig c;
    c.architecture = "olmoe";
    const int layers = integer("block_count", 1, 1024);
    c.context = integer("context_length", 1, kMost);
    c.d_model = integer("embedding_length", 1, kMost);
    c.heads = integer("attention.head_count", 1, 65536);
    c.kv_heads = f.has("olmoe.attention.head_count_kv")
                     ? integer("attention.head_count_kv", 1, 65536)
                     : c.heads;
    c.norm_eps = static_cast<float>(f.real("olmoe.attention.layer_norm_rms_epsilon"));
    if (f.has("olmoe.rope.freq_base"))
        c.rope_theta = static_cast<float>(f.real("olmoe.rope.freq_base"));
    if (c.kv_heads != c.heads || c.d_model % c.heads != 0)
        throw Error(f.name(), "olmoe with " + std::to_string(c.heads) + " heads, " +
                                  std::to_string(c.kv_heads) + " K/V heads and width " +
                                  std::to_string(c.d_model) +
                                  ", expected equal heads that divide the width");
    c.head_dim = c.d_model / c.heads;
    if (f.has("olmoe.rope.dimension_count") &&
        f.integer("olmoe.rope.dimension_count") != c.head_dim)
        throw Error(f.name(), "key olmoe.rope.dimension_count is not the head dimension");
    if (f.has("olmoe.rope.scaling.type") && f.string("olmoe.rope.scaling.type") != "none")
        throw Error(f.name(), "RoPE scaling \"" + f.string("olmoe.rope.scaling.type") +
                                  "\" is not supported, expected none");
    const int experts = integer("expert_count", 2, 4096);
    const int width = integer("feed_forward_length", 1, kMost);
    FeedForwardConfig ff;
    ff.widths.assign(experts, width);
    ff.router.num_experts = experts;
    ff.router.value = integer("expert_used_count", 1, experts);
    c.layers.assign(layers, ff);
    return c;
}

void bind(const WeightMap& f, const ModelConfig& c, ModelWeights& weights) {
    binding::bind_ends(f, c, false, weights);
    for (int l = 0; l < c.num_layers(); ++l) {
        binding::bind_layer(f, c, l, weights.layers[l]);
        binding::bind_stacked_experts(f, c, l, weights.layers[l]);
    }
}

}  // namespace

const Architecture kOlmoe{"olmoe", read_config, bind};

}  // namespace muster
