// SPDX-License-Identifier: Apache-2.0
// The vocabulary in a GGUF file's metadata: github.com/ggml-org/ggml docs/gguf.md, section
// "Tokenizer"; what absent keys mean follows llama.cpp. An add_eos_token is not heeded: text that
// the engine reads is there to be continued.
#include <algorithm>
#include <string>

#include "muster/checkpoint/gguf.h"
#include "muster/core/error.h"
#include "muster/tokenizer/tokenizer.h"
#include "muster/tokenizer/vocabulary.h"

namespace muster {
namespace {

constexpr std::string_view kModel = "tokenizer.ggml.model";
constexpr std::string_view kPre = "tokenizer.ggml.pre";
constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kScores = "tokenizer.ggml.scores";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
constexpr std::string_view kBos = "tokenizer.ggml.bos_token_id";
constexpr std::string_view kEos = "tokenizer.ggml.eos_token_id";
constexpr std::string_view kUnk = "tokenizer.ggml.unknown_token_id";
constexpr std::string_view kAddBos = "tokenizer.ggml.add_bos_token";
constexpr std::string_view kAddEos = "tokenizer.ggml.add_eos_token";
constexpr std::string_view kAddSpace = "tokenizer.ggml.add_space_prefix";

void check_length(const WeightMap& file, std::string_view key, size_t length, size_t tokens) {
    if (length == tokens) return;
    throw Error(file.name(), std::string(key) + " has " + std::to_string(length) +
                                 " values, expected one for each of the " + std::to_string(tokens) +
                                 " tokens");
}

int32_t id_or_none(const WeightMap& file, std::string_view key, size_t tokens) {
    if (!file.has(key)) return -1;
    return static_cast<int32_t>(file.integer(key, 0, static_cast<int64_t>(tokens) - 1));
}

bool flag(const WeightMap& file, std::string_view key, bool absent) {
    return file.has(key) ? file.boolean(key) : absent;
}

}  // namespace

Tokenizer Tokenizer::from_gguf(const WeightMap& file) {
    if (const std::string& model = file.string(kModel); model != "llama") {
        throw Error(file.name(), std::string(kModel) + " is \"" + model + "\", expected \"llama\"");
    }
    Vocabulary v;
    v.pieces = file.strings(kTokens);
    if (v.pieces.empty()) throw Error(file.name(), std::string(kTokens) + " is empty");
    for (const double score : file.reals(kScores)) v.scores.push_back(static_cast<float>(score));
    check_length(file, kScores, v.scores.size(), v.pieces.size());
    const std::vector<int64_t> types = file.integers(kTypes);
    check_length(file, kTypes, types.size(), v.pieces.size());
    for (size_t i = 0; i < types.size(); ++i) {
        if (types[i] < 1 || types[i] > 6) {
            throw Error(file.name(), std::string(kTypes) + " of token " + std::to_string(i) +
                                         " is " + std::to_string(types[i]) + ", expected 1 to 6");
        }
        v.types.push_back(static_cast<TokenType>(types[i]));
    }
    v.bos = id_or_none(file, kBos, v.pieces.size());
    v.eos = id_or_none(file, kEos, v.pieces.size());
    v.unk = id_or_none(file, kUnk, v.pieces.size());
    if (v.unk < 0) {
        const auto found = std::find(v.types.begin(), v.types.end(), TokenType::unknown);
        if (found != v.types.end()) v.unk = static_cast<int32_t>(found - v.types.begin());
    }
    v.add_bos = flag(file, kAddBos, true);
    v.add_space_prefix = flag(file, kAddSpace, true);
    check_vocabulary(v, file.name() + ": " + std::string(kTokens));
    return Tokenizer(std::move(v));
}

void write_vocabulary(const Vocabulary& vocabulary, GgufWriter& writer) {
    check_vocabulary(vocabulary, "write_vocabulary");
    std::vector<int32_t> types;
    types.reserve(vocabulary.types.size());
    for (const TokenType type : vocabulary.types) types.push_back(static_cast<int32_t>(type));
    const auto id = [&](std::string_view key, int32_t value) {
        if (value >= 0) writer.set_u32(std::string(key), static_cast<uint32_t>(value));
    };
    writer.set_string(std::string(kModel), "llama");
    writer.set_string(std::string(kPre), "default");
    writer.set_strings(std::string(kTokens), vocabulary.pieces);
    writer.set_f32s(std::string(kScores), vocabulary.scores);
    writer.set_i32s(std::string(kTypes), types);
    id(kBos, vocabulary.bos);
    id(kEos, vocabulary.eos);
    id(kUnk, vocabulary.unk);
    writer.set_bool(std::string(kAddBos), vocabulary.add_bos);
    writer.set_bool(std::string(kAddEos), false);
    writer.set_bool(std::string(kAddSpace), vocabulary.add_space_prefix);
}

}  // namespace muster
