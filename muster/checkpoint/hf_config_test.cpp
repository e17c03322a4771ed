// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/hf_config.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "muster/core/error.h"

namespace muster {
namespace {

using nlohmann::json;

json qwen3() {
    return {{"architectures", {"Qwen3MoeForCausalLM"}},
            {"vocab_size", 100},
            {"hidden_size", 64},
            {"intermediate_size", 96},
            {"moe_intermediate_size", 32},
            {"num_hidden_layers", 2},
            {"num_attention_heads", 4},
            {"num_key_value_heads", 2},
            {"head_dim", 32},
            {"num_experts", 8},
            {"num_experts_per_tok", 2},
            {"norm_topk_prob", true},
            {"max_position_embeddings", 1000},
            {"rms_norm_eps", 1e-6},
            {"rope_theta", 1e6}};
}

json llama() {
    json j = qwen3();
    j["architectures"] = {"LlamaForCausalLM"};
    return j;
}

WeightMap read(const json& config) {
    WeightMap map("test");
    read_hf_config(JsonValue::parse(config.dump(), "config"), "config", map);
    return map;
}

json with(json config, const char* key, const json& value) {
    config[key] = value;
    return config;
}

void refused(const json& config, const std::string& what) {
    try {
        read(config);
        ADD_FAILURE() << "accepted, expected: " << what;
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), ::testing::HasSubstr(what));
    }
}

TEST(HfConfig, SettingsThatCannotBeExpressedAreRefusedByName) {
    EXPECT_NO_THROW(read(qwen3()));
    const std::vector<std::pair<const char*, json>> settings{
        {"norm_topk_prob", false},
        {"mlp_only_layers", {0}},
        {"decoder_sparse_step", 2},
        {"use_sliding_window", true},
        {"clip_qkv", 8.0},
        {"hidden_act", "gelu"},
        {"partial_rotary_factor", 0.5},
        {"quantization_config", {{"quant_method", "fp8"}}},
        {"architectures", {"BertModel"}},
        {"rope_scaling", {{"rope_type", "longrope"}, {"factor", 2.0}}},
        {"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}}},
        {"num_hidden_layers", 100000},
        {"hidden_size", 0},
        {"num_experts_per_tok", 9},
        {"rms_norm_eps", "small"},
        {"rope_theta", -1.0}};
    for (const auto& [key, value] : settings) {
        const std::string named = key == std::string("architectures") ? "BertModel" : key;
        refused(with(qwen3(), key, value), named);
    }
    for (const char* key :
         {"hidden_size", "num_experts", "moe_intermediate_size", "rms_norm_eps"}) {
        json config = qwen3();
        config.erase(key);
        refused(config, key);
    }
}

TEST(HfConfig, ScalingComesFromEitherForm) {
    const json yarn{{"type", "yarn"},
                    {"factor", 4.0},
                    {"original_max_position_embeddings", 250},
                    {"attention_factor", 1.0}};
    const WeightMap old = read(with(qwen3(), "rope_scaling", yarn));
    EXPECT_EQ(old.string("qwen3moe.rope.scaling.type"), "yarn");
    EXPECT_EQ(old.integer("qwen3moe.rope.scaling.original_context_length"), 250);
    // The whole multiplier is 1: what llama.cpp multiplies by 0.1 ln 4 + 1 has to undo that.
    EXPECT_NEAR(old.real("qwen3moe.rope.scaling.attn_factor") * (0.1 * std::log(4.0) + 1), 1, 1e-6);
    json parameters = yarn;
    parameters["rope_theta"] = 5000.0;
    const WeightMap now = read(with(qwen3(), "rope_parameters", parameters));
    EXPECT_EQ(now.real("qwen3moe.rope.freq_base"), 5000);
    EXPECT_EQ(now.real("qwen3moe.rope.scaling.factor"), 4);
}

TEST(HfConfig, Llama3ScalingBecomesDivisors) {
    json config = llama();
    config["rope_theta"] = 500000.0;
    config["rope_scaling"] = {{"rope_type", "llama3"},
                              {"factor", 8.0},
                              {"low_freq_factor", 1.0},
                              {"high_freq_factor", 4.0}};
    WeightMap map("test");
    const HfConfig read = read_hf_config(JsonValue::parse(config.dump(), "config"), "config", map);
    ASSERT_EQ(read.rope_factors.size(), 16u);
    EXPECT_EQ(read.rope_factors.front(), 1);
    EXPECT_EQ(read.rope_factors.back(), 8);
    EXPECT_FALSE(map.has("llama.rope.scaling.type"));
}

TEST(HfConfig, MistralsWindowLimitsTheContext) {
    json config = llama();
    config["architectures"] = {"MistralForCausalLM"};
    EXPECT_EQ(read(config).integer("llama.context_length"), 1000);
    EXPECT_EQ(read(with(config, "sliding_window", 400)).integer("llama.context_length"), 400);
}

TEST(HfConfig, DeepSeekV2RanksGroupsByTheirBestExpert) {
    json config = qwen3();
    config.update({{"architectures", {"DeepseekV2ForCausalLM"}},
                   {"norm_topk_prob", false},
                   {"kv_lora_rank", 16},
                   {"q_lora_rank", nullptr},
                   {"qk_nope_head_dim", 16},
                   {"qk_rope_head_dim", 8},
                   {"v_head_dim", 16},
                   {"n_routed_experts", 8},
                   {"n_shared_experts", 2},
                   {"routed_scaling_factor", 16.0},
                   {"topk_method", "group_limited_greedy"},
                   {"n_group", 4},
                   {"topk_group", 2}});
    const WeightMap map = read(config);
    EXPECT_EQ(map.integer("muster.expert_group_top"), 1);
    EXPECT_EQ(map.integer("deepseek2.attention.key_length"), 24);
    EXPECT_EQ(map.integer("deepseek2.attention.key_length_mla"), 24);
    EXPECT_EQ(map.integer("deepseek2.expert_group_used_count"), 2);
    refused(with(config, "n_group", 3), "n_group");
    refused(with(config, "rope_interleave", false), "rope_interleave");
    refused(with(config, "rope_scaling",
                 {{"type", "yarn"}, {"factor", 40.0}, {"mscale", 0.5}, {"mscale_all_dim", 1.0}}),
            "mscale");
    refused(with(config, "rope_scaling", {{"type", "yarn"}, {"factor", 40.0}}), "mscale_all_dim");
    EXPECT_NO_THROW(
        read(with(config, "rope_scaling",
                  {{"type", "yarn"}, {"factor", 40.0}, {"mscale", 0.7}, {"mscale_all_dim", 0.7}})));
}

TEST(HfConfig, OtherLayersThanGptOssHasAreRefused) {
    const std::string sliding = "sliding_attention", full = "full_attention";
    json config = qwen3();
    config.update({{"architectures", {"GptOssForCausalLM"}},
                   {"num_local_experts", 8},
                   {"sliding_window", 16},
                   {"swiglu_limit", 7.0},
                   {"layer_types", {sliding, full}}});
    EXPECT_NO_THROW(read(config));
    for (const json& types : {json{full, sliding}, json{sliding, sliding}, json{full, full}})
        refused(with(config, "layer_types", types), "layer_types");
    refused(with(config, "swiglu_limit", 5.0), "swiglu_limit");
}

TEST(HfConfig, OlmoeHasTheScalingOfOthers) {
    json config = qwen3();
    config.update({{"architectures", {"OlmoeForCausalLM"}}, {"norm_topk_prob", false}});
    const auto scaled = [&](const char* type) {
        return read(with(config, "rope_scaling", {{"rope_type", type}, {"factor", 4.0}}));
    };
    for (const char* type : {"linear", "yarn"}) {
        const WeightMap map = scaled(type);
        EXPECT_EQ(map.string("olmoe.rope.scaling.type"), type);
        EXPECT_EQ(map.real("olmoe.rope.scaling.factor"), 4);
    }
    EXPECT_EQ(scaled("yarn").integer("olmoe.rope.scaling.original_context_length"), 1000);
}

}  // namespace
}  // namespace muster
