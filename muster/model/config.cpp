// SPDX-License-Identifier: Apache-2.0
#include "muster/model/config.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "muster/core/error.h"

namespace muster {
namespace {

// Far above any model, far below what would overflow a product of three in 64 bits.
constexpr int kMaxDimension = 1 << 20;
constexpr int kMaxVocabulary = 1 << 24;
constexpr int kMaxContext = 1 << 24;
constexpr int kMaxLayers = 4096;
constexpr int kMaxExperts = 65536;

void expect(bool good, const std::string& what) {
    if (!good) throw Error("model config", what);
}

void expect_range(int value, int low, int high, const std::string& name) {
    expect(value >= low && value <= high, name + " is " + std::to_string(value) + ", expected " +
                                              std::to_string(low) + " to " + std::to_string(high));
}

void check_router(const RouterSpec& r, const std::string& where) {
    expect(std::isfinite(r.value) && std::isfinite(r.scale) && std::isfinite(r.renorm_floor) &&
               std::isfinite(r.capacity_factor),
           where + ": a router setting is not finite");
    expect(r.selection != Selection::model,
           where + ": the router's selection is `model`, expected a concrete one");
}

void check_layer(const ModelConfig& config, int l) {
    const FeedForwardConfig& ff = config.layers[l];
    const std::string where = "layer " + std::to_string(l);
    expect_range(ff.experts(), 1, kMaxExperts, where + ": number of experts");
    for (const int width : ff.widths) expect_range(width, 1, kMaxDimension, where + ": width");
    expect_range(ff.shared_width, 0, kMaxDimension, where + ": shared width");
    expect(ff.router.num_experts == ff.experts(),
           where + ": the router knows " + std::to_string(ff.router.num_experts) +
               " experts, expected " + std::to_string(ff.experts()));
    if (ff.dense()) return;
    check_router(ff.router, where);
    expect(config.policy.selection != Selection::plan,
           "a plan as the model's own policy, expected one that is in the file");
    resolve({}, ff.router, l, config.num_layers());  // without the policy it must work, too
    resolve(config.policy, ff.router, l, config.num_layers());
}

void check_latent(const ModelConfig& c) {
    const LatentAttention& a = c.latent;
    if (!a.used()) {
        expect(a == LatentAttention{}, "parts of latent attention without a latent");
        return;
    }
    expect_range(a.kv_rank, 1, kMaxDimension, "rank of keys and values");
    expect_range(a.query_rank, 0, kMaxDimension, "rank of queries");
    expect_range(a.value_dim, 1, kMaxDimension, "value dimension");
    expect_range(c.rope_dims, 2, c.head_dim - 1, "turned dimensions of latent attention");
    expect(c.kv_heads == 1,
           "kv_heads is " + std::to_string(c.kv_heads) + ", expected 1 under latent attention");
    expect(c.residual_scale == 1, "latent attention with a residual scale, expected none");
    expect(c.qk_norm == QkNorm::none && !c.qkv_bias && !c.output_bias,
           "latent attention with q/k norms or biases, expected none");
    for (const int dim : {a.kv_rank + c.rope_dims, a.value_dim})
        expect(int64_t{c.heads} * dim <= kMaxDimension, "heads * latent dimensions is too large");
}

void check_attention(const ModelConfig& c) {
    expect_range(c.rope_dims, 0, c.head_dim, "the number of turned dimensions");
    expect(c.rope_dims % 2 == 0, "the number of turned dimensions is odd, expected even");
    const RopeScaling& r = c.rope_scaling;
    for (const float value : {r.factor, r.magnitude, r.beta_fast, r.beta_slow})
        expect(std::isfinite(value) && value > 0, "a setting of RoPE scaling is not a number > 0");
    expect(r.extrapolation >= 0 && r.extrapolation <= 1,
           "the extrapolation of RoPE scaling is not between 0 and 1");
    expect(r.extrapolation == 0 || (r.original_context >= 1 && c.rope_theta > 1),
           "YaRN needs an original context >= 1 and rope_theta > 1");
    for (const float value : {c.embedding_scale, c.residual_scale, c.logit_scale})
        expect(std::isfinite(value), "a scale is not finite");
    expect(std::isfinite(c.attention_scale) && c.attention_scale >= 0,
           "the attention scale is not a number >= 0");
    expect(c.windows.empty() || c.windows.size() == c.layers.size(),
           "windows has as many values as neither 0 nor layers");
    for (const int window : c.windows) expect_range(window, 0, kMaxContext, "sliding window");
}

/// What of one layer `olmoe` cannot express, given the first layer; empty when nothing.
std::string layer_beyond_olmoe(const FeedForwardConfig& ff, const FeedForwardConfig& first) {
    const RouterSpec& r = ff.router;
    const RouterSpec& r0 = first.router;
    if (ff.dense()) return "dense layers";
    if (ff.shared_width > 0) return "shared experts";
    if (!ff.equal_widths()) return "experts of unequal widths";
    if (ff.experts() != first.experts()) return "layers with different numbers of experts";
    if (ff.widths[0] != first.widths[0]) return "layers with different expert widths";
    if (r.score != Score::softmax) return "router scores other than softmax";
    if (r.weight != Weighting::raw || r.scale != 1) return "combine weights other than the scores";
    if (r.groups > 1) return "expert groups";
    if (r.selection != r0.selection || r.value != r0.value || r.min != r0.min || r.max != r0.max)
        return "router settings per layer";
    const bool plain = r.selection == Selection::top_k || r.selection == Selection::top_p ||
                       r.selection == Selection::relative || r.selection == Selection::mean;
    return plain ? "" : "a selection that needs more than the router's scores";
}

/// What others would compute differently when they do not know the default policy. That they take a
/// fixed number of experts where it is dynamic is known and accepted.
std::string policy_beyond_olmoe(const ModelConfig& config) {
    for (int l = 0; l < config.num_layers(); ++l) {
        const ResolvedRouter own =
            resolve(config.policy, config.layers[l].router, l, config.num_layers());
        if (own.spec.score != Score::softmax) return "router scores other than softmax";
        if (own.spec.weight != Weighting::raw || own.spec.scale != 1)
            return "combine weights other than the scores";
        if (own.spec.groups > 1) return "expert groups";
        if (!own.ban.empty() || !own.force.empty()) return "experts banned or forced";
    }
    return "";
}

}  // namespace

bool FeedForwardConfig::equal_widths() const noexcept {
    return std::all_of(widths.begin(), widths.end(), [&](int w) { return w == widths[0]; });
}

void ModelConfig::check() const {
    expect_range(vocab, 1, kMaxVocabulary, "vocabulary size");
    expect_range(d_model, 1, kMaxDimension, "d_model");
    expect_range(heads, 1, kMaxDimension, "heads");
    expect_range(kv_heads, 1, heads, "kv_heads");
    expect(heads % kv_heads == 0, "heads (" + std::to_string(heads) +
                                      ") is no multiple of kv_heads (" + std::to_string(kv_heads) +
                                      ")");
    expect_range(head_dim, 2, kMaxDimension, "head_dim");
    expect(head_dim % 2 == 0, "head_dim is " + std::to_string(head_dim) + ", expected even");
    expect(int64_t{heads} * head_dim <= kMaxDimension, "heads * head_dim is too large");
    check_latent(*this);
    expect_range(context, 1, kMaxContext, "context length");
    expect(std::isfinite(norm_eps) && norm_eps >= 0, "norm_eps is not a number >= 0");
    expect(std::isfinite(rope_theta) && rope_theta > 0, "rope_theta is not a number > 0");
    check_attention(*this);
    expect(
        gated || differentiable(activation),
        "plain experts have " + std::string(activation_name(activation)) + ", expected gated ones");
    expect_range(num_layers(), 1, kMaxLayers, "number of layers");
    for (int l = 0; l < num_layers(); ++l) check_layer(*this, l);
    expect(mean_experts.empty() || mean_experts.size() == layers.size(),
           "mean_experts has as many values as neither 0 nor layers");
    for (size_t l = 0; l < mean_experts.size(); ++l)
        expect(
            mean_experts[l] >= 0 && mean_experts[l] <= layers[l].experts(),
            "layer " + std::to_string(l) + ": mean_experts is not from 0 to the number of experts");
}

std::string beyond_muster(const ModelConfig& c) {
    if (c.latent.used()) return "latent attention";
    if (!differentiable(c.activation)) return "experts with SwiGLU-OAI";
    if (c.qkv_bias || c.output_bias) return "biases in the attention";
    if (c.sinks) return "attention sinks";
    if (!c.windows.empty()) return "sliding windows";
    if (c.turned() != c.head_dim) return "RoPE over a part of each head";
    if (c.rope_factors || c.rope_scaling != RopeScaling{}) return "RoPE scaling";
    if (c.attention_scale != 0 || c.embedding_scale != 1 || c.residual_scale != 1 ||
        c.logit_scale != 1)
        return "scales of attention, embedding, residuals or logits";
    for (const FeedForwardConfig& ff : c.layers) {
        if (ff.shared_gate) return "gated shared experts";
        if (ff.router_bias || ff.expert_bias) return "biases in routers or experts";
    }
    return "";
}

std::string beyond_olmoe(const ModelConfig& config) {
    if (std::string what = beyond_muster(config); !what.empty()) return what;
    if (config.kv_heads != config.heads) return "grouped K/V heads";
    if (config.heads * config.head_dim != config.d_model) return "heads that do not split d_model";
    if (config.rope != RopeLayout::neox) return "interleaved RoPE";
    if (config.qk_norm != QkNorm::full) return "q/k norms other than over all heads at once";
    if (config.activation != Activation::silu || !config.gated) return "experts other than SwiGLU";
    for (const FeedForwardConfig& ff : config.layers) {
        std::string what = layer_beyond_olmoe(ff, config.layers[0]);
        if (!what.empty()) return what;
    }
    return policy_beyond_olmoe(config);
}

double ParameterCounts::activated(const std::vector<double>& experts_per_layer) const {
    MUSTER_ASSERT(experts_per_layer.size() == per_expert.size());
    return std::inner_product(per_expert.begin(), per_expert.end(), experts_per_layer.begin(),
                              static_cast<double>(per_token_fixed));
}

namespace {

int64_t latent_parameters(const ModelConfig& c) {
    const LatentAttention& a = c.latent;
    const int64_t d = c.d_model, heads = c.heads, nope = c.head_dim - c.rope_dims;
    const int64_t q = a.query_rank;
    int64_t n = q > 0 ? d * q + q + q * heads * c.head_dim : d * heads * c.head_dim;
    n += d * (a.kv_rank + c.rope_dims) + a.kv_rank;
    n += heads * a.kv_rank * (nope + a.value_dim);
    return n + heads * a.value_dim * d + 2 * d;
}

int64_t attention_parameters(const ModelConfig& c) {
    if (c.latent.used()) return latent_parameters(c);
    const int64_t d = c.d_model;
    const int64_t q = int64_t{c.heads} * c.head_dim, kv = int64_t{c.kv_heads} * c.head_dim;
    int64_t n = 2 * d * q + 2 * d * kv + 2 * d;  // with the norms before both halves
    if (c.qk_norm == QkNorm::full) n += q + kv;
    if (c.qk_norm == QkNorm::per_head) n += 2 * c.head_dim;
    if (c.qkv_bias) n += q + 2 * kv;
    if (c.output_bias) n += d;
    if (c.sinks) n += c.heads;
    return n;
}

}  // namespace

ParameterCounts count_parameters(const ModelConfig& c) {
    ParameterCounts n;
    const int64_t d = c.d_model;
    const int64_t matrices = c.gated ? 3 : 2;
    n.embedding = c.vocab * d;
    n.head = c.tied_head ? 0 : c.vocab * d;
    const int64_t attention = attention_parameters(c);
    n.per_token_fixed = d;  // final norm
    n.total = n.embedding + n.head;
    for (const FeedForwardConfig& ff : c.layers) {
        const int64_t shared = matrices * d * ff.shared_width + (ff.shared_gate ? d : 0);
        n.shared.push_back(static_cast<double>(shared));
        int64_t fixed = attention + shared;
        if (!ff.dense()) fixed += ff.experts() * (d + ff.router_bias);
        const int64_t widths = std::accumulate(ff.widths.begin(), ff.widths.end(), int64_t{0});
        int64_t experts = matrices * d * widths;
        if (ff.expert_bias) experts += (matrices - 1) * widths + ff.experts() * d;
        n.per_token_fixed += fixed;
        n.total += experts;
        n.per_expert.push_back(static_cast<double>(experts) / ff.experts());
    }
    n.total += n.per_token_fixed;
    return n;
}

namespace tensor_names {

std::string layer(int l, std::string_view rest) {
    return "model.layers." + std::to_string(l) + "." + std::string(rest);
}

std::string expert(int l, int e, std::string_view what) {
    return layer(l, "mlp.experts." + std::to_string(e) + "." + std::string(what) + "_proj.weight");
}

}  // namespace tensor_names

}  // namespace muster
