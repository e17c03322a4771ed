// SPDX-License-Identifier: Apache-2.0
// Writes checkpoints with random weights, of any family, size and format: for tests and benchmarks.
//
//     make_checkpoint tiny-qwen3moe -o tiny.gguf --type q4_k_m
//     make_checkpoint qwen3-30b-a3b --layers 6 -o some.gguf --type q4_k_m --random-blocks
//     make_checkpoint tiny-mixtral -o tiny-mixtral --format hf --type bf16
#include <CLI/CLI.hpp>
#include <iostream>
#include <optional>
#include <string>

#include "muster/checkpoint/gguf.h"
#include "muster/core/error.h"
#include "tools/make_checkpoint/gguf_output.h"
#include "tools/make_checkpoint/hf_output.h"

namespace {

using namespace muster::checkpoints;

struct Options {
    std::string preset;
    std::string output;
    std::string type = "f32";
    std::string format = "gguf";
    std::string vocabulary = MUSTER_DEFAULT_MODEL;
    bool random_blocks = false;
    uint64_t max_shard_bytes = 0;
    std::optional<int> layers, d_model, heads, kv_heads, head_dim, vocab, context, experts, used,
        expert_width, shared_width, dense_width, dense_layers, window;
    std::optional<uint64_t> seed;
};

void add_options(CLI::App& app, Options& o) {
    std::string presets;
    for (const std::string& name : preset_names()) presets += " " + name;
    app.add_option("preset", o.preset, "One of:" + presets)->required();
    app.add_option("-o,--output", o.output, "The file or directory to write")->required();
    app.add_option("--type", o.type, "Format of the weights: f32, bf16, q8_0, q4_k, q4_k_m, ...");
    app.add_option("--format", o.format, "gguf, or hf for a Hugging Face directory")
        ->check(CLI::IsMember({"gguf", "hf"}));
    app.add_option("--vocabulary", o.vocabulary,
                   "A GGUF file whose vocabulary, cut or filled up, the model gets");
    app.add_flag("--random-blocks", o.random_blocks,
                 "Random blocks instead of encoded values: fast, but no two formats alike");
    app.add_option("--max-shard-size", o.max_shard_bytes, "Bytes of tensors in one file at most")
        ->transform(CLI::AsSizeValue(false));
    app.add_option("--seed", o.seed);
    app.add_option("--layers", o.layers);
    app.add_option("--d-model", o.d_model);
    app.add_option("--heads", o.heads);
    app.add_option("--kv-heads", o.kv_heads);
    app.add_option("--head-dim", o.head_dim);
    app.add_option("--vocab", o.vocab);
    app.add_option("--context", o.context);
    app.add_option("--experts", o.experts);
    app.add_option("--used", o.used, "Experts per token");
    app.add_option("--expert-width", o.expert_width);
    app.add_option("--shared-width", o.shared_width);
    app.add_option("--dense-width", o.dense_width);
    app.add_option("--dense-layers", o.dense_layers);
    app.add_option("--window", o.window);
}

CheckpointSpec specification(const Options& o) {
    CheckpointSpec s = preset(o.preset);
    const auto set = [](auto& to, const auto& from) {
        if (from) to = *from;
    };
    set(s.layers, o.layers);
    set(s.d_model, o.d_model);
    set(s.heads, o.heads);
    set(s.kv_heads, o.kv_heads);
    set(s.head_dim, o.head_dim);
    set(s.vocab, o.vocab);
    set(s.context, o.context);
    set(s.experts, o.experts);
    set(s.used, o.used);
    set(s.expert_width, o.expert_width);
    set(s.shared_width, o.shared_width);
    set(s.dense_width, o.dense_width);
    set(s.dense_layers, o.dense_layers);
    set(s.window, o.window);
    set(s.seed, o.seed);
    check(s);
    return s;
}

HfOptions hf_options(const Options& o) {
    const FileType& type = parse_file_type(o.type);
    const bool packed = type.mixture == FileType::Mixture::experts_only;
    if (!packed && (type.mixture != FileType::Mixture::none ||
                    muster::dtype_info(type.format).block_elements != 1))
        throw muster::Error("type",
                            "a Hugging Face directory holds f32, f16, bf16 or, of gpt-oss, "
                            "mxfp4_moe");
    return {packed ? muster::DType::bf16 : type.format, packed, o.max_shard_bytes};
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Writes checkpoints with random weights, for tests and benchmarks.");
    Options options;
    add_options(app, options);
    CLI11_PARSE(app, argc, argv);
    try {
        const muster::GgufFile file(options.vocabulary);
        const muster::Vocabulary vocabulary = muster::Tokenizer::from_gguf(file).vocabulary();
        if (options.format == "hf") {
            write_hf(specification(options), vocabulary, hf_options(options), options.output);
        } else {
            write_gguf(
                specification(options), vocabulary,
                {parse_file_type(options.type), options.random_blocks, options.max_shard_bytes},
                options.output);
        }
    } catch (const muster::Error& error) {
        std::cerr << "make_checkpoint: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
