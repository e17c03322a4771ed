// SPDX-License-Identifier: Apache-2.0
// Names of tensors: modeling_*.py of huggingface/transformers; GGUF's:
// gguf-py/gguf/tensor_mapping.py of llama.cpp.
#include "muster/checkpoint/hf_family.h"

#include <fmt/format.h>

#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/error.h"

namespace muster {
namespace {

constexpr HfFamily kFamilies[] = {
    {.hf = "OlmoeForCausalLM",
     .gguf = "olmoe",
     .model_type = "olmoe",
     .experts = HfExperts::list,
     .router = "mlp.gate",
     .qk_norm = 'a'},
    {.hf = "Qwen2MoeForCausalLM",
     .gguf = "qwen2moe",
     .model_type = "qwen2_moe",
     .experts = HfExperts::list,
     .router = "mlp.gate",
     .shared = "mlp.shared_expert",
     .shared_gate = true},
    {.hf = "Qwen3MoeForCausalLM",
     .gguf = "qwen3moe",
     .model_type = "qwen3_moe",
     .experts = HfExperts::list,
     .router = "mlp.gate",
     .qk_norm = 'h'},
    {.hf = "MixtralForCausalLM",
     .gguf = "llama",
     .model_type = "mixtral",
     .experts = HfExperts::mixtral,
     .permuted = true,
     .router = "block_sparse_moe.gate"},
    {.hf = "DeepseekV2ForCausalLM",
     .gguf = "deepseek2",
     .model_type = "deepseek_v2",
     .experts = HfExperts::list,
     .router = "mlp.gate",
     .shared = "mlp.shared_experts",
     .latent = true},
    {.hf = "DeepseekV3ForCausalLM",
     .gguf = "deepseek2",
     .model_type = "deepseek_v3",
     .experts = HfExperts::list,
     .router = "mlp.gate",
     .shared = "mlp.shared_experts",
     .latent = true},
    {.hf = "GptOssForCausalLM",
     .gguf = "gpt-oss",
     .model_type = "gpt_oss",
     .experts = HfExperts::gpt_oss,
     .router = "mlp.router",
     .ffn_norm = "post_attention_norm"},
    {.hf = "GraniteMoeForCausalLM",
     .gguf = "granitemoe",
     .model_type = "granitemoe",
     .experts = HfExperts::granite,
     .permuted = true,
     .router = "block_sparse_moe.router.layer"},
    {.hf = "GraniteMoeSharedForCausalLM",
     .gguf = "granitemoe",
     .model_type = "granitemoeshared",
     .experts = HfExperts::granite,
     .permuted = true,
     .router = "block_sparse_moe.router.layer",
     .shared = "shared_mlp"},
    {.hf = "LlamaForCausalLM", .gguf = "llama", .model_type = "llama", .permuted = true},
    {.hf = "MistralForCausalLM", .gguf = "llama", .model_type = "mistral", .permuted = true},
};

constexpr int64_t kMost = 1 << 24;

class Builder {
  public:
    Builder(const HfShape& shape, const HfPresence& present, bool reading, bool mxfp4)
        : s_(shape), f_(*shape.family), present_(present), reading_(reading), mxfp4_(mxfp4) {}

    std::vector<Correspondence> run() {
        using hf_layout::same;
        add(same("model.embed_tokens.weight", "token_embd.weight", {s_.vocab, s_.d}));
        add(f32(same("model.norm.weight", "output_norm.weight", {s_.d})));
        if (present_("lm_head.weight", "output.weight"))
            add(same("lm_head.weight", "output.weight", {s_.vocab, s_.d}));
        for (layer_ = 0; layer_ < s_.layers; ++layer_) {
            vector("input_layernorm.weight", "attn_norm.weight", s_.d);
            vector("post_attention_layernorm.weight", std::string(f_.ffn_norm) + ".weight", s_.d);
            f_.latent ? latent_attention() : attention();
            s_.dense(layer_) ? gated("mlp", "", s_.dense_width) : mixture();
        }
        return std::move(all_);
    }

  private:
    static Correspondence f32(Correspondence c) {
        c.f32 = true;
        return c;
    }
    void add(Correspondence c) { all_.push_back(std::move(c)); }
    std::string hf(std::string_view rest) const {
        return fmt::format("model.layers.{}.{}", layer_, rest);
    }
    std::string gguf(std::string_view rest) const { return fmt::format("blk.{}.{}", layer_, rest); }
    bool has(std::string_view h, std::string_view g) const { return present_(hf(h), gguf(g)); }
    bool has_hf(std::string_view h) const { return reading_ && present_(hf(h), ""); }

    void vector(std::string_view h, std::string_view g, int64_t size) {
        add(f32(hf_layout::same(hf(h), gguf(g), {size})));
    }
    void matrix(std::string_view h, std::string_view g, int64_t rows, int64_t cols) {
        add(hf_layout::same(hf(h), gguf(g), {rows, cols}));
    }

    void attention() {
        const int64_t q = s_.heads * s_.head_dim, kv = s_.kv_heads * s_.head_dim;
        projection("q", q, s_.d, s_.heads);
        projection("k", kv, s_.d, s_.kv_heads);
        projection("v", kv, s_.d, 0);
        projection("o", s_.d, q, 0);
        if (f_.qk_norm != 0) {
            const bool all = f_.qk_norm == 'a';
            vector("self_attn.q_norm.weight", "attn_q_norm.weight", all ? q : s_.head_dim);
            vector("self_attn.k_norm.weight", "attn_k_norm.weight", all ? kv : s_.head_dim);
        }
        if (f_.experts == HfExperts::gpt_oss)
            vector("self_attn.sinks", "attn_sinks.weight", s_.heads);
    }

    /// heads 0: rows stay in their order.
    void projection(std::string_view part, int64_t rows, int64_t cols, int64_t heads) {
        const std::string h = fmt::format("self_attn.{}_proj", part);
        const std::string g = part == "o" ? "attn_output" : fmt::format("attn_{}", part);
        const bool permute = f_.permuted && heads > 0;
        const bool biased = has(h + ".bias", g + ".bias");
        if (permute) {
            add(hf_layout::permuted(hf(h + ".weight"), gguf(g + ".weight"), rows, cols, heads));
            if (biased)
                add(f32(hf_layout::permuted(hf(h + ".bias"), gguf(g + ".bias"), rows, 0, heads)));
        } else {
            matrix(h + ".weight", g + ".weight", rows, cols);
            if (biased) vector(h + ".bias", g + ".bias", rows);
        }
    }

    void latent_attention() {
        const int64_t q = s_.heads * (s_.nope + s_.rope);
        if (s_.query_rank > 0) {
            matrix("self_attn.q_a_proj.weight", "attn_q_a.weight", s_.query_rank, s_.d);
            vector("self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight", s_.query_rank);
            matrix("self_attn.q_b_proj.weight", "attn_q_b.weight", q, s_.query_rank);
        } else {
            matrix("self_attn.q_proj.weight", "attn_q.weight", q, s_.d);
        }
        matrix("self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight", s_.kv_rank + s_.rope,
               s_.d);
        vector("self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight", s_.kv_rank);
        constexpr std::string_view kWhole = "self_attn.kv_b_proj.weight";
        if (!reading_ && present_("", gguf("attn_kv_b.weight")) &&
            !present_("", gguf("attn_k_b.weight"))) {
            matrix(kWhole, "attn_kv_b.weight", s_.heads * (s_.nope + s_.value), s_.kv_rank);
        } else {
            add(hf_layout::latent(hf(kWhole), gguf("attn_k_b.weight"), gguf("attn_v_b.weight"),
                                  s_.heads, s_.nope, s_.value, s_.kv_rank));
        }
        matrix("self_attn.o_proj.weight", "attn_output.weight", s_.d, s_.heads * s_.value);
    }

    /// Gate, up and down of a dense layer or of shared experts.
    void gated(std::string_view h, std::string_view suffix, int64_t width) {
        const auto g = [&](std::string_view part) {
            return fmt::format("ffn_{}{}.weight", part, suffix);
        };
        if (f_.experts == HfExperts::granite) {
            add(hf_layout::halves(hf(fmt::format("{}.input_linear.weight", h)), gguf(g("gate")),
                                  gguf(g("up")), 0, width, s_.d));
            matrix(fmt::format("{}.output_linear.weight", h), g("down"), s_.d, width);
            return;
        }
        matrix(fmt::format("{}.gate_proj.weight", h), g("gate"), width, s_.d);
        matrix(fmt::format("{}.up_proj.weight", h), g("up"), width, s_.d);
        matrix(fmt::format("{}.down_proj.weight", h), g("down"), s_.d, width);
    }

    void mixture() {
        std::string router(f_.router);
        if (f_.experts == HfExperts::mixtral && has_hf("mlp.gate.weight")) router = "mlp.gate";
        add(f32(hf_layout::same(hf(router + ".weight"), gguf("ffn_gate_inp.weight"),
                                {s_.experts, s_.d})));
        switch (f_.experts) {
            case HfExperts::gpt_oss:
                gpt_oss_experts();
                break;
            case HfExperts::granite:
                stacked("block_sparse_moe.input_linear.weight",
                        "block_sparse_moe.output_linear.weight");
                break;
            default:
                listed();
        }
        if (f_.latent && has("mlp.gate.e_score_correction_bias", "exp_probs_b.bias"))
            vector("mlp.gate.e_score_correction_bias", "exp_probs_b.bias", s_.experts);
        if (s_.shared_width > 0) gated(f_.shared, "_shexp", s_.shared_width);
        if (f_.shared_gate && s_.shared_width > 0)
            add(f32(hf_layout::same(hf("mlp.shared_expert_gate.weight"),
                                    gguf("ffn_gate_inp_shexp.weight"), {s_.d}, {1, s_.d})));
    }

    /// A tensor for each expert, or all in one as transformers 5 keeps them in memory.
    void listed() {
        if (has_hf("mlp.experts.gate_up_proj"))
            return stacked("mlp.experts.gate_up_proj", "mlp.experts.down_proj");
        const bool mixtral = f_.experts == HfExperts::mixtral;
        const auto part = [&](std::string_view name, std::string_view short_name,
                              std::string_view g, int64_t rows, int64_t cols) {
            const std::string h =
                hf(mixtral ? fmt::format("block_sparse_moe.experts.{{}}.{}.weight", short_name)
                           : fmt::format("mlp.experts.{{}}.{}.weight", name));
            add(hf_layout::experts(h, gguf(g), s_.experts, rows, cols));
        };
        part("gate_proj", "w1", "ffn_gate_exps.weight", s_.expert_width, s_.d);
        part("up_proj", "w3", "ffn_up_exps.weight", s_.expert_width, s_.d);
        part("down_proj", "w2", "ffn_down_exps.weight", s_.d, s_.expert_width);
    }

    void stacked(std::string_view both, std::string_view down) {
        add(hf_layout::halves(hf(both), gguf("ffn_gate_exps.weight"), gguf("ffn_up_exps.weight"),
                              s_.experts, s_.expert_width, s_.d));
        add(hf_layout::same(hf(down), gguf("ffn_down_exps.weight"),
                            {s_.experts, s_.d, s_.expert_width}));
    }

    void gpt_oss_experts() {
        const std::string both = hf("mlp.experts.gate_up_proj"), down = hf("mlp.experts.down_proj");
        const std::string gate = gguf("ffn_gate_exps"), up = gguf("ffn_up_exps");
        const std::string g_down = gguf("ffn_down_exps");
        const int64_t n = s_.experts, w = s_.expert_width, d = s_.d;
        if (mxfp4_) {
            add(hf_layout::alternating(both, gate + ".weight", up + ".weight", n, w, d));
            all_.back().mxfp4 = true;
            add(hf_layout::same(down, g_down + ".weight", {n, d, w}));
            all_.back().mxfp4 = true;
        } else {
            add(hf_layout::alternating_transposed(both, gate + ".weight", up + ".weight", n, w, d));
            add(hf_layout::transposed(down, g_down + ".weight", n, d, w));
        }
        add(f32(hf_layout::alternating_bias(both + "_bias", gate + ".bias", up + ".bias", n, w)));
        add(f32(hf_layout::same(down + "_bias", g_down + ".bias", {n, d})));
        vector("mlp.router.bias", "ffn_gate_inp.bias", n);
    }

    const HfShape& s_;
    const HfFamily& f_;
    const HfPresence& present_;
    bool reading_, mxfp4_;
    int64_t layer_ = -1;
    std::vector<Correspondence> all_;
};

}  // namespace

const HfFamily& hf_family(std::string_view architecture, std::string_view where) {
    for (const HfFamily& family : kFamilies)
        if (family.hf == architecture) return family;
    throw Error(where, fmt::format("architecture {} is not supported, expected one of {}",
                                   quote(architecture), fmt::join(hf_architectures(), ", ")));
}

std::vector<std::string_view> hf_architectures() {
    std::vector<std::string_view> names;
    for (const HfFamily& family : kFamilies) names.push_back(family.hf);
    return names;
}

const HfFamily& hf_family_of(const WeightMap& model) {
    const std::string& arch = model.string("general.architecture");
    const auto integer = [&](const char* key) {
        const std::string full = arch + "." + key;
        return model.has(full) ? model.integer(full) : 0;
    };
    std::string_view name;
    if (arch == "llama") {
        name = integer("expert_count") > 0 ? "MixtralForCausalLM" : "LlamaForCausalLM";
    } else if (arch == "deepseek2") {
        constexpr int64_t kSigmoid = 2;
        name = integer("expert_gating_func") == kSigmoid ? "DeepseekV3ForCausalLM"
                                                         : "DeepseekV2ForCausalLM";
    } else if (arch == "granitemoe") {
        name = integer("expert_shared_feed_forward_length") > 0 ? "GraniteMoeSharedForCausalLM"
                                                                : "GraniteMoeForCausalLM";
    } else {
        for (const HfFamily& family : kFamilies)
            if (family.gguf == arch) name = family.hf;
    }
    if (name.empty()) {
        throw Error(model.name(),
                    fmt::format("architecture {} has no Hugging Face layout, expected "
                                "olmoe, qwen2moe, qwen3moe, llama, deepseek2, "
                                "gpt-oss or granitemoe",
                                quote(arch)));
    }
    return hf_family(name, model.name());
}

HfShape hf_shape(const WeightMap& model, const HfFamily& family) {
    const auto full = [&](std::string_view key) { return fmt::format("{}.{}", family.gguf, key); };
    const auto get = [&](std::string_view key, int64_t low = 1, int64_t high = kMost) {
        return model.integer(full(key), low, high);
    };
    const auto get_or = [&](std::string_view key, int64_t otherwise) {
        return model.has(full(key)) ? get(key, 0) : otherwise;
    };
    HfShape s;
    s.family = &family;
    s.d = get("embedding_length");
    s.layers = get("block_count", 1, 1024);
    s.heads = get("attention.head_count", 1, 65536);
    s.kv_heads = std::max<int64_t>(1, get_or("attention.head_count_kv", s.heads));
    s.head_dim = get_or("attention.key_length", s.d / s.heads);
    s.vocab = get_or("vocab_size", 0);
    if (const auto embedding = model.tensors().find("token_embd.weight");
        s.vocab == 0 && embedding != model.tensors().end())
        s.vocab = embedding->second.shape.front();
    s.experts = get_or("expert_count", 0);
    s.dense_width = get_or("feed_forward_length", 0);
    s.expert_width = get_or("expert_feed_forward_length", s.dense_width);
    s.shared_width = get_or("expert_shared_feed_forward_length", 0);
    if (family.latent) {
        s.dense_layers = get_or("leading_dense_block_count", 0);
        s.shared_width = get_or("expert_shared_count", 0) * s.expert_width;
        s.query_rank = get_or("attention.q_lora_rank", 0);
        s.kv_rank = get("attention.kv_lora_rank");
        s.rope = get("rope.dimension_count");
        // Files from before attn_kv_b was split have no *_mla keys.
        s.nope = get_or("attention.key_length_mla", s.head_dim) - s.rope;
        s.value = get_or("attention.value_length_mla", get_or("attention.value_length", 0));
    }
    const bool sound = s.vocab > 0 && s.head_dim > 0 && (s.experts == 0 || s.expert_width > 0) &&
                       (!family.permuted || s.head_dim % 2 == 0) &&
                       (!family.latent || (s.nope > 0 && s.value > 0)) &&
                       (s.experts > 0) == (family.experts != HfExperts::none) &&
                       s.experts <= 4096 && (s.dense_layers == 0 || s.dense_width > 0) &&
                       s.dense_layers <= s.layers;
    if (!sound) {
        throw Error(model.name(),
                    fmt::format("its vocabulary, heads, experts or widths do not fit the "
                                "architecture {}",
                                family.hf));
    }
    return s;
}

std::vector<Correspondence> hf_correspondences(const HfShape& shape, const HfPresence& present,
                                               bool reading, bool mxfp4) {
    return Builder(shape, present, reading, mxfp4).run();
}

}  // namespace muster
