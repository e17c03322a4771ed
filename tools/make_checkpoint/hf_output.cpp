// SPDX-License-Identifier: Apache-2.0
// Names and layouts: modeling_*.py of huggingface/transformers.
#include "tools/make_checkpoint/hf_output.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "muster/checkpoint/safetensors.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/quant/convert.h"
#include "tools/make_checkpoint/gguf_output.h"
#include "tools/make_checkpoint/hf_config.h"
#include "tools/make_checkpoint/weights.h"

namespace muster::checkpoints {
namespace {

using Values = std::vector<float>;
using Shape = std::vector<int64_t>;

/// All tensors of a model under transformers' names.
class Tensors {
  public:
    Tensors(const CheckpointSpec& spec, const HfOptions& options) : s_(spec), o_(options) {
        for (TensorPlan& plan : plan_tensors(s_)) plans_.emplace(plan.name, std::move(plan));
    }

    std::vector<MadeTensor> run() {
        plain("model.embed_tokens.weight", "token_embd.weight");
        plain("model.norm.weight", "output_norm.weight");
        if (!s_.tied_head) plain("lm_head.weight", "output.weight");
        for (layer_ = 0; layer_ < s_.layers; ++layer_) {
            const bool oai = s_.family == Family::gpt_oss;
            layer("input_layernorm.weight", "attn_norm.weight");
            layer("post_attention_layernorm.weight",
                  oai ? "post_attention_norm.weight" : "ffn_norm.weight");
            s_.latent.kv_rank > 0 ? latent() : attention();
            s_.dense(layer_) ? gated("mlp", "") : mixture();
        }
        return std::move(all_);
    }

  private:
    std::string hf(std::string_view rest) const {
        return fmt::format("model.layers.{}.{}", layer_, rest);
    }
    const TensorPlan* find(std::string_view rest) const {
        const auto found = plans_.find(fmt::format("blk.{}.{}", layer_, rest));
        return found == plans_.end() ? nullptr : &found->second;
    }
    Values rows(const TensorPlan& plan, int64_t first, int64_t count) const {
        Values all(static_cast<size_t>(count * plan.cols()));
        for (int64_t r = 0; r < count; ++r)
            fill_row(s_, plan, first + r,
                     std::span(all).subspan(static_cast<size_t>(r * plan.cols()),
                                            static_cast<size_t>(plan.cols())));
        return all;
    }

    void add(std::string name, Shape shape, std::function<Values()> values) {
        const DType dtype = o_.dtype;
        all_.push_back({std::move(name), dtype, std::move(shape),
                        [dtype, values = std::move(values)](const MadeTensor::Sink& sink) {
                            const Values v = values();
                            const auto n = static_cast<int64_t>(v.size());
                            std::vector<std::byte> bytes(
                                static_cast<size_t>(dtype_bytes(dtype, n)));
                            encode_row(dtype, v.data(), bytes.data(), n);
                            sink(bytes);
                        }});
    }
    void add(std::string name, const TensorPlan& plan, Shape shape = {}) {
        add(std::move(name), shape.empty() ? plan.shape : shape,
            [this, &plan] { return rows(plan, 0, plan.rows()); });
    }
    void plain(const char* name, const char* gguf) { add(name, plans_.at(gguf)); }
    void layer(std::string_view name, std::string_view gguf) {
        if (const TensorPlan* plan = find(gguf)) add(hf(name), *plan);
    }

    void attention() {
        for (const char part : {'q', 'k', 'v'}) {
            projection(fmt::format("self_attn.{}_proj.weight", part),
                       fmt::format("attn_{}.weight", part), part == 'v');
            layer(fmt::format("self_attn.{}_proj.bias", part), fmt::format("attn_{}.bias", part));
            layer(fmt::format("self_attn.{}_norm.weight", part),
                  fmt::format("attn_{}_norm.weight", part));
        }
        layer("self_attn.o_proj.weight", "attn_output.weight");
        layer("self_attn.o_proj.bias", "attn_output.bias");
        layer("self_attn.sinks", "attn_sinks.weight");
    }

    /// transformers turns pairs (i, i + half) of a head, these families' files pairs (2 i, 2 i +
    /// 1).
    void projection(const std::string& name, const std::string& gguf, bool plain) {
        const TensorPlan* plan = find(gguf);
        if (plain || (s_.family != Family::llama && s_.family != Family::granitemoe))
            return add(hf(name), *plan);
        add(hf(name), plan->shape, [this, plan] {
            const Values in = rows(*plan, 0, plan->rows());
            Values out(in.size());
            const int64_t dim = s_.head_dim, cols = plan->cols();
            for (int64_t r = 0; r < plan->rows(); ++r) {
                const int64_t pair = r % dim / 2, second = r % 2;
                const int64_t to = r / dim * dim + pair + second * dim / 2;
                std::copy_n(in.begin() + r * cols, cols, out.begin() + to * cols);
            }
            return out;
        });
    }

    void latent() {
        layer("self_attn.q_proj.weight", "attn_q.weight");
        layer("self_attn.q_a_proj.weight", "attn_q_a.weight");
        layer("self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight");
        layer("self_attn.q_b_proj.weight", "attn_q_b.weight");
        layer("self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight");
        layer("self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight");
        layer("self_attn.kv_b_proj.weight", "attn_kv_b.weight");
        layer("self_attn.o_proj.weight", "attn_output.weight");
    }

    void gated(std::string_view prefix, std::string_view suffix) {
        for (const char* part : {"gate", "up", "down"})
            layer(fmt::format("{}.{}_proj.weight", prefix, part),
                  fmt::format("ffn_{}{}.weight", part, suffix));
    }

    void mixture() {
        switch (s_.family) {
            case Family::gpt_oss:
                return gpt_oss();
            case Family::granitemoe:
                return granite();
            case Family::llama:
                layer("block_sparse_moe.gate.weight", "ffn_gate_inp.weight");
                listed("block_sparse_moe.experts", {"w1", "w3", "w2"});
                return;
            default:
                break;
        }
        layer("mlp.gate.weight", "ffn_gate_inp.weight");
        layer("mlp.gate.e_score_correction_bias", "exp_probs_b.bias");
        listed("mlp.experts", {"gate_proj", "up_proj", "down_proj"});
        if (s_.shared_width == 0) return;
        gated(s_.family == Family::qwen2moe ? "mlp.shared_expert" : "mlp.shared_experts", "_shexp");
        if (const TensorPlan* gate = find("ffn_gate_inp_shexp.weight"))
            add(hf("mlp.shared_expert_gate.weight"), *gate, {1, s_.d_model});
    }

    void listed(std::string_view prefix, const std::array<const char*, 3>& names) {
        const std::array<const char*, 3> parts{"gate", "up", "down"};
        for (size_t p = 0; p < 3; ++p) {
            const TensorPlan* plan = find(fmt::format("ffn_{}_exps.weight", parts[p]));
            const int64_t out = plan->shape[1];
            for (int64_t e = 0; e < s_.experts; ++e)
                add(hf(fmt::format("{}.{}.{}.weight", prefix, e, names[p])), {out, plan->cols()},
                    [this, plan, out, e] { return rows(*plan, e * out, out); });
        }
    }

    /// Rows of two tensors [blocks, rows, cols] in one, block by block.
    void joined(std::string_view name, const TensorPlan& first, const TensorPlan& second,
                int64_t blocks, int64_t block_rows, Shape shape) {
        add(hf(name), std::move(shape), [=, this, &first, &second] {
            Values all;
            for (int64_t b = 0; b < blocks; ++b) {
                for (const TensorPlan* plan : {&first, &second}) {
                    const Values part = rows(*plan, b * block_rows, block_rows);
                    all.insert(all.end(), part.begin(), part.end());
                }
            }
            return all;
        });
    }

    void granite() {
        const int64_t width = s_.expert_width, d = s_.d_model;
        layer("block_sparse_moe.router.layer.weight", "ffn_gate_inp.weight");
        joined("block_sparse_moe.input_linear.weight", *find("ffn_gate_exps.weight"),
               *find("ffn_up_exps.weight"), s_.experts, width, {s_.experts, 2 * width, d});
        layer("block_sparse_moe.output_linear.weight", "ffn_down_exps.weight");
        if (s_.shared_width == 0) return;
        joined("shared_mlp.input_linear.weight", *find("ffn_gate_shexp.weight"),
               *find("ffn_up_shexp.weight"), 1, s_.shared_width, {2 * s_.shared_width, d});
        layer("shared_mlp.output_linear.weight", "ffn_down_shexp.weight");
    }

    void gpt_oss() {
        const int64_t n = s_.experts, w = s_.expert_width, d = s_.d_model;
        layer("mlp.router.weight", "ffn_gate_inp.weight");
        layer("mlp.router.bias", "ffn_gate_inp.bias");
        const std::vector<const TensorPlan*> both{find("ffn_gate_exps.bias"),
                                                  find("ffn_up_exps.bias")};
        add(hf("mlp.experts.gate_up_proj_bias"), {n, 2 * w}, [=, this] {
            Values all;
            for (int64_t e = 0; e < n; ++e) {
                const Values gate = rows(*both[0], e, 1), up = rows(*both[1], e, 1);
                for (size_t i = 0; i < gate.size(); ++i) all.insert(all.end(), {gate[i], up[i]});
            }
            return all;
        });
        layer("mlp.experts.down_proj_bias", "ffn_down_exps.bias");
        const auto matrices = [&](const char* name, std::vector<const TensorPlan*> parts,
                                  int64_t out, int64_t in) {
            o_.mxfp4_experts ? packed(hf(name), std::move(parts), out, in)
                             : transposed(hf(name), std::move(parts), out, in);
        };
        matrices("mlp.experts.gate_up_proj",
                 {find("ffn_gate_exps.weight"), find("ffn_up_exps.weight")}, 2 * w, d);
        matrices("mlp.experts.down_proj", {find("ffn_down_exps.weight")}, d, w);
    }

    /// Matrix e [out, in] of which the tensors [experts, out / tensors, in] have rows in turn.
    Values in_turn(const std::vector<const TensorPlan*>& parts, int64_t e, int64_t out) const {
        const auto n = static_cast<int64_t>(parts.size());
        Values all;
        for (int64_t r = 0; r < out; ++r) {
            const Values row = rows(*parts[static_cast<size_t>(r % n)], e * (out / n) + r / n, 1);
            all.insert(all.end(), row.begin(), row.end());
        }
        return all;
    }

    void transposed(std::string name, std::vector<const TensorPlan*> parts, int64_t out,
                    int64_t in) {
        add(std::move(name), {s_.experts, in, out}, [=, this] {
            Values all;
            for (int64_t e = 0; e < s_.experts; ++e) {
                const Values one = in_turn(parts, e, out);
                for (int64_t k = 0; k < in; ++k)
                    for (int64_t r = 0; r < out; ++r)
                        all.push_back(one[static_cast<size_t>(r * in + k)]);
            }
            return all;
        });
    }

    /// As gpt-oss is published: 16 bytes of two neighbours each for 32 values, and their exponents.
    void packed(const std::string& name, const std::vector<const TensorPlan*>& parts, int64_t out,
                int64_t in) {
        const auto make = [=, this](bool scales) {
            return [=, this](const MadeTensor::Sink& sink) {
                for (int64_t e = 0; e < s_.experts; ++e) {
                    const Values one = in_turn(parts, e, out);
                    const auto n = static_cast<int64_t>(one.size());
                    std::vector<std::byte> stored(
                        static_cast<size_t>(dtype_bytes(DType::mxfp4, n)));
                    encode_row(DType::mxfp4, one.data(), stored.data(), n);
                    sink(published(stored, scales));
                }
            };
        };
        all_.push_back({name + "_blocks", {}, {s_.experts, out, in / 32, 16}, make(false)});
        all_.push_back({name + "_scales", {}, {s_.experts, out, in / 32}, make(true)});
    }

    static std::vector<std::byte> published(const std::vector<std::byte>& ggml, bool scales) {
        std::vector<std::byte> out;
        for (size_t block = 0; block < ggml.size(); block += 17) {
            if (scales) {
                out.push_back(ggml[block]);
                continue;
            }
            std::array<unsigned, 32> values{};
            for (size_t i = 0; i < 16; ++i) {
                values[i] = std::to_integer<unsigned>(ggml[block + 1 + i]) & 15U;
                values[i + 16] = std::to_integer<unsigned>(ggml[block + 1 + i]) >> 4;
            }
            for (size_t i = 0; i < 32; i += 2)
                out.push_back(static_cast<std::byte>(values[i] | values[i + 1] << 4));
        }
        return out;
    }

    const CheckpointSpec& s_;
    const HfOptions& o_;
    std::map<std::string, TensorPlan, std::less<>> plans_;
    std::vector<MadeTensor> all_;
    int layer_ = -1;
};

/// One file, or shards of at most so many bytes (at least a tensor each) and their index.
void write_tensors(const std::vector<MadeTensor>& tensors, uint64_t most,
                   const std::filesystem::path& directory) {
    const std::map<std::string, std::string> metadata{{"format", "pt"}};
    if (most == 0)
        return write_made_safetensors(directory / "model.safetensors", tensors, metadata);
    int64_t total = 0;
    for (const MadeTensor& tensor : tensors) total += tensor.bytes();
    const auto shards = shards_of(tensors, most);
    nlohmann::ordered_json index{{"metadata", {{"total_size", total}}}};
    for (size_t i = 0; i < shards.size(); ++i) {
        const std::string name =
            fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
        write_made_safetensors(directory / name, shards[i], metadata);
        for (const MadeTensor& t : shards[i]) index["weight_map"][t.name] = name;
    }
    write_file(directory / "model.safetensors.index.json", index.dump(2) + "\n");
}

/// Older files of DeepSeek keep keys and values together, as transformers does.
CheckpointSpec as_transformers(CheckpointSpec spec) {
    spec.latent.split = false;
    return spec;
}

}  // namespace

void write_hf(const CheckpointSpec& spec, const Vocabulary& vocabulary, const HfOptions& options,
              const std::filesystem::path& directory) {
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error) throw Error(directory.string(), "cannot create: " + error.message());
    const CheckpointSpec whole = as_transformers(spec);
    Tensors tensors(whole, options);
    write_tensors(tensors.run(), options.max_shard_bytes, directory);
    const Vocabulary v = fitted(vocabulary, spec.vocab);
    write_file(directory / "tokenizer.json", to_tokenizer_json(v));
    write_file(directory / "tokenizer_config.json", hf_tokenizer_config_text(spec, v));
    write_file(directory / "config.json", hf_config_text(spec, options));
}

}  // namespace muster::checkpoints
