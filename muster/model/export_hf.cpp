// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/model/export.h"
#include "muster/model/training_checkpoint.h"

namespace muster {
namespace {

using nlohmann::json;

json token_or_null(int32_t id) { return id >= 0 ? json(id) : json(nullptr); }

json model_json(const TrainingCheckpoint& source, DType dtype) {
    const ModelConfig& c = source.config();
    const Vocabulary& v = source.vocabulary();
    const char* torch_dtype = dtype == DType::f32   ? "float32"
                              : dtype == DType::f16 ? "float16"
                                                    : "bfloat16";
    return {{"architectures", {"OlmoeForCausalLM"}},
            {"model_type", "olmoe"},
            {"vocab_size", c.vocab},
            {"hidden_size", c.d_model},
            {"intermediate_size", c.layers[0].widths[0]},
            {"num_hidden_layers", c.num_layers()},
            {"num_attention_heads", c.heads},
            {"num_key_value_heads", c.kv_heads},
            {"num_experts", c.layers[0].experts()},
            {"num_experts_per_tok", equivalent_top_k(c)},
            {"norm_topk_prob", false},
            {"output_router_logits", false},
            {"router_aux_loss_coef", 0.01},
            {"hidden_act", "silu"},
            {"max_position_embeddings", c.context},
            {"rms_norm_eps", c.norm_eps},
            {"rope_theta", c.rope_theta},
            {"rope_scaling", nullptr},
            {"attention_bias", false},
            {"attention_dropout", 0.0},
            {"clip_qkv", nullptr},
            {"initializer_range", 0.02},
            {"tie_word_embeddings", c.tied_head},
            {"torch_dtype", torch_dtype},
            {"use_cache", true},
            {"bos_token_id", token_or_null(v.bos)},
            {"eos_token_id", token_or_null(v.eos)},
            {"pad_token_id", token_or_null(v.eos)},
            // Not read by transformers, whose OLMoE always takes num_experts_per_tok.
            {"muster_routing_policy", c.policy.to_string()}};
}

json tokenizer_config(const TrainingCheckpoint& source) {
    const Vocabulary& v = source.vocabulary();
    json out = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                {"model_max_length", source.config().context},
                {"add_bos_token", v.add_bos},
                {"clean_up_tokenization_spaces", false}};
    const auto name = [&](const char* key, int32_t id) {
        if (id >= 0) out[key] = v.pieces[id];
    };
    name("bos_token", v.bos);
    name("eos_token", v.eos);
    name("unk_token", v.unk);
    return out;
}

/// Names and shapes of all tensors.
std::vector<std::pair<std::string, std::vector<int64_t>>> tensors_of(const ModelConfig& c) {
    using namespace tensor_names;
    const int64_t d = c.d_model;
    std::vector<std::pair<std::string, std::vector<int64_t>>> out{
        {std::string(kEmbedding), {c.vocab, d}}, {std::string(kFinalNorm), {d}}};
    if (!c.tied_head) out.push_back({std::string(kHead), {c.vocab, d}});
    for (int l = 0; l < c.num_layers(); ++l) {
        const FeedForwardConfig& ff = c.layers[l];
        for (const auto vector : {kAttentionNorm, kFeedForwardNorm, kQueryNorm, kKeyNorm})
            out.push_back({layer(l, vector), {d}});
        for (const auto square : {kQuery, kKey, kValue, kOutput})
            out.push_back({layer(l, square), {d, d}});
        out.push_back({layer(l, kRouter), {ff.experts(), d}});
        for (int e = 0; e < ff.experts(); ++e) {
            const int64_t width = ff.widths[e];
            out.push_back({expert(l, e, "gate"), {width, d}});
            out.push_back({expert(l, e, "up"), {width, d}});
            out.push_back({expert(l, e, "down"), {d, width}});
        }
    }
    return out;
}

void write_weights(const TrainingCheckpoint& source, const std::filesystem::path& path, DType dtype,
                   const Progress& progress) {
    const auto tensors = tensors_of(source.config());
    std::vector<std::vector<std::byte>> owned;
    std::vector<NamedTensor> named;
    for (const auto& [name, shape] : tensors) {
        report_export(progress, "converting tensors", static_cast<int64_t>(named.size()),
                      static_cast<int64_t>(tensors.size()));
        TensorView view = source.tensor(name, shape);
        if (view.dtype != dtype) {
            owned.push_back(source.converted(name, shape, dtype));
            view.dtype = dtype;
            view.data = owned.back().data();
        }
        named.push_back({name, view});
    }
    write_safetensors(path, named, {{"format", "pt"}});
}

}  // namespace

void export_hf(const std::filesystem::path& checkpoint, const std::filesystem::path& out_directory,
               DType dtype, const Progress& progress) {
    if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16)
        throw Error("export", "a Hugging Face directory cannot hold " +
                                  std::string(dtype_info(dtype).name) +
                                  ", expected f32, f16 or bf16");
    const TrainingCheckpoint source(checkpoint);
    expect_outside(checkpoint, out_directory);
    const std::string beyond = beyond_olmoe(source.config());
    if (!beyond.empty())
        throw Error("export", "Hugging Face's OLMoE cannot express " + beyond +
                                  ", expected a model without; export it to GGUF instead");
    std::error_code error;
    std::filesystem::create_directories(out_directory, error);
    if (error) throw Error(out_directory.string(), "cannot create: " + error.message());
    write_weights(source, out_directory / "model.safetensors", dtype, progress);
    const Vocabulary& v = source.vocabulary();
    const json generation = {{"bos_token_id", token_or_null(v.bos)},
                             {"eos_token_id", token_or_null(v.eos)},
                             {"pad_token_id", token_or_null(v.eos)}};
    const auto write = [&](const char* name, const json& value) {
        write_file(out_directory / name,
                   value.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
    };
    write("generation_config.json", generation);
    write("tokenizer_config.json", tokenizer_config(source));
    write_file(out_directory / "tokenizer.json", to_tokenizer_json(v));
    write("config.json", model_json(source, dtype));
}

}  // namespace muster
