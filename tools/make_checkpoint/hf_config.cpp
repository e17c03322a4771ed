// SPDX-License-Identifier: Apache-2.0
// Keys: configuration_*.py of huggingface/transformers.
#include "tools/make_checkpoint/hf_config.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "tools/make_checkpoint/weights.h"

namespace muster::checkpoints {
namespace {

using Json = nlohmann::ordered_json;

/// The number as it was written in the specification, not what f32 makes of it.
double shortest(float value) { return std::stod(fmt::format("{}", value)); }

struct Class {
    const char* name;
    const char* type;
};

Class class_of(const CheckpointSpec& s) {
    switch (s.family) {
        case Family::olmoe:
            return {"OlmoeForCausalLM", "olmoe"};
        case Family::qwen2moe:
            return {"Qwen2MoeForCausalLM", "qwen2_moe"};
        case Family::qwen3moe:
            return {"Qwen3MoeForCausalLM", "qwen3_moe"};
        case Family::llama:
            if (s.experts > 0) return {"MixtralForCausalLM", "mixtral"};
            return {"LlamaForCausalLM", "llama"};
        case Family::deepseek2:
            if (s.sigmoid) return {"DeepseekV3ForCausalLM", "deepseek_v3"};
            return {"DeepseekV2ForCausalLM", "deepseek_v2"};
        case Family::gpt_oss:
            return {"GptOssForCausalLM", "gpt_oss"};
        case Family::granitemoe:
            break;
    }
    if (s.shared_width > 0) return {"GraniteMoeSharedForCausalLM", "granitemoeshared"};
    return {"GraniteMoeForCausalLM", "granitemoe"};
}

Json scaling(const CheckpointSpec& s) {
    const RopeScaling& r = s.scaling;
    if (r.kind == RopeScaling::Kind::none) return nullptr;
    if (r.kind == RopeScaling::Kind::linear) return {{"rope_type", "linear"}, {"factor", r.factor}};
    Json j{{"factor", r.factor}, {"original_max_position_embeddings", r.original_context}};
    if (r.kind == RopeScaling::Kind::llama3) {
        j["rope_type"] = "llama3";
        j["low_freq_factor"] = 1.0;
        j["high_freq_factor"] = 4.0;
        return j;
    }
    j[s.family == Family::deepseek2 ? "type" : "rope_type"] = "yarn";
    j["beta_fast"] = 32;
    j["beta_slow"] = 1;
    if (r.mscale_all_dim > 0) j["mscale"] = j["mscale_all_dim"] = r.mscale_all_dim;
    return j;
}

void experts(const CheckpointSpec& s, Json& j) {
    const bool listed =
        s.family == Family::olmoe || s.family == Family::qwen2moe || s.family == Family::qwen3moe;
    j[listed ? "num_experts" : "num_local_experts"] = s.experts;
    j["num_experts_per_tok"] = s.used;
    if (listed) j["norm_topk_prob"] = s.family == Family::qwen3moe;
    if (s.family == Family::qwen2moe || s.family == Family::qwen3moe) {
        j["moe_intermediate_size"] = s.expert_width;
        j["decoder_sparse_step"] = 1;
        j["mlp_only_layers"] = Json::array();
        j["use_sliding_window"] = false;
    }
    if (s.family == Family::qwen2moe) j["shared_expert_intermediate_size"] = s.shared_width;
    if (s.family == Family::gpt_oss) j["sliding_window"] = s.window;
    if (s.family == Family::granitemoe && s.shared_width > 0)
        j["shared_intermediate_size"] = s.shared_width;
}

void deepseek(const CheckpointSpec& s, Json& j) {
    const LatentAttention& a = s.latent;
    j["q_lora_rank"] = a.query_rank > 0 ? Json(a.query_rank) : Json(nullptr);
    j["kv_lora_rank"] = a.kv_rank;
    j["qk_nope_head_dim"] = a.nope_dim;
    j["qk_rope_head_dim"] = a.rope_dim;
    j["v_head_dim"] = a.value_dim;
    j["first_k_dense_replace"] = s.dense_layers;
    j["moe_intermediate_size"] = s.expert_width;
    j["moe_layer_freq"] = 1;
    j["n_routed_experts"] = s.experts;
    j["n_shared_experts"] = s.shared_experts;
    j["num_experts_per_tok"] = s.used;
    j["routed_scaling_factor"] = s.weight_scale;
    j["norm_topk_prob"] = s.renorm;
    j["scoring_func"] = s.sigmoid ? "sigmoid" : "softmax";
    j["n_group"] = s.groups;
    j["topk_group"] = s.groups_used;
    j["topk_method"] = s.sigmoid ? "noaux_tc" : s.groups > 1 ? "group_limited_greedy" : "greedy";
}

}  // namespace

std::string hf_config_text(const CheckpointSpec& s, const HfOptions& options) {
    const Class c = class_of(s);
    const bool dense_width = s.dense_width > 0;
    Json j{{"architectures", {c.name}},
           {"model_type", c.type},
           {"vocab_size", s.vocab},
           {"hidden_size", s.d_model},
           {"intermediate_size", dense_width ? s.dense_width : s.expert_width},
           {"num_hidden_layers", s.layers},
           {"num_attention_heads", s.heads},
           {"num_key_value_heads", s.kv_heads},
           {"hidden_act", "silu"},
           {"max_position_embeddings", s.context},
           {"rms_norm_eps", shortest(s.norm_eps)},
           {"rope_theta", shortest(s.rope_theta)},
           {"rope_scaling", scaling(s)},
           {"tie_word_embeddings", s.tied_head},
           {"torch_dtype", options.dtype == DType::f32   ? "float32"
                           : options.dtype == DType::f16 ? "float16"
                                                         : "bfloat16"}};
    if (s.family != Family::deepseek2 && s.head_dim * s.heads != s.d_model)
        j["head_dim"] = s.head_dim;
    if (s.family == Family::deepseek2) {
        deepseek(s, j);
    } else if (s.experts > 0) {
        experts(s, j);
    }
    if (s.family == Family::granitemoe) {
        j["embedding_multiplier"] = s.embedding_scale;
        j["residual_multiplier"] = s.residual_scale;
        j["attention_multiplier"] =
            s.attention_scale > 0 ? s.attention_scale : 1 / std::sqrt(s.head_dim);
        j["logits_scaling"] = logit_scale(s);
    }
    if (options.mxfp4_experts) j["quantization_config"] = {{"quant_method", "mxfp4"}};
    return j.dump(2) + "\n";
}

std::string hf_tokenizer_config_text(const CheckpointSpec& spec, const Vocabulary& v) {
    Json j{{"tokenizer_class", "PreTrainedTokenizerFast"},
           {"model_max_length", spec.context},
           {"add_bos_token", v.add_bos},
           {"clean_up_tokenization_spaces", false}};
    const auto name = [&](const char* key, int32_t id) {
        if (id >= 0) j[key] = v.pieces[static_cast<size_t>(id)];
    };
    name("bos_token", v.bos);
    name("eos_token", v.eos);
    name("unk_token", v.unk);
    return j.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace muster::checkpoints
