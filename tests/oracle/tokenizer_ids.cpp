// SPDX-License-Identifier: Apache-2.0
// tokenizer_ids SOURCE [--pre NAME] [--write OUT.gguf] [--json OUT.json] FILE...
// The token ids of files, by the tokeniser of a Hugging Face directory or a GGUF file: a line of
// JSON for each,
// {"plain": [...], "parsed": [...], "special": [...]}, which are the ids without bos and with text
// that looks like a control token kept as text; with such text read as that token; and with bos
// too. FILE.decoded gets the text of "parsed". --pre: as if tokenizer.ggml.pre said so. --write:
// the vocabulary alone as a GGUF file, first;
// --json: as a tokenizer.json.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/weight_map.h"
#include "muster/tokenizer/tokenizer.h"

namespace {

struct Options {
    std::string source, pre, output, json;
    std::vector<std::string> files;
};

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string argument = argv[i];
        if (argument == "--pre" && i + 1 < argc) {
            options.pre = argv[++i];
        } else if (argument == "--write" && i + 1 < argc) {
            options.output = argv[++i];
        } else if (argument == "--json" && i + 1 < argc) {
            options.json = argv[++i];
        } else if (options.source.empty()) {
            options.source = argument;
        } else {
            options.files.push_back(argument);
        }
    }
    return options;
}

muster::WeightMap load(const Options& options) {
    muster::WeightMap map(options.source);
    if (std::filesystem::is_directory(options.source)) {
        muster::read_huggingface_tokenizer(options.source, map);
    } else {
        map = muster::open_gguf(options.source);
    }
    if (!options.pre.empty()) {
        map.erase("tokenizer.ggml.pre");
        map.set("tokenizer.ggml.pre", options.pre);
    }
    return map;
}

void write(const muster::WeightMap& map, const std::string& path) {
    muster::GgufWriter writer;
    writer.set_string("general.architecture", "llama");
    for (const auto& [key, value] : map.metadata()) {
        if (key.starts_with("tokenizer.")) writer.copy(map, key);
    }
    writer.write(path);
}

void print(const muster::Tokenizer& tokenizer, const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const auto ids = [&](bool special, bool parse) {
        return tokenizer.encode(text, muster::EncodeOptions{special, parse});
    };
    const std::vector<int32_t> parsed = ids(false, true);
    std::ofstream(path + ".decoded", std::ios::binary) << tokenizer.decode(parsed);
    const nlohmann::json line = {
        {"plain", ids(false, false)}, {"parsed", parsed}, {"special", ids(true, true)}};
    std::cout << line.dump() << '\n';
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const Options options = parse(argc, argv);
        const muster::WeightMap map = load(options);
        if (!options.output.empty()) write(map, options.output);
        const auto tokenizer = muster::Tokenizer::from_gguf(map);
        if (!options.json.empty()) {
            std::ofstream(options.json) << muster::to_tokenizer_json(tokenizer.vocabulary());
        }
        for (const std::string& file : options.files) print(tokenizer, file);
    } catch (const std::exception& error) {
        std::cerr << "tokenizer_ids: " << error.what() << '\n';
        return 2;
    }
}
