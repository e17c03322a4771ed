// SPDX-License-Identifier: Apache-2.0
// Keys of config.json: configuration_*.py and modeling_rope_utils.py of huggingface/transformers.
#include "muster/checkpoint/hf_config_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numbers>

#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/error.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

/// The shortest number that f32 rounds to the same value: 1e-06, not 9.99999997e-07.
double shortest(double value) { return std::stod(fmt::format("{}", static_cast<float>(value))); }

class Writer {
  public:
    Writer(const WeightMap& model, const HfShape& shape, DType dtype, bool mxfp4)
        : m_(model), s_(shape), f_(*shape.family), dtype_(dtype), mxfp4_(mxfp4) {}

    std::string run() {
        refuse_ours();
        j_ = {{"architectures", {f_.hf}},
              {"model_type", f_.model_type},
              {"vocab_size", s_.vocab},
              {"hidden_size", s_.d},
              {"intermediate_size", integer("feed_forward_length")},
              {"num_hidden_layers", s_.layers},
              {"num_attention_heads", s_.heads},
              {"num_key_value_heads", f_.latent ? s_.heads : s_.kv_heads},
              {"hidden_act", "silu"},
              {"max_position_embeddings", integer("context_length")},
              {"rms_norm_eps", real("attention.layer_norm_rms_epsilon")},
              {"rope_theta", real_or("rope.freq_base", 10000)},
              {"rope_scaling", scaling()},
              {"tie_word_embeddings", !m_.has_tensor("output.weight")},
              {"torch_dtype", dtype_ == DType::f32   ? "float32"
                              : dtype_ == DType::f16 ? "float16"
                                                     : "bfloat16"}};
        token("bos_token_id");
        token("eos_token_id");
        if (!f_.latent) attention();
        if (f_.latent) {
            deepseek();
        } else if (s_.experts > 0) {
            experts();
        }
        if (f_.experts == HfExperts::granite) granite_scales();
        if (mxfp4_)
            j_["quantization_config"] = {{"quant_method", "mxfp4"},
                                         {"modules_to_not_convert",
                                          {"model.layers.*.self_attn", "model.layers.*.mlp.router",
                                           "model.embed_tokens", "lm_head"}}};
        return j_.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    }

  private:
    std::string full(std::string_view key) const { return fmt::format("{}.{}", f_.gguf, key); }
    bool has(std::string_view key) const { return m_.has(full(key)); }
    int64_t integer(std::string_view key) const { return m_.integer(full(key)); }
    double real(std::string_view key) const { return shortest(m_.real(full(key))); }
    double real_or(std::string_view key, double fallback) const {
        return has(key) ? real(key) : fallback;
    }
    [[noreturn]] void refuse(std::string_view key, std::string_view why) const {
        throw Error(m_.name(), fmt::format("key {} {}, which {} cannot express", key, why, f_.hf));
    }

    void refuse_ours() const {
        if (m_.has("muster.router.selection"))
            refuse("muster.router.selection", "sets routers of its own");
        if (!f_.latent && has("expert_weights_scale")) {
            const double scale = real("expert_weights_scale");
            if (scale != 0 && scale != 1) refuse(full("expert_weights_scale"), "is not 1");
        }
        if (!f_.latent && has("rope.dimension_count") &&
            integer("rope.dimension_count") != s_.head_dim)
            refuse(full("rope.dimension_count"), "is not the length of heads");
    }

    void token(const char* key) {
        const std::string stored = fmt::format("tokenizer.ggml.{}", key);
        if (m_.has(stored)) j_[key] = m_.integer(stored, 0, UINT32_MAX);
    }

    void attention() {
        const bool named = f_.gguf == "llama" || f_.gguf == "qwen3moe" || f_.gguf == "gpt-oss";
        if (named) {
            j_["head_dim"] = s_.head_dim;
        } else if (s_.head_dim * s_.heads != s_.d) {
            refuse(full("attention.key_length"), "is not the width by the number of heads");
        }
        const bool biased = attention_bias();
        if (f_.gguf != "qwen2moe") j_["attention_bias"] = biased;
    }

    /// Whether attention's projections have biases: all have, or none, is what families can say;
    /// Qwen2's always have, but for the output, and Mixtral's never.
    bool attention_bias() const {
        constexpr std::string_view kParts[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
        const auto name = [](int64_t l, std::string_view part) {
            return fmt::format("blk.{}.{}.bias", l, part);
        };
        bool any = f_.gguf == "qwen2moe";
        for (int64_t l = 0; l < s_.layers && f_.experts != HfExperts::mixtral; ++l)
            for (const std::string_view part : kParts) any = any || m_.has_tensor(name(l, part));
        for (int64_t l = 0; l < s_.layers; ++l) {
            for (const std::string_view part : kParts) {
                const bool expected = any && !(f_.gguf == "qwen2moe" && part == "attn_output");
                if (m_.has_tensor(name(l, part)) == expected) continue;
                const std::string bias = quote(name(l, part));
                if (!expected)
                    throw Error(m_.name(), fmt::format("has the tensor {}, expected none there: {} "
                                                       "has no such bias",
                                                       bias, f_.hf));
                throw Error(m_.name(),
                            fmt::format("has no tensor {}, expected one as {} has biases "
                                        "of all such projections or of none",
                                        bias, f_.hf));
            }
        }
        return any;
    }

    // Positions.

    Json scaling() const {
        if (m_.has_tensor("rope_freqs.weight")) return llama3();
        std::string type = has("rope.scaling.factor") ? "linear" : "none";
        if (has("rope.scaling.type")) type = m_.string(full("rope.scaling.type"));
        if (type == "none") return nullptr;
        if (type != "linear" && type != "yarn") refuse(full("rope.scaling.type"), "is " + type);
        const double factor = real("rope.scaling.factor");
        Json j{{"rope_type", type}, {"factor", factor}};
        if (type == "linear") return j;
        j["original_max_position_embeddings"] =
            has("rope.scaling.original_context_length")
                ? integer("rope.scaling.original_context_length")
                : integer("context_length");
        j["beta_fast"] = real_or("rope.scaling.yarn_beta_fast", 32);
        j["beta_slow"] = real_or("rope.scaling.yarn_beta_slow", 1);
        if (f_.latent) {
            j["type"] = "yarn";
            const double all = shortest(real_or("rope.scaling.yarn_log_multiplier", 0) / 0.1);
            if (all != 0) j["mscale"] = j["mscale_all_dim"] = all;
            if (all == 0 && factor > 1) refuse(full("rope.scaling.yarn_log_multiplier"), "is 0");
        } else if (has("rope.scaling.attn_factor")) {
            const double usual = factor <= 1 ? 1 : 0.1 * std::log(factor) + 1;
            j["attention_factor"] = real("rope.scaling.attn_factor") * usual;
        }
        if (f_.gguf == "gpt-oss") j["truncate"] = false;
        return j;
    }

    /// Llama 3's settings, from the divisors that they make (low and high factors 1 and 4 in every
    /// published model): the last one is the factor, one between tells the original context.
    Json llama3() const {
        const int64_t half = s_.head_dim / 2;
        const TensorView& t = m_.tensor("rope_freqs.weight", {half});
        std::vector<float> divisors(static_cast<size_t>(half));
        if (t.dtype != DType::f32) refuse("rope_freqs.weight", "is not f32");
        std::memcpy(divisors.data(), t.data, divisors.size() * sizeof(float));
        const double factor = shortest(divisors.back()), theta = real_or("rope.freq_base", 10000);
        const auto wavelength = [&](size_t i) {
            return 2 * std::numbers::pi *
                   std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(s_.head_dim));
        };
        double original = 8192;
        for (size_t i = 0; i < divisors.size(); ++i) {
            if (divisors[i] <= 1 || divisors[i] >= divisors.back()) continue;
            const double smooth = (1 / double{divisors[i]} - 1 / factor) / (1 - 1 / factor);
            original = std::round((1 + 3 * smooth) * wavelength(i));
            break;
        }
        for (size_t i = 0; i < divisors.size(); ++i) {
            const double smooth = std::clamp((original / wavelength(i) - 1) / 3, 0.0, 1.0);
            const double divisor = 1 / ((1 - smooth) / factor + smooth);
            if (!(std::abs(divisor - double{divisors[i]}) <= 1e-3 * divisor) || factor < 1)
                refuse("rope_freqs.weight", "holds other divisors than Llama 3's");
        }
        return {{"rope_type", "llama3"},
                {"factor", factor},
                {"low_freq_factor", 1.0},
                {"high_freq_factor", 4.0},
                {"original_max_position_embeddings", static_cast<int64_t>(original)}};
    }

    // Experts.

    void experts() {
        const bool listed = f_.experts == HfExperts::list;
        j_[listed ? "num_experts" : "num_local_experts"] = s_.experts;
        j_["num_experts_per_tok"] = integer("expert_used_count");
        if (listed) j_["norm_topk_prob"] = f_.gguf == "qwen3moe";
        if (f_.gguf == "gpt-oss") {
            j_["intermediate_size"] = s_.expert_width;
            j_["sliding_window"] = integer("attention.sliding_window");
            constexpr std::string_view kPattern = "attention.sliding_window_pattern";
            if (has(kPattern) && integer(kPattern) != 2) refuse(full(kPattern), "is not 2");
            return;
        }
        if (f_.gguf == "qwen2moe" || f_.gguf == "qwen3moe") {
            j_["moe_intermediate_size"] = s_.expert_width;
            j_["decoder_sparse_step"] = 1;
            j_["mlp_only_layers"] = Json::array();
            j_["use_sliding_window"] = false;
        }
        if (f_.gguf == "qwen2moe") j_["shared_expert_intermediate_size"] = s_.shared_width;
        if (f_.gguf == "llama") j_["sliding_window"] = nullptr;
        if (f_.gguf == "granitemoe" && s_.shared_width > 0)
            j_["shared_intermediate_size"] = s_.shared_width;
    }

    void deepseek() {
        const bool v3 = f_.hf == "DeepseekV3ForCausalLM";
        const bool renorm = has("expert_weights_norm") && m_.boolean(full("expert_weights_norm"));
        if (!v3 && renorm) refuse(full("expert_weights_norm"), "is true");
        const int64_t groups = has("expert_group_count") ? integer("expert_group_count") : 1;
        if (!v3 && groups > 1 && !m_.has("muster.expert_group_top"))
            refuse(full("expert_group_count"), "ranks groups by their two best experts");
        const double scale = real_or("expert_weights_scale", 1);
        j_["q_lora_rank"] = s_.query_rank > 0 ? Json(s_.query_rank) : Json(nullptr);
        j_["kv_lora_rank"] = s_.kv_rank;
        j_["qk_nope_head_dim"] = s_.nope;
        j_["qk_rope_head_dim"] = s_.rope;
        j_["v_head_dim"] = s_.value;
        j_["first_k_dense_replace"] = s_.dense_layers;
        j_["moe_intermediate_size"] = s_.expert_width;
        j_["moe_layer_freq"] = 1;
        j_["n_routed_experts"] = s_.experts;
        j_["n_shared_experts"] = s_.shared_width / s_.expert_width;
        j_["num_experts_per_tok"] = integer("expert_used_count");
        j_["routed_scaling_factor"] = scale == 0 ? 1 : scale;
        j_["norm_topk_prob"] = renorm;
        j_["scoring_func"] = v3 ? "sigmoid" : "softmax";
        j_["topk_method"] = v3 ? "noaux_tc" : groups > 1 ? "group_limited_greedy" : "greedy";
        j_["n_group"] = std::max<int64_t>(groups, 1);
        j_["topk_group"] =
            has("expert_group_used_count") ? integer("expert_group_used_count") : int64_t{1};
    }

    void granite_scales() {
        const auto scale = [&](const char* key, double none) {
            const double value = real_or(key, 0);
            return value == 0 ? none : value;
        };
        j_["embedding_multiplier"] = scale("embedding_scale", 1);
        j_["residual_multiplier"] = scale("residual_scale", 1);
        j_["attention_multiplier"] =
            scale("attention.scale", 1 / std::sqrt(static_cast<double>(s_.head_dim)));
        j_["logits_scaling"] = real("logit_scale");
    }

    const WeightMap& m_;
    const HfShape& s_;
    const HfFamily& f_;
    DType dtype_;
    bool mxfp4_;
    Json j_;
};

}  // namespace

std::string hf_config_text(const WeightMap& model, const HfShape& shape, DType dtype, bool mxfp4) {
    return Writer(model, shape, dtype, mxfp4).run();
}

}  // namespace muster
