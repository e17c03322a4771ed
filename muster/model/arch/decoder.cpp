// SPDX-License-Identifier: Apache-2.0
// What the decoders of GGUF have in common: keys and their defaults are llama.cpp's.
#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "muster/core/error.h"
#include "muster/model/arch/architecture.h"

namespace muster {
namespace {

/// 0.1 m ln(factor) + 1 (arXiv 2309.00071, equation 22).
float yarn_magnitude(float factor, float m) {
    return factor <= 1 ? 1.0f : 0.1f * m * std::log(factor) + 1.0f;
}

/// Older files name the linear factor alone, in rope.scale_linear.
RopeScaling read_scaling(const Keys& keys, int context) {
    RopeScaling s;
    std::string type = keys.has("rope.scaling.factor") ? "linear" : "none";
    if (keys.has("rope.scaling.type")) type = keys.file().string(keys.full("rope.scaling.type"));
    if (type != "none" && type != "linear" && type != "yarn")
        keys.refuse("rope.scaling.type",
                    "is \"" + type + "\", which is not supported, expected none, linear or yarn");
    if (type == "none") return s;
    const char* factor = keys.has("rope.scaling.factor") ? "rope.scaling.factor"  //
                                                         : "rope.scale_linear";
    s.factor = keys.real_or(factor, 0);
    s.factor = s.factor == 0 ? 1 : keys.positive_or(factor, 1);  // 0: as if it were not there
    s.magnitude = keys.positive_or("rope.scaling.attn_factor", 1);
    if (type != "yarn") return s;
    s.original_context =
        keys.integer_or("rope.scaling.original_context_length", 1, kMostDimension, context);
    s.extrapolation = keys.real_or("rope.scaling.yarn_ext_factor", 1);
    if (s.extrapolation < 0) s.extrapolation = 1;
    if (s.extrapolation > 1)
        keys.refuse("rope.scaling.yarn_ext_factor", "is above 1, expected at most 1");
    s.beta_fast = keys.positive_or("rope.scaling.yarn_beta_fast", 32);
    s.beta_slow = keys.positive_or("rope.scaling.yarn_beta_slow", 1);
    if (s.extrapolation > 0) s.magnitude *= yarn_magnitude(s.factor, 1);
    return s;
}

bool any_layer_has(const WeightMap& file, int layers, std::initializer_list<const char*> tensors) {
    for (int l = 0; l < layers; ++l)
        for (const char* rest : tensors)
            if (file.has_tensor(binding::layer_name(l, rest))) return true;
    return false;
}

}  // namespace

float Keys::refuse(std::string_view key, const std::string& what) const {
    throw Error(file_.name(), "key " + full(key) + " " + what);
}

float Keys::real(std::string_view key) const {
    const auto value = static_cast<float>(file_.real(full(key)));
    return std::isfinite(value) ? value : refuse(key, "is too large, expected a number of 32 bits");
}

float Keys::real_or(std::string_view key, float low, float high, float fallback) const {
    const float value = real_or(key, fallback);
    if (value < low || value > high)
        refuse(key, "is " + std::to_string(value) + ", expected " + std::to_string(low) + " to " +
                        std::to_string(high));
    return value;
}

int Keys::even_or(std::string_view key, int64_t low, int64_t high, int fallback) const {
    const int value = integer_or(key, low, high, fallback);
    if (value % 2 != 0) refuse(key, "is " + std::to_string(value) + ", expected an even number");
    return value;
}

ModelConfig read_frame(const Keys& keys, std::string_view architecture) {
    const WeightMap& file = keys.file();
    ModelConfig c;
    c.architecture = architecture;
    c.layers.resize(keys.integer("block_count", 1, 1024));
    c.context = keys.integer("context_length", 1, kMostDimension);
    c.d_model = keys.integer("embedding_length", 1, kMostDimension);
    c.heads = keys.integer("attention.head_count", 1, 65536);
    c.kv_heads = keys.integer_or("attention.head_count_kv", 1, 65536, c.heads);
    if (c.heads % c.kv_heads != 0)
        keys.refuse("attention.head_count_kv", "is " + std::to_string(c.kv_heads) +
                                                   ", expected a divisor of the " +
                                                   std::to_string(c.heads) + " heads");
    c.norm_eps = keys.real("attention.layer_norm_rms_epsilon");
    if (c.norm_eps < 0)
        keys.refuse("attention.layer_norm_rms_epsilon", "is negative, expected at least 0");
    c.rope_theta = keys.positive_or("rope.freq_base", 10000.0f);
    c.rope_scaling = read_scaling(keys, c.context);
    if (file.has_tensor("rope_factors_long.weight"))
        throw Error(file.name(),
                    "tensor rope_factors_long.weight: RoPE scaling by length is not supported");
    c.rope_factors = file.has_tensor("rope_freqs.weight");
    c.qk_norm = QkNorm::none;
    c.tied_head = !file.has_tensor("output.weight");
    return c;
}

ModelConfig read_decoder(const Keys& keys, std::string_view architecture) {
    const WeightMap& file = keys.file();
    ModelConfig c = read_frame(keys, architecture);
    c.head_dim = keys.even_or("attention.key_length", 2, kMostDimension, c.d_model / c.heads);
    if (keys.integer_or("attention.value_length", 1, kMostDimension, c.head_dim) != c.head_dim)
        throw Error(file.name(), "key " + keys.full("attention.value_length") + " is not " +
                                     std::to_string(c.head_dim) + ", the keys' length");
    const int turned = keys.even_or("rope.dimension_count", 2, c.head_dim, c.head_dim);
    if (turned != c.head_dim) c.rope_dims = turned;
    c.qkv_bias = any_layer_has(file, c.num_layers(), {"attn_q.bias", "attn_k.bias", "attn_v.bias"});
    c.output_bias = any_layer_has(file, c.num_layers(), {"attn_output.bias"});
    return c;
}

FeedForwardConfig read_experts(const Keys& keys, int width, Weighting weight) {
    FeedForwardConfig ff;
    const int experts = keys.integer("expert_count", 2, 4096);
    ff.widths.assign(experts, width);
    ff.router.num_experts = experts;
    ff.router.value = keys.integer("expert_used_count", 1, experts);
    ff.router.weight = weight;
    const float scale = keys.real_or("expert_weights_scale", 0);
    if (scale != 0) ff.router.scale = scale;
    return ff;
}

}  // namespace muster
