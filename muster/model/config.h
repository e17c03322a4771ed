// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "muster/experts/expert_bank.h"
#include "muster/kernels/rope.h"
#include "muster/routing/policy.h"
#include "muster/routing/router.h"

namespace muster {

struct ActivationPlan;

/// Which pairs of a head's values RoPE turns: neox (i, i + half), norm (2i, 2i + 1).
enum class RopeLayout : uint8_t { neox, norm };

/// RMSNorm of queries and keys: none, over each head's values, or over all heads' values at once
/// (OLMoE).
enum class QkNorm : uint8_t { none, per_head, full };

/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and values of all
/// heads are made from one normed latent of kv_rank values and ModelConfig::turned() values that
/// carry the position; those are all that is cached. A head's query and key have head_dim values,
/// the turned ones last.
struct LatentAttention {
    int kv_rank = 0;  ///< 0: ordinary attention
    int query_rank =
        0;              ///< queries come from a normed latent of so many values; 0: from the stream
    int value_dim = 0;  ///< of a head's value

    bool used() const noexcept { return kv_rank > 0; }
    bool operator==(const LatentAttention&) const = default;
};

/// The feed-forward part of one layer. A dense layer is the case of one expert and no router
/// weights.
struct FeedForwardConfig {
    std::vector<int> widths{0};  ///< [E] width of each routed expert
    int shared_width = 0;        ///< summed width of the shared experts, 0: none
    RouterSpec router;           ///< num_experts == widths.size()
    bool shared_gate = false;    ///< shared experts count sigmoid(gate . x) times (Qwen2-MoE)
    bool router_bias = false;    ///< added to the router's logits
    bool expert_bias = false;    ///< of all three matrices of the routed experts

    int experts() const noexcept { return static_cast<int>(widths.size()); }
    bool dense() const noexcept { return widths.size() == 1; }
    bool equal_widths() const noexcept;
};

/// The shape of a decoder language model and what its checkpoint says about routing.
struct ModelConfig {
    std::string architecture = "olmoe";  ///< as in GGUF's general.architecture
    std::string name;
    int vocab = 0;
    int d_model = 0;
    int heads = 0;
    int kv_heads = 0;  ///< 1 under latent attention
    int head_dim = 0;
    LatentAttention latent;
    int context = 0;  ///< longest sequence the model was trained for
    float norm_eps = 1e-5f;
    float rope_theta = 10000.0f;
    RopeLayout rope = RopeLayout::neox;
    int rope_dims = 0;  ///< how many values of a head RoPE turns; 0: all
    RopeScaling rope_scaling;
    bool rope_factors = false;  ///< divides the angles by learned factors (Llama 3)
    QkNorm qk_norm = QkNorm::full;
    bool qkv_bias = false;      ///< of queries, keys or values, in some layer
    bool output_bias = false;   ///< of the attention's output, in some layer
    bool sinks = false;         ///< one logit a head joins the softmax's denominator
    std::vector<int> windows;   ///< [layers] sliding window, 0: none; empty: none anywhere
    float attention_scale = 0;  ///< of the scores; 0: 1 / sqrt(head_dim)
    float embedding_scale = 1;  ///< multiplies the embedding
    float residual_scale = 1;   ///< multiplies what each half layer adds
    float logit_scale = 1;      ///< multiplies the logits
    bool tied_head = false;
    Activation activation = Activation::silu;
    bool gated = true;
    std::vector<FeedForwardConfig> layers;  ///< one per layer
    RoutingPolicy policy;  ///< the default; `model` unless the checkpoint stores another
    /// Plans that policies may name; the model's own file has none (Model::add_plan()).
    std::map<std::string, std::shared_ptr<const ActivationPlan>, std::less<>> plans;
    /// [layers] experts per token that the trainer measured on held-out text; empty when unknown.
    std::vector<double> mean_experts;

    int num_layers() const noexcept { return static_cast<int>(layers.size()); }
    int window(int layer) const noexcept { return windows.empty() ? 0 : windows[layer]; }
    int turned() const noexcept { return rope_dims > 0 ? rope_dims : head_dim; }

    /// Throws Error naming the first value that cannot work and what was expected.
    void check() const;
};

/// What GGUF's and Hugging Face's `olmoe` cannot express of this model, as one phrase; empty when
/// it can all.
std::string beyond_olmoe(const ModelConfig& config);

/// What a training checkpoint and the architecture `muster` cannot express of this model, as one
/// phrase; empty when they can all.
std::string beyond_muster(const ModelConfig& config);

/// config.json of a training checkpoint (format `muster-model`, version 1). from_json throws Error.
/// What is beyond_muster() is written as an object `beyond`, and from_json refuses it.
std::string to_json(const ModelConfig& config);
ModelConfig model_config_from_json(std::string_view text, std::string_view where);

/// Parameter counts, as DESIGN's measures define them.
struct ParameterCounts {
    int64_t total = 0;
    int64_t embedding = 0;
    int64_t head = 0;  ///< 0 when tied
    int64_t per_token_fixed =
        0;  ///< attention, norms, routers, shared experts: read for every token
    /// Summed over layers, the mean parameters of one routed expert of the layer times the layer's
    /// experts per token.
    double activated(const std::vector<double>& experts_per_layer) const;
    std::vector<double> per_expert;  ///< [layers] mean parameters of one routed expert
    std::vector<double> shared;      ///< [layers] of shared experts with their gate, in the fixed
};
ParameterCounts count_parameters(const ModelConfig& config);

/// Names of the tensors of a training checkpoint (Hugging Face's OLMoE layout). `{l}`, `{e}` filled
/// in.
namespace tensor_names {
std::string layer(int l, std::string_view rest);          ///< model.layers.{l}.{rest}
std::string expert(int l, int e, std::string_view what);  ///< ….mlp.experts.{e}.{what}_proj.weight
inline constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
inline constexpr std::string_view kFinalNorm = "model.norm.weight";
inline constexpr std::string_view kHead = "lm_head.weight";
inline constexpr std::string_view kAttentionNorm = "input_layernorm.weight";
inline constexpr std::string_view kFeedForwardNorm = "post_attention_layernorm.weight";
inline constexpr std::string_view kQuery = "self_attn.q_proj.weight";
inline constexpr std::string_view kKey = "self_attn.k_proj.weight";
inline constexpr std::string_view kValue = "self_attn.v_proj.weight";
inline constexpr std::string_view kOutput = "self_attn.o_proj.weight";
inline constexpr std::string_view kQueryNorm = "self_attn.q_norm.weight";
inline constexpr std::string_view kKeyNorm = "self_attn.k_norm.weight";
inline constexpr std::string_view kRouter = "mlp.gate.weight";
inline constexpr std::string_view kSharedGate = "mlp.shared_expert.gate_proj.weight";
inline constexpr std::string_view kSharedUp = "mlp.shared_expert.up_proj.weight";
inline constexpr std::string_view kSharedDown = "mlp.shared_expert.down_proj.weight";
}  // namespace tensor_names

}  // namespace muster
