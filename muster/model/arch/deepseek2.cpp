// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V2 (arXiv 2405.04434) and V3 (arXiv 2412.19437), and what is built like them: multi-head
// latent attention, interleaved RoPE over a part of each head; first some dense layers, then
// mixtures of SwiGLU experts beside shared ones, scores by softmax or sigmoid, the selection biased
// and limited to groups where the file says so. Keys and values are made from their latent by
// attn_k_b and attn_v_b, in older files by attn_kv_b; queries have a latent of their own
// (attn_q_a, attn_q_b) or none (attn_q).
#include <cmath>

#include "muster/core/error.h"
#include "muster/model/arch/architecture.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

void read_latent(const Keys& keys, ModelConfig& c) {
    const WeightMap& f = keys.file();
    c.latent.kv_rank = keys.integer("attention.kv_lora_rank", 1, kMostDimension);
    if (keys.has("attention.q_lora_rank") && !f.has_tensor("blk.0.attn_q.weight"))
        c.latent.query_rank = keys.integer("attention.q_lora_rank", 1, kMostDimension);
    // With a latent shown as one key/value head, the heads' own lengths have keys of their own.
    const bool split = keys.has("attention.key_length_mla");
    const char* key_length = split ? "attention.key_length_mla" : "attention.key_length";
    c.head_dim = keys.integer(key_length, 1, kMostDimension);
    c.latent.value_dim = keys.integer(
        split ? "attention.value_length_mla" : "attention.value_length", 1, kMostDimension);
    c.rope_dims = keys.integer("rope.dimension_count", 2, kMostDimension);
    if (c.rope_dims % 2 != 0 || c.head_dim % 2 != 0 || c.rope_dims >= c.head_dim)
        keys.refuse("rope.dimension_count",
                    "is " + std::to_string(c.rope_dims) + " of the " + std::to_string(c.head_dim) +
                        " of " + keys.full(key_length) + ", expected less and both even");
    c.kv_heads = 1;
    if (keys.real_or("attention.temperature_scale", 0) != 0)
        keys.refuse("attention.temperature_scale",
                    "is not 0: scores by position are not supported");
}

/// DeepSeek's YaRN scales the scores, not the turned values: by (1 + 0.1 m ln factor)^2, m being
/// config.json's mscale_all_dim, of which the key holds a tenth; its mscale is taken to be the
/// same. Without the key values are scaled as elsewhere, and scores as with m = 0 (llama.cpp).
void read_scale(const Keys& keys, ModelConfig& c) {
    RopeScaling& s = c.rope_scaling;
    const float m = keys.real_or("rope.scaling.yarn_log_multiplier", 0, 100, 0) / 0.1f;
    if (s.extrapolation == 0) return;
    if (m != 0) s.magnitude = keys.real_or("rope.scaling.attn_factor", 1);
    const float scale = s.magnitude * (1 + 0.1f * m * std::log(s.factor));
    c.attention_scale = scale * scale / std::sqrt(static_cast<float>(c.head_dim));
}

FeedForwardConfig read_mixture(const Keys& keys) {
    const int width = keys.integer("expert_feed_forward_length", 1, kMostDimension);
    const bool norm =
        keys.has("expert_weights_norm") && keys.file().boolean(keys.full("expert_weights_norm"));
    FeedForwardConfig ff = read_experts(keys, width, norm ? Weighting::renorm : Weighting::raw);
    RouterSpec& r = ff.router;
    const int gating = keys.integer_or("expert_gating_func", 0, 4, 0);  // llama.cpp's numbers
    constexpr Score kScores[] = {Score::softmax, Score::softmax, Score::sigmoid, Score::softmax,
                                 Score::sqrt_softplus};
    r.score = kScores[gating];
    if (gating == 3) r.weight = Weighting::softmax;
    r.groups = keys.integer_or("expert_group_count", 0, ff.experts(), 0);
    if (r.groups <= 1) {
        r.groups = r.groups_used = 1;
    } else {
        if (ff.experts() % r.groups != 0)
            keys.refuse("expert_group_count", "is " + std::to_string(r.groups) +
                                                  ", expected a divisor of the " +
                                                  std::to_string(ff.experts()) + " experts");
        r.groups_used = keys.integer("expert_group_used_count", 1, r.groups);
        // Ours: DeepSeek-V2 ranks a group by its best expert; llama.cpp takes two everywhere.
        constexpr std::string_view kTop = "muster.expert_group_top";
        if (keys.file().has(kTop))
            r.group_top = static_cast<int>(keys.file().integer(kTop, 1, ff.experts() / r.groups));
    }
    ff.shared_width = width * keys.integer_or("expert_shared_count", 0, kMostDimension / width, 0);
    return ff;
}

ModelConfig read_config(const WeightMap& f) {
    const Keys keys(f, "deepseek2");
    ModelConfig c = read_frame(keys, "deepseek2");
    c.rope = RopeLayout::norm;
    read_latent(keys, c);
    read_scale(keys, c);
    const int dense = keys.integer_or("leading_dense_block_count", 0, c.num_layers(), 0);
    FeedForwardConfig first;
    if (dense > 0) first.widths = {keys.integer("feed_forward_length", 1, kMostDimension)};
    for (int l = 0; l < dense; ++l) c.layers[l] = first;
    if (dense == c.num_layers()) return c;
    const FeedForwardConfig mixture = read_mixture(keys);
    for (int l = dense; l < c.num_layers(); ++l) c.layers[l] = mixture;
    return c;
}

/// attn_kv_b: of each head first nope rows that make its keys, then value_dim rows.
void bind_whole(TensorReader& f, const ModelConfig& c, const std::string& name, LatentWeights& w) {
    const int64_t nope = c.head_dim - c.rope_dims, values = c.latent.value_dim;
    const int64_t rank = c.latent.kv_rank;
    w.whole = binding::matrix(f, name, c.heads * (nope + values), rank);
    for (int64_t h = 0; h < c.heads; ++h) {
        w.keys.push_back({.dtype = DType::f32, .data = nullptr, .rows = rank, .cols = nope});
        WeightMatrix part = w.whole;
        part.data = w.whole.row(h * (nope + values) + nope);
        part.rows = values;
        w.values.push_back(part);
    }
}

void bind_attention(TensorReader& f, const ModelConfig& c, int l, LayerWeights& w) {
    const LatentAttention& a = c.latent;
    const int64_t d = c.d_model, heads = c.heads, nope = c.head_dim - c.rope_dims;
    const auto name = [&](const char* rest) { return binding::layer_name(l, rest); };
    LatentWeights& lw = w.latent;
    w.attention_norm = binding::vector(f, name("attn_norm.weight"), d);
    if (a.query_rank > 0) {
        lw.query_down = binding::matrix(f, name("attn_q_a.weight"), a.query_rank, d);
        lw.query_down_norm = binding::vector(f, name("attn_q_a_norm.weight"), a.query_rank);
        w.query = binding::matrix(f, name("attn_q_b.weight"), heads * c.head_dim, a.query_rank);
    } else {
        w.query = binding::matrix(f, name("attn_q.weight"), heads * c.head_dim, d);
    }
    lw.down = binding::matrix(f, name("attn_kv_a_mqa.weight"), a.kv_rank + c.rope_dims, d);
    lw.norm = binding::vector(f, name("attn_kv_a_norm.weight"), a.kv_rank);
    const bool split = f.has_tensor(name("attn_k_b.weight")) ||
                       (f.file().has("deepseek2.attention.key_length_mla") &&
                        !f.has_tensor(name("attn_kv_b.weight")));
    if (!split) {
        bind_whole(f, c, name("attn_kv_b.weight"), lw);
    } else {
        f.pass_over(name("attn_kv_b.weight"));  // the same weights, for programs that need both
        lw.keys = binding::matrices(f, name("attn_k_b.weight"), heads, a.kv_rank, nope);
        lw.values = binding::matrices(f, name("attn_v_b.weight"), heads, a.value_dim, a.kv_rank);
    }
    w.output = binding::matrix(f, name("attn_output.weight"), d, heads * a.value_dim);
}

void bind(TensorReader& f, const ModelConfig& c, ModelWeights& weights) {
    binding::bind_ends(f, c, true, weights);
    for (int l = 0; l < c.num_layers(); ++l) {
        LayerWeights& w = weights.layers[l];
        bind_attention(f, c, l, w);
        w.feed_forward_norm =
            binding::vector(f, binding::layer_name(l, "ffn_norm.weight"), c.d_model);
        if (c.layers[l].dense()) {
            binding::bind_dense(f, c, l, w);
            continue;
        }
        binding::bind_router(f, c, l, w);
        const std::string bias = binding::layer_name(l, "exp_probs_b.bias");
        if (f.has_tensor(bias))
            w.router_parameters.selection_bias = binding::vector(f, bias, c.layers[l].experts());
        binding::bind_stacked_experts(f, c, l, w);
        binding::bind_shared(f, c, l, w);
    }
}

}  // namespace

void transpose_keys(LatentWeights& w) {
    if (w.whole.empty()) return;
    const int64_t rank = w.keys[0].rows, nope = w.keys[0].cols, values = w.values[0].rows;
    w.transposed_keys.reserve(w.keys.size() * static_cast<size_t>(rank * nope));
    std::vector<float> row(static_cast<size_t>(rank));
    float* keys = w.transposed_keys.data();
    int64_t from = 0;  // of w.whole
    for (WeightMatrix& head : w.keys) {
        for (int64_t i = 0; i < nope; ++i) {
            decode_row(w.whole.dtype, w.whole.row(from + i), row.data(), rank);
            for (int64_t r = 0; r < rank; ++r) keys[r * nope + i] = row[r];
        }
        head.data = reinterpret_cast<const std::byte*>(keys);
        keys += rank * nope;
        from += nope + values;
    }
}

const Architecture kDeepSeek2{"deepseek2", read_config, bind};

}  // namespace muster
