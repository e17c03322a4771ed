// SPDX-License-Identifier: Apache-2.0
// `muster`: our own GGUF architecture, for decoders that no other name can express. All keys are
// required unless a default is given; [L] are arrays with one value per layer.
//
//   muster.block_count, .context_length, .embedding_length        u32
//   muster.attention.head_count, .head_count_kv, .key_length      u32; key_length: the head's size
//   muster.attention.layer_norm_rms_epsilon                       f32
//   muster.attention.qk_norm                                      string: none, per-head, full
//   muster.rope.freq_base                                         f32
//   muster.rope.layout                                            string: neox, norm
//   muster.feed_forward.activation                                string: relu, gelu, silu
//   muster.feed_forward.gated                                     bool
//   muster.expert_count                                           i32 [L]; 1: a dense layer
//   muster.expert_feed_forward_length                             i32, the width of every expert of
//                                                                 layer 0, then of layer 1, …
//   muster.expert_shared_feed_forward_length                      i32 [L]; summed width, 0: none
//   muster.router.score, .selection, .weight                      string [L]
//   muster.router.value, .scale, .renorm_floor, .capacity_factor  f32 [L]
//   muster.router.min, .max, .groups, .groups_used, .group_top    i32 [L]
//   muster.routing.policy                                         string, default `model`
//   muster.mean_experts                                           f32 [L], default unknown
//
// Tensors (shapes row-major): token_embd.weight [vocab, d], output_norm.weight [d], output.weight
// [vocab, d] (missing: the embedding is the head), and per layer blk.N. attn_norm, attn_q, attn_k,
// attn_v, attn_output, attn_q_norm, attn_k_norm (with q/k norm), ffn_norm, ffn_gate_inp [E, d],
// ffn_{gate,up,down}_exps for experts of one width, ffn_{gate,up,down}.E for unequal widths,
// ffn_{gate,up,down} in dense layers, ffn_{gate,up,down}_shexp for the shared experts (one matrix
// of their summed width), each with the suffix .weight; gates only when gated. Optional router
// parameters, f32 [E]: exp_probs_b.bias (selection bias), exp_thresholds.weight.
#include <numeric>

#include "muster/core/error.h"
#include "muster/model/arch/architecture.h"
#include "muster/model/names.h"

namespace muster {
namespace {

constexpr int kMost = 1 << 24;

std::vector<int64_t> integers(const WeightMap& f, const char* key, int64_t count, int64_t low) {
    std::vector<int64_t> values = f.integers(key);
    if (static_cast<int64_t>(values.size()) != count)
        throw Error(f.name(), "key " + std::string(key) + " has " + std::to_string(values.size()) +
                                  " values, expected " + std::to_string(count));
    for (const int64_t v : values) {
        if (v < low || v > kMost)
            throw Error(f.name(), "key " + std::string(key) + " holds " + std::to_string(v) +
                                      ", expected " + std::to_string(low) + " to " +
                                      std::to_string(kMost));
    }
    return values;
}

std::vector<FeedForwardConfig> read_layers(const WeightMap& f, int layers) {
    const auto counts = integers(f, "muster.expert_count", layers, 1);
    const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    const auto widths = integers(f, "muster.expert_feed_forward_length", total, 1);
    const auto shared = integers(f, "muster.expert_shared_feed_forward_length", layers, 0);
    std::vector<FeedForwardConfig> out;
    auto next = widths.begin();
    for (int l = 0; l < layers; ++l) {
        FeedForwardConfig ff;
        ff.widths.assign(next, next + counts[l]);
        next += counts[l];
        ff.shared_width = static_cast<int>(shared[l]);
        ff.router.num_experts = ff.experts();
        out.push_back(std::move(ff));
    }
    return out;
}

ModelConfig read_config(const WeightMap& f) {
    const auto integer = [&](const char* key, int64_t high) {
        return static_cast<int>(f.integer(key, 1, high));
    };
    ModelConfig c;
    c.architecture = "muster";
    c.layers = read_layers(f, integer("muster.block_count", 4096));
    c.context = integer("muster.context_length", kMost);
    c.d_model = integer("muster.embedding_length", kMost);
    c.heads = integer("muster.attention.head_count", 65536);
    c.kv_heads = integer("muster.attention.head_count_kv", 65536);
    c.head_dim = integer("muster.attention.key_length", 65536);
    c.norm_eps = static_cast<float>(f.real("muster.attention.layer_norm_rms_epsilon"));
    c.qk_norm = parse_qk_norm(f.string("muster.attention.qk_norm"));
    c.rope_theta = static_cast<float>(f.real("muster.rope.freq_base"));
    c.rope = parse_rope(f.string("muster.rope.layout"));
    c.activation = parse_activation(f.string("muster.feed_forward.activation"));
    c.gated = f.boolean("muster.feed_forward.gated");
    c.tied_head = !f.tensors().contains("output.weight");
    if (!binding::has_routing(f))
        throw Error(f.name(),
                    "key muster.router.selection is missing, expected one word per layer");
    return c;
}

void bind_experts(TensorReader& f, const ModelConfig& c, int l, LayerWeights& w) {
    const FeedForwardConfig& ff = c.layers[l];
    if (!ff.dense() && ff.equal_widths()) {
        binding::bind_stacked_experts(f, c, l, w);
        return;
    }
    w.experts = {.experts = {}, .activation = c.activation, .gated = c.gated, .d_model = c.d_model};
    for (int e = 0; e < ff.experts(); ++e) {
        const std::string suffix = ff.dense() ? "" : "." + std::to_string(e);
        w.experts.experts.push_back(binding::bind_expert(f, c, l, ff.widths[e], suffix));
    }
}

void bind_router_parameters(TensorReader& f, const ModelConfig& c, int l, LayerWeights& w) {
    const auto optional = [&](const char* rest) -> std::span<const float> {
        const std::string name = binding::layer_name(l, rest);
        if (!f.has_tensor(name)) return {};
        return binding::vector(f, name, c.layers[l].experts());
    };
    w.router_parameters.selection_bias = optional("exp_probs_b.bias");
    w.router_parameters.thresholds = optional("exp_thresholds.weight");
}

void bind(TensorReader& f, const ModelConfig& c, ModelWeights& weights) {
    binding::bind_ends(f, c, true, weights);
    for (int l = 0; l < c.num_layers(); ++l) {
        LayerWeights& w = weights.layers[l];
        binding::bind_layer(f, c, l, w);
        bind_experts(f, c, l, w);
        bind_router_parameters(f, c, l, w);
        const int shared = c.layers[l].shared_width;
        if (shared == 0) continue;
        w.shared = {.experts = {binding::bind_expert(f, c, l, shared, "_shexp")},
                    .activation = c.activation,
                    .gated = c.gated,
                    .d_model = c.d_model};
    }
}

}  // namespace

const Architecture kMuster{"muster", read_config, bind};

}  // namespace muster
