// SPDX-License-Identifier: Apache-2.0
// Keys of config.json: configuration_*.py and modeling_rope_utils.py of huggingface/transformers.
#include "muster/checkpoint/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/error.h"

namespace muster {
namespace {

constexpr int64_t kMost = 1 << 24;

class Reader {
  public:
    Reader(const JsonValue& config, std::string_view where, WeightMap& into)
        : c_(config), where_(where), into_(into), family_(find_family()) {
        result_.family = &family_;
    }

    HfConfig run() {
        refuse_unknown();
        into_.set("general.architecture", std::string(family_.gguf));
        result_.tied = c_.boolean_or(where_, "tie_word_embeddings", false);
        set("block_count", integer("num_hidden_layers", 1, 1024));
        set("context_length", context());
        set("embedding_length", integer("hidden_size"));
        set("vocab_size", integer("vocab_size"));
        set_real("attention.layer_norm_rms_epsilon", c_.real(where_, "rms_norm_eps"));
        family_.latent ? latent_attention() : attention();
        scaling();
        feed_forward();
        if (family_.experts == HfExperts::granite) granite_scales();
        return std::move(result_);
    }

  private:
    [[noreturn]] void refuse(const std::string& what, const std::string& expected) const {
        throw Error(where_, fmt::format("{} is not supported, expected {}", what, expected));
    }
    const HfFamily& find_family() const {
        const auto names = c_.strings(where_, "architectures");
        if (names.empty()) throw Error(where_, "key 'architectures' is empty, expected one name");
        return hf_family(names.front(), where_);
    }
    bool is(std::string_view gguf) const { return family_.gguf == gguf; }

    int64_t integer(std::string_view key, int64_t low = 1, int64_t high = kMost) const {
        return c_.integer(where_, key, low, high);
    }
    int64_t integer_or(std::string_view key, int64_t low, int64_t fallback) const {
        return c_.integer_or(where_, key, low, kMost, fallback);
    }
    std::string full(std::string_view key) const { return fmt::format("{}.{}", family_.gguf, key); }
    void set(std::string_view key, int64_t value) {
        into_.set(full(key), static_cast<uint64_t>(value));
    }
    /// In f32, as a GGUF file would hold it.
    void set_real(std::string_view key, double value) {
        if (std::abs(value) > std::numeric_limits<float>::max())
            throw Error(where_, fmt::format("{} is {}, expected a number of 32 bits", key, value));
        into_.set(full(key), static_cast<double>(static_cast<float>(value)));
    }

    /// Settings that change what a model computes and have no place in GGUF.
    void refuse_unknown() const {
        if (const std::string act = c_.string_or(where_, "hidden_act", "silu"); act != "silu")
            refuse("hidden_act " + quote(act), "silu");
        if (c_.has("clip_qkv")) refuse("clip_qkv", "null");
        if (c_.boolean_or(where_, "use_sliding_window", false))
            refuse("use_sliding_window", "false");
        if (const JsonValue* dense = c_.find("mlp_only_layers");
            dense != nullptr && (dense->array() == nullptr || !dense->array()->empty()))
            refuse("mlp_only_layers", "an empty list");
        for (const char* step : {"decoder_sparse_step", "moe_layer_freq"})
            if (integer_or(step, 0, 1) != 1) refuse(fmt::format("{} other than 1", step), "1");
        if (c_.real_or(where_, "partial_rotary_factor", 1) != 1)
            refuse("partial_rotary_factor other than 1", "1");
        if (is("gpt-oss")) refuse_other_gpt_oss();
        const JsonValue* quantization = c_.find("quantization_config");
        if (quantization == nullptr) return;
        const std::string method = quantization->string_or(where_, "quant_method", "");
        if (family_.experts != HfExperts::gpt_oss || method != "mxfp4")
            refuse("quantization_config with quant_method " + quote(method),
                   "weights in f32, f16 or bf16 (gpt-oss: mxfp4)");
    }

    /// Every other layer, the first one included, sees a window.
    void refuse_other_gpt_oss() const {
        if (c_.real_or(where_, "swiglu_limit", 7) != 7) refuse("swiglu_limit other than 7", "7");
        if (!c_.has("layer_types")) return;
        const auto types = c_.strings(where_, "layer_types");
        for (size_t l = 0; l < types.size(); ++l) {
            const char* expected = l % 2 == 0 ? "sliding_attention" : "full_attention";
            if (types[l] != expected)
                refuse(fmt::format("layer_types with {} in place {}", quote(types[l]), l),
                       expected);
        }
    }

    /// In Mistral's models every layer sees a window; within it they are like others.
    int64_t context() const {
        const int64_t context = integer("max_position_embeddings");
        if (!is("llama")) return context;
        return std::min(context, integer_or("sliding_window", 1, context));
    }

    void attention() {
        const int64_t heads = integer("num_attention_heads", 1, 65536);
        set("attention.head_count", heads);
        set("attention.head_count_kv", integer_or("num_key_value_heads", 1, heads));
        const int64_t dim = integer_or("head_dim", 1, integer("hidden_size") / heads);
        set("rope.dimension_count", dim);
        set("attention.key_length", dim);
        set("attention.value_length", dim);
        if (family_.experts == HfExperts::gpt_oss)
            set("attention.sliding_window", integer("sliding_window"));
    }

    /// One key and value head of the latent's width, as llama.cpp shows it; the heads' own lengths
    /// have keys of their own.
    void latent_attention() {
        const int64_t rank = integer("kv_lora_rank"), rope = integer("qk_rope_head_dim");
        const int64_t query_rank = integer_or("q_lora_rank", 0, 0);
        set("attention.head_count", integer("num_attention_heads", 1, 65536));
        set("attention.head_count_kv", 1);
        set("rope.dimension_count", rope);
        if (query_rank > 0) set("attention.q_lora_rank", query_rank);
        set("attention.kv_lora_rank", rank);
        set("attention.key_length", rank + rope);
        set("attention.value_length", rank);
        set("attention.key_length_mla", integer("qk_nope_head_dim") + rope);
        set("attention.value_length_mla", integer("v_head_dim"));
        if (!c_.boolean_or(where_, "rope_interleave", true))
            refuse("rope_interleave false", "true");
    }

    // Positions.

    void scaling() {
        const JsonValue* parameters = c_.find("rope_parameters");  // transformers 5
        const JsonValue* scaling = parameters != nullptr ? parameters : c_.find("rope_scaling");
        double theta = c_.real_or(where_, "rope_theta", 10000);
        if (parameters != nullptr) theta = parameters->real_or(where_, "rope_theta", theta);
        if (theta <= 0) throw Error(where_, "rope_theta is not above 0");
        set_real("rope.freq_base", theta);
        if (scaling == nullptr) return;
        if (scaling->object() == nullptr) throw Error(where_, "rope_scaling is no object");
        const std::string type =
            scaling->string_or(where_, "rope_type", scaling->string_or(where_, "type", "default"));
        if (type == "default") return;
        if (type != "linear" && type != "yarn" && !(type == "llama3" && is("llama")))
            refuse("rope_scaling of type " + quote(type),
                   is("llama") ? "default, linear, yarn or llama3" : "default, linear or yarn");
        const double factor = scaling->real(where_, "factor");
        constexpr double kMostFactor = 1e6;
        if (!(factor > 0 && factor <= kMostFactor))
            throw Error(where_, fmt::format("rope_scaling's factor is {}, expected more than 0 and "
                                            "at most {}",
                                            factor, kMostFactor));
        if (type == "llama3") return llama3(*scaling, theta, factor);
        into_.set(full("rope.scaling.type"), type);
        set_real("rope.scaling.factor", factor);
        if (type == "yarn") yarn(*scaling, factor);
    }

    int64_t original_context(const JsonValue& scaling, int64_t fallback) const {
        constexpr std::string_view kKey = "original_max_position_embeddings";
        return scaling.integer_or(where_, kKey, 1, kMost, integer_or(kKey, 1, fallback));
    }

    /// attention_factor is the whole multiplier of what is turned; GGUF's attn_factor is multiplied
    /// by 0.1 ln(factor) + 1.
    void yarn(const JsonValue& s, double factor) {
        set("rope.scaling.original_context_length",
            original_context(s, integer("max_position_embeddings")));
        if (s.has("beta_fast"))
            set_real("rope.scaling.yarn_beta_fast", s.real(where_, "beta_fast"));
        if (s.has("beta_slow"))
            set_real("rope.scaling.yarn_beta_slow", s.real(where_, "beta_slow"));
        const double all = s.real_or(where_, "mscale_all_dim", 0);
        if (family_.latent) {
            if (s.has("attention_factor")) refuse("rope_scaling's attention_factor", "none");
            if (s.real_or(where_, "mscale", all) != all)
                refuse("rope_scaling with mscale other than mscale_all_dim", "equal ones");
            // Hugging Face then scales the turned values alone; what GGUF says then scales scores.
            if (all == 0 && factor > 1) refuse("rope_scaling without mscale_all_dim", "a number");
            return set_real("rope.scaling.yarn_log_multiplier", 0.1 * all);
        }
        if (s.has("mscale") || all != 0) refuse("rope_scaling's mscale", "attention_factor");
        if (!s.has("attention_factor")) return;
        const double usual = factor <= 1 ? 1 : 0.1 * std::log(factor) + 1;
        set_real("rope.scaling.attn_factor", s.real(where_, "attention_factor") / usual);
    }

    /// arXiv 2407.21783; GGUF keeps the divisors of the frequencies as a tensor.
    void llama3(const JsonValue& s, double theta, double factor) {
        const double low = s.real(where_, "low_freq_factor");
        const double high = s.real(where_, "high_freq_factor");
        if (!(high > low)) throw Error(where_, "high_freq_factor is not above low_freq_factor");
        const int64_t original = original_context(s, 8192);
        const int64_t dim = into_.integer(full("rope.dimension_count"));
        for (int64_t i = 0; i < dim / 2; ++i) {
            const double wavelength =
                2 * std::numbers::pi *
                std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(dim));
            const double turns = static_cast<double>(original) / wavelength;
            const double smooth = std::clamp((turns - low) / (high - low), 0.0, 1.0);
            const double divisor = turns > high  ? 1
                                   : turns < low ? factor
                                                 : 1 / ((1 - smooth) / factor + smooth);
            result_.rope_factors.push_back(static_cast<float>(divisor));
        }
    }

    // Experts.

    void feed_forward() {
        const int64_t width = integer("intermediate_size");
        set("feed_forward_length", width);
        if (family_.experts == HfExperts::none) return;
        const bool local = family_.experts != HfExperts::list;
        const char* count = family_.latent ? "n_routed_experts"
                            : local        ? "num_local_experts"
                                           : "num_experts";
        const int64_t experts = integer(count, 2, 4096);
        set("expert_count", experts);
        set("expert_used_count", integer("num_experts_per_tok", 1, experts));
        if (is("gpt-oss")) set("expert_feed_forward_length", width);
        if (is("qwen2moe") || is("qwen3moe") || family_.latent)
            set("expert_feed_forward_length", integer("moe_intermediate_size"));
        if (is("qwen2moe"))
            set("expert_shared_feed_forward_length", integer("shared_expert_intermediate_size"));
        if (family_.experts == HfExperts::granite && !family_.shared.empty())
            set("expert_shared_feed_forward_length", integer("shared_intermediate_size"));
        if (family_.latent) return deepseek(experts);
        const bool renorm = is("qwen3moe");
        const bool states = is("qwen3moe") || is("qwen2moe") || is("olmoe");
        if (states && c_.boolean_or(where_, "norm_topk_prob", false) != renorm)
            refuse(fmt::format("norm_topk_prob {} of {}", !renorm, family_.hf),
                   renorm ? "true" : "false");
    }

    void deepseek(int64_t experts) {
        const bool v3 = family_.hf == "DeepseekV3ForCausalLM";
        const bool renorm = c_.boolean_or(where_, "norm_topk_prob", v3);
        if (!v3 && renorm) refuse("norm_topk_prob true of DeepSeek-V2", "false");
        const std::string score = c_.string_or(where_, "scoring_func", v3 ? "sigmoid" : "softmax");
        if (score != (v3 ? "sigmoid" : "softmax"))
            refuse("scoring_func " + quote(score), v3 ? "sigmoid" : "softmax");
        set("leading_dense_block_count", integer_or("first_k_dense_replace", 0, 0));
        set("expert_shared_count", integer_or("n_shared_experts", 0, 0));
        set_real("expert_weights_scale", c_.real_or(where_, "routed_scaling_factor", 1));
        into_.set(full("expert_weights_norm"), renorm);
        set("expert_gating_func", v3 ? 2 : 1);
        result_.later_layers = integer_or("num_nextn_predict_layers", 0, 0);
        const std::string method = c_.string_or(where_, "topk_method", v3 ? "noaux_tc" : "greedy");
        if (v3 ? method != "noaux_tc" : method != "greedy" && method != "group_limited_greedy")
            refuse("topk_method " + quote(method), v3 ? "noaux_tc" : "greedy");
        const int64_t groups = method == "greedy" ? 1 : integer_or("n_group", 1, 1);
        if (groups == 1) return;
        if (experts % groups != 0) throw Error(where_, "n_group does not divide n_routed_experts");
        set("expert_group_count", groups);
        set("expert_group_used_count", c_.integer(where_, "topk_group", 1, groups));
        // GGUF cannot say that V2 ranks a group by its best expert, V3 by its two best.
        if (!v3) into_.set("muster.expert_group_top", uint64_t{1});
    }

    void granite_scales() {
        set_real("embedding_scale", c_.real_or(where_, "embedding_multiplier", 1));
        set_real("residual_scale", c_.real_or(where_, "residual_multiplier", 1));
        set_real("attention.scale", c_.real_or(where_, "attention_multiplier", 1));
        set_real("logit_scale", c_.real_or(where_, "logits_scaling", 1));
        const std::string positions = c_.string_or(where_, "position_embedding_type", "rope");
        if (positions != "rope") refuse("position_embedding_type " + quote(positions), "rope");
    }

    const JsonValue& c_;
    std::string_view where_;
    WeightMap& into_;
    const HfFamily& family_;
    HfConfig result_;
};

}  // namespace

HfConfig read_hf_config(const JsonValue& config, std::string_view where, WeightMap& into) {
    return Reader(config, where, into).run();
}

}  // namespace muster
