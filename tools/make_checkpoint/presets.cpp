// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <utility>

#include "muster/core/error.h"
#include "tools/make_checkpoint/spec.h"

namespace muster::checkpoints {
namespace {

/// Small, but with rows of 256 for K-quants, several layers and grouped keys.
CheckpointSpec tiny(Family family) {
    CheckpointSpec s;
    s.family = family;
    s.layers = 3;
    s.d_model = 256;
    s.heads = 4;
    s.kv_heads = 2;
    s.head_dim = 64;
    s.vocab = 4096;
    s.context = 512;
    s.experts = 16;
    s.used = 4;
    s.expert_width = 256;
    s.clear_routes = true;
    return s;
}

CheckpointSpec tiny_olmoe() {
    CheckpointSpec s = tiny(Family::olmoe);
    s.kv_heads = s.heads;
    return s;
}

CheckpointSpec tiny_qwen2moe() {
    CheckpointSpec s = tiny(Family::qwen2moe);
    s.norm_eps = 1e-6f;
    s.rope_theta = 1e6f;
    s.shared_width = 512;
    return s;
}

CheckpointSpec tiny_qwen3moe() {
    CheckpointSpec s = tiny(Family::qwen3moe);
    s.norm_eps = 1e-6f;
    s.rope_theta = 1e6f;
    s.head_dim = 128;  // 512 values of all heads beside a width of 256, as in the real shape
    return s;
}

CheckpointSpec tiny_mixtral() {
    CheckpointSpec s = tiny(Family::llama);
    s.rope_theta = 1e6f;
    s.experts = 8;
    s.used = 2;
    return s;
}

/// Positions stretched linearly, as fine-tunings for longer contexts did before YaRN.
CheckpointSpec tiny_mixtral_linear() {
    CheckpointSpec s = tiny_mixtral();
    s.rope_theta = 10000.0f;
    s.scaling = {RopeScaling::Kind::linear, 4, 0, 0};
    return s;
}

CheckpointSpec tiny_llama() {
    CheckpointSpec s = tiny(Family::llama);
    s.rope_theta = 500000.0f;
    s.scaling = {RopeScaling::Kind::llama3, 8, 128, 0};
    s.experts = s.used = s.expert_width = 0;
    s.dense_width = 512;
    s.clear_routes = false;
    s.tied_head = true;
    return s;
}

/// DeepSeek-V3 in small: group-limited sigmoid routing with a bias, compressed queries.
CheckpointSpec tiny_deepseek2() {
    CheckpointSpec s = tiny(Family::deepseek2);
    s.layers = 4;
    s.kv_heads = s.heads;
    s.norm_eps = 1e-6f;
    s.head_dim = 96;
    s.latent = {256, 256, 64, 32, 64, true};
    s.scaling = {RopeScaling::Kind::yarn, 8, 64, 1.0};
    s.dense_layers = 1;
    s.dense_width = 512;
    s.shared_experts = 1;
    s.shared_width = 256;
    s.groups = 4;
    s.groups_used = 2;
    s.sigmoid = s.renorm = s.selection_bias = true;
    s.weight_scale = 2.5;
    return s;
}

/// DeepSeek-V2-Lite in small. llama.cpp takes files without compressed queries only where they
/// have 26 or 27 layers.
CheckpointSpec tiny_deepseek2_lite() {
    CheckpointSpec s = tiny_deepseek2();
    s.layers = 26;
    s.latent.query_rank = 0;
    s.experts = 8;
    s.used = 3;
    s.groups = s.groups_used = 1;
    s.sigmoid = s.renorm = s.selection_bias = false;
    s.weight_scale = 1;
    s.shared_experts = 2;
    s.shared_width = 512;
    return s;
}

CheckpointSpec tiny_deepseek2_old() {
    CheckpointSpec s = tiny_deepseek2();
    s.latent.split = false;
    return s;
}

CheckpointSpec tiny_gpt_oss() {
    CheckpointSpec s = tiny(Family::gpt_oss);
    s.layers = 4;
    s.rope_theta = 150000.0f;
    s.scaling = {RopeScaling::Kind::yarn, 32, 64, 0};
    s.window = 128;
    return s;
}

CheckpointSpec tiny_granitemoe() {
    CheckpointSpec s = tiny(Family::granitemoe);
    s.norm_eps = 1e-6f;
    s.embedding_scale = 12;
    s.residual_scale = 0.22;
    s.attention_scale = 0.03;
    s.tied_head = true;
    return s;
}

CheckpointSpec tiny_granitemoe_shared() {
    CheckpointSpec s = tiny_granitemoe();
    s.shared_width = 512;
    s.tied_head = false;
    return s;
}

CheckpointSpec olmoe_1b_7b() {
    CheckpointSpec s;
    s.family = Family::olmoe;
    s.layers = 16;
    s.d_model = 2048;
    s.heads = s.kv_heads = 16;
    s.head_dim = 128;
    s.vocab = 50304;
    s.experts = 64;
    s.used = 8;
    s.expert_width = 1024;
    return s;
}

CheckpointSpec qwen15_moe_a27b() {
    CheckpointSpec s;
    s.family = Family::qwen2moe;
    s.layers = 24;
    s.d_model = 2048;
    s.heads = s.kv_heads = 16;
    s.head_dim = 128;
    s.vocab = 151936;
    s.context = 8192;
    s.norm_eps = 1e-6f;
    s.rope_theta = 1e6f;
    s.experts = 60;
    s.used = 4;
    s.expert_width = 1408;
    s.shared_width = 5632;
    return s;
}

CheckpointSpec qwen3_30b_a3b() {
    CheckpointSpec s;
    s.family = Family::qwen3moe;
    s.layers = 48;
    s.d_model = 2048;
    s.heads = 32;
    s.kv_heads = 4;
    s.head_dim = 128;
    s.vocab = 151936;
    s.context = 40960;
    s.norm_eps = 1e-6f;
    s.rope_theta = 1e6f;
    s.experts = 128;
    s.used = 8;
    s.expert_width = 768;
    return s;
}

CheckpointSpec mixtral_8x7b() {
    CheckpointSpec s;
    s.family = Family::llama;
    s.layers = 32;
    s.d_model = 4096;
    s.heads = 32;
    s.kv_heads = 8;
    s.head_dim = 128;
    s.vocab = 32000;
    s.context = 32768;
    s.rope_theta = 1e6f;
    s.experts = 8;
    s.used = 2;
    s.expert_width = 14336;
    return s;
}

CheckpointSpec llama32_1b() {
    CheckpointSpec s;
    s.family = Family::llama;
    s.layers = 16;
    s.d_model = 2048;
    s.heads = 32;
    s.kv_heads = 8;
    s.head_dim = 64;
    s.vocab = 128256;
    s.context = 131072;
    s.rope_theta = 500000.0f;
    s.scaling = {RopeScaling::Kind::llama3, 32, 8192, 0};
    s.dense_width = 8192;
    s.tied_head = true;
    return s;
}

CheckpointSpec deepseek_v2_lite() {
    CheckpointSpec s;
    s.family = Family::deepseek2;
    s.layers = 27;
    s.d_model = 2048;
    s.heads = s.kv_heads = 16;
    s.head_dim = 192;
    s.vocab = 102400;
    s.context = 163840;
    s.norm_eps = 1e-6f;
    s.latent = {0, 512, 128, 64, 128, true};
    s.scaling = {RopeScaling::Kind::yarn, 40, 4096, 0.707};
    s.experts = 64;
    s.used = 6;
    s.expert_width = 1408;
    s.shared_experts = 2;
    s.shared_width = 2816;
    s.dense_layers = 1;
    s.dense_width = 10944;
    return s;
}

CheckpointSpec deepseek_v3() {
    CheckpointSpec s;
    s.family = Family::deepseek2;
    s.layers = 61;
    s.d_model = 7168;
    s.heads = s.kv_heads = 128;
    s.head_dim = 192;
    s.vocab = 129280;
    s.context = 163840;
    s.norm_eps = 1e-6f;
    s.latent = {1536, 512, 128, 64, 128, true};
    s.scaling = {RopeScaling::Kind::yarn, 40, 4096, 1.0};
    s.experts = 256;
    s.used = 8;
    s.expert_width = 2048;
    s.shared_experts = 1;
    s.shared_width = 2048;
    s.dense_layers = 3;
    s.dense_width = 18432;
    s.groups = 8;
    s.groups_used = 4;
    s.sigmoid = s.renorm = s.selection_bias = true;
    s.weight_scale = 2.5;
    return s;
}

CheckpointSpec gpt_oss_20b() {
    CheckpointSpec s;
    s.family = Family::gpt_oss;
    s.layers = 24;
    s.d_model = 2880;
    s.heads = 64;
    s.kv_heads = 8;
    s.head_dim = 64;
    s.vocab = 201088;
    s.context = 131072;
    s.rope_theta = 150000.0f;
    s.scaling = {RopeScaling::Kind::yarn, 32, 4096, 0};
    s.window = 128;
    s.experts = 32;
    s.used = 4;
    s.expert_width = 2880;
    return s;
}

CheckpointSpec granite_3b_a800m() {
    CheckpointSpec s;
    s.family = Family::granitemoe;
    s.layers = 32;
    s.d_model = 1536;
    s.heads = 24;
    s.kv_heads = 8;
    s.head_dim = 64;
    s.vocab = 49155;
    s.norm_eps = 1e-6f;
    s.experts = 40;
    s.used = 8;
    s.expert_width = 512;
    s.embedding_scale = 12;
    s.residual_scale = 0.22;
    s.attention_scale = 0.015625;
    s.tied_head = true;
    return s;
}

constexpr std::pair<std::string_view, CheckpointSpec (*)()> kPresets[] = {
    {"tiny-olmoe", tiny_olmoe},
    {"tiny-qwen2moe", tiny_qwen2moe},
    {"tiny-qwen3moe", tiny_qwen3moe},
    {"tiny-mixtral", tiny_mixtral},
    {"tiny-mixtral-linear", tiny_mixtral_linear},
    {"tiny-llama", tiny_llama},
    {"tiny-deepseek2", tiny_deepseek2},
    {"tiny-deepseek2-old", tiny_deepseek2_old},
    {"tiny-deepseek2-lite", tiny_deepseek2_lite},
    {"tiny-gpt-oss", tiny_gpt_oss},
    {"tiny-granitemoe", tiny_granitemoe},
    {"tiny-granitemoe-shared", tiny_granitemoe_shared},
    {"olmoe-1b-7b", olmoe_1b_7b},
    {"qwen1.5-moe-a2.7b", qwen15_moe_a27b},
    {"qwen3-30b-a3b", qwen3_30b_a3b},
    {"mixtral-8x7b", mixtral_8x7b},
    {"llama-3.2-1b", llama32_1b},
    {"deepseek-v2-lite", deepseek_v2_lite},
    {"deepseek-v3", deepseek_v3},
    {"gpt-oss-20b", gpt_oss_20b},
    {"granite-3b-a800m", granite_3b_a800m}};

}  // namespace

CheckpointSpec preset(std::string_view name) {
    for (const auto& [known, make] : kPresets) {
        if (known != name) continue;
        CheckpointSpec spec = make();
        spec.name = name;
        return spec;
    }
    throw Error("preset", fmt::format("\"{}\" is not known, expected one of {}", name,
                                      fmt::join(preset_names(), ", ")));
}

std::vector<std::string> preset_names() {
    std::vector<std::string> names;
    for (const auto& [name, make] : kPresets) names.emplace_back(name);
    return names;
}

}  // namespace muster::checkpoints
