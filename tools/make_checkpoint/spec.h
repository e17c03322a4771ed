// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace muster::checkpoints {

/// Families of models, by what differs in their tensors and keys; `llama` is Mixtral, and plain
/// dense Llama where there are no experts.
enum class Family : uint8_t { olmoe, qwen2moe, qwen3moe, llama, deepseek2, gpt_oss, granitemoe };

/// GGUF's general.architecture.
std::string_view architecture(Family family) noexcept;

/// How rotary positions are stretched.
struct RopeScaling {
    enum class Kind : uint8_t { none, linear, yarn, llama3 };
    Kind kind = Kind::none;
    double factor = 1;
    int original_context = 0;
    double mscale_all_dim = 0;  ///< DeepSeek-V2's YaRN (GGUF: yarn_log_multiplier is a tenth)
};

/// DeepSeek-V2's multi-head latent attention (arXiv 2405.04434, section 2.1).
struct LatentAttention {
    int query_rank = 0;  ///< 0: queries are not compressed
    int kv_rank = 0;     ///< 0: no latent attention
    int nope_dim = 0;    ///< of a head's query and key, without positions
    int rope_dim = 0;
    int value_dim = 0;
    bool split = true;  ///< attn_k_b and attn_v_b; else attn_kv_b, as in older files
};

/// What a random-weight checkpoint looks like. All widths in elements.
struct CheckpointSpec {
    Family family = Family::olmoe;
    std::string name;
    int layers = 0;
    int d_model = 0;
    int heads = 0;
    int kv_heads = 0;
    int head_dim = 0;
    int vocab = 0;
    int context = 4096;
    float norm_eps = 1e-5f;
    float rope_theta = 10000.0f;
    RopeScaling scaling;
    LatentAttention latent;
    int window = 0;  ///< gpt-oss: of every other layer, the first one included

    int experts = 0;  ///< 0: dense layers of dense_width
    int used = 0;
    int expert_width = 0;
    int shared_experts = 0;  ///< deepseek2: of expert_width each
    int shared_width = 0;    ///< of all shared experts
    int dense_width = 0;
    int dense_layers = 0;  ///< deepseek2: how many layers come before the first with experts
    int groups = 1;        ///< deepseek2: group-limited routing
    int groups_used = 1;
    bool sigmoid = false;         ///< deepseek2: scores; else softmax
    bool renorm = false;          ///< deepseek2: weights sum to weight_scale
    double weight_scale = 1;      ///< deepseek2
    bool selection_bias = false;  ///< deepseek2

    double embedding_scale = 1;  ///< granitemoe
    double residual_scale = 1;
    double attention_scale = 0;  ///< 0: 1 / sqrt(head_dim)
    bool tied_head = false;

    /// Routes that rounding does not change: the routers read values that the embedding sets, far
    /// apart from each other, and that the layers hardly touch. Needs experts <= d_model / 4.
    bool clear_routes = false;
    uint64_t seed = 1;

    bool dense(int layer) const noexcept { return experts == 0 || layer < dense_layers; }
};

/// Throws Error naming the first value that cannot work.
void check(const CheckpointSpec& spec);

/// The shape named `name`: tiny ones (`tiny-olmoe`) and those of published models
/// (`qwen3-30b-a3b`). Throws Error with the known names.
CheckpointSpec preset(std::string_view name);
std::vector<std::string> preset_names();

}  // namespace muster::checkpoints
