// SPDX-License-Identifier: Apache-2.0
// Which tensors the families have, by GGUF's names (llama.cpp's loaders), and how large their
// values are.
#include <cmath>
#include <string>

#include "tools/make_checkpoint/weights.h"

namespace muster::checkpoints {
namespace {

constexpr double kQueryGain = 2;  // the deviation of attention scores
constexpr double kAttentionGain = 1;
constexpr double kFeedForwardGain = 1.2;
// SwiGLU-OAI clamps at 7: some gates have to get there.
constexpr double kOaiGateGain = 3;

double per_input(int64_t inputs, double gain = 1) {
    return gain / std::sqrt(static_cast<double>(inputs));
}

class Planner {
  public:
    explicit Planner(const CheckpointSpec& spec) : s_(spec), d_(spec.d_model) {
        const bool granite = s_.family == Family::granitemoe;
        embedding_ = s_.tied_head && !granite ? logit_deviation(s_) / std::sqrt(s_.d_model)
                                              : 1 / s_.embedding_scale;
        unit_ = embedding_ * s_.embedding_scale / s_.residual_scale;
    }

    std::vector<TensorPlan> run() {
        add("token_embd.weight", {s_.vocab, d_}, Role::embedding, embedding_);
        norm("output_norm.weight", d_, Role::norm);
        // With a tied head the token itself would be by far the likeliest; signs prevent that.
        if (s_.tied_head) {
            plans_.back().mean = 0;
            plans_.back().deviation = 1;
        } else {
            const double scale = s_.family == Family::granitemoe ? logit_scale(s_) : 1;
            add("output.weight", {s_.vocab, d_}, Role::head,
                per_input(d_, logit_deviation(s_) * scale));
        }
        if (s_.scaling.kind == RopeScaling::Kind::llama3)
            add("rope_freqs.weight", {s_.head_dim / 2}, Role::rope_factors, 0);
        for (layer_ = 0; layer_ < s_.layers; ++layer_) {
            norm(block("attn_norm.weight"), d_, Role::norm);
            s_.latent.kv_rank > 0 ? latent_attention() : attention();
            const bool oai = s_.family == Family::gpt_oss;
            norm(block(oai ? "post_attention_norm.weight" : "ffn_norm.weight"), d_,
                 Role::router_norm);
            s_.dense(layer_) ? feed_forward("", s_.dense_width, kFeedForwardGain) : experts();
        }
        return std::move(plans_);
    }

  private:
    std::string block(const std::string& rest) const {
        return "blk." + std::to_string(layer_) + "." + rest;
    }
    TensorPlan& add(std::string name, std::vector<int64_t> shape, Role role, double deviation,
                    bool to_stream = false) {
        plans_.push_back(
            {std::move(name), std::move(shape), role, 0, deviation, layer_, to_stream, ""});
        return plans_.back();
    }
    void norm(std::string name, int64_t size, Role role, double mean = 1) {
        add(std::move(name), {size}, role, 0.1 * mean).mean = mean;
    }
    TensorPlan& matrix(const char* name, int64_t out, int64_t in, double gain = 1,
                       bool to_stream = false) {
        return add(block(name), {out, in}, Role::matrix, per_input(in, gain), to_stream);
    }

    void attention() {
        const int64_t q = int64_t{s_.heads} * s_.head_dim, kv = int64_t{s_.kv_heads} * s_.head_dim;
        const bool normed = s_.family == Family::olmoe || s_.family == Family::qwen3moe;
        const bool biased = s_.family == Family::qwen2moe || s_.family == Family::gpt_oss;
        const double usual = 1 / std::sqrt(s_.head_dim);
        const double gain =
            kQueryGain * (s_.attention_scale > 0 ? usual / s_.attention_scale : 1.0);
        matrix("attn_q.weight", q, d_, normed ? 1 : gain);
        matrix("attn_k.weight", kv, d_);
        matrix("attn_v.weight", kv, d_);
        matrix("attn_output.weight", d_, q, kAttentionGain * unit_, true);
        if (normed) {
            const bool full = s_.family == Family::olmoe;
            norm(block("attn_q_norm.weight"), full ? q : s_.head_dim, Role::norm, gain);
            norm(block("attn_k_norm.weight"), full ? kv : s_.head_dim, Role::norm);
        }
        if (biased) {
            add(block("attn_q.bias"), {q}, Role::vector, 0.3);
            add(block("attn_k.bias"), {kv}, Role::vector, 0.3);
            add(block("attn_v.bias"), {kv}, Role::vector, 0.3);
        }
        if (s_.family == Family::gpt_oss) {
            add(block("attn_output.bias"), {d_}, Role::vector, 0.2 * unit_, true);
            add(block("attn_sinks.weight"), {s_.heads}, Role::vector, 1).mean = 4;
        }
    }

    void latent_attention() {
        const LatentAttention& a = s_.latent;
        const int64_t q = int64_t{s_.heads} * (a.nope_dim + a.rope_dim);
        if (a.query_rank > 0) {
            matrix("attn_q_a.weight", a.query_rank, d_);
            norm(block("attn_q_a_norm.weight"), a.query_rank, Role::norm);
            matrix("attn_q_b.weight", q, a.query_rank, kQueryGain);
        } else {
            matrix("attn_q.weight", q, d_, kQueryGain);
        }
        matrix("attn_kv_a_mqa.weight", a.kv_rank + a.rope_dim, d_);
        norm(block("attn_kv_a_norm.weight"), a.kv_rank, Role::norm);
        const std::string whole = block("attn_kv_b.weight");
        const double deviation = per_input(a.kv_rank);
        if (a.split) {
            add(block("attn_k_b.weight"), {s_.heads, a.kv_rank, a.nope_dim}, Role::key_part,
                deviation)
                .source = whole;
            add(block("attn_v_b.weight"), {s_.heads, a.value_dim, a.kv_rank}, Role::value_part,
                deviation)
                .source = whole;
        } else {
            add(whole, {int64_t{s_.heads} * (a.nope_dim + a.value_dim), a.kv_rank}, Role::matrix,
                deviation);
        }
        matrix("attn_output.weight", d_, int64_t{s_.heads} * a.value_dim, kAttentionGain * unit_,
               true);
    }

    /// Gate, up and down; `suffix`: "", "_shexp".
    void feed_forward(const std::string& suffix, int64_t width, double gain) {
        matrix(("ffn_gate" + suffix + ".weight").c_str(), width, d_);
        matrix(("ffn_up" + suffix + ".weight").c_str(), width, d_);
        matrix(("ffn_down" + suffix + ".weight").c_str(), d_, width, gain * unit_, true);
    }

    void experts() {
        const int64_t n = s_.experts, width = s_.expert_width;
        const bool oai = s_.family == Family::gpt_oss;
        const double gate = oai ? kOaiGateGain : 1;
        // SwiGLU-OAI's outputs are that much larger, and deepseek2's weights are scaled.
        const double down = kFeedForwardGain * unit_ / gate / s_.weight_scale;
        add(block("ffn_gate_inp.weight"), {n, d_}, Role::router, per_input(d_, 1.5));
        const auto stack = [&](const char* name, int64_t out, int64_t in, double gain, bool to) {
            add(block(name), {n, out, in}, Role::experts, per_input(in, gain), to);
        };
        stack("ffn_gate_exps.weight", width, d_, gate, false);
        stack("ffn_up_exps.weight", width, d_, 1, false);
        stack("ffn_down_exps.weight", d_, width, down, true);
        if (oai) {
            add(block("ffn_gate_inp.bias"), {n}, Role::vector, 0.3);
            add(block("ffn_gate_exps.bias"), {n, width}, Role::vector, 0.3);
            add(block("ffn_up_exps.bias"), {n, width}, Role::vector, 0.3);
            add(block("ffn_down_exps.bias"), {n, d_}, Role::vector, 0.1 * unit_, true);
        }
        if (s_.selection_bias) add(block("exp_probs_b.bias"), {n}, Role::vector, 0.1);
        if (s_.shared_width > 0) {
            feed_forward("_shexp", s_.shared_width, kFeedForwardGain / 2);
            if (s_.family == Family::qwen2moe)
                add(block("ffn_gate_inp_shexp.weight"), {d_}, Role::vector, per_input(d_, 1.5));
        }
    }

    const CheckpointSpec& s_;
    int64_t d_;
    double embedding_;  ///< deviation of the embedding's values
    double unit_;       ///< of the residual stream at the start, as products have to write it
    int layer_ = -1;
    std::vector<TensorPlan> plans_;
};

}  // namespace

std::vector<TensorPlan> plan_tensors(const CheckpointSpec& spec) { return Planner(spec).run(); }

}  // namespace muster::checkpoints
