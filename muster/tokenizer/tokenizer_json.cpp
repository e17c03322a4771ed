// SPDX-License-Identifier: Apache-2.0
// Hugging Face's tokenizer.json (github.com/huggingface/tokenizers) of a vocabulary.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <unordered_set>

#include "muster/tokenizer/tokenizer.h"
#include "muster/tokenizer/utf8.h"
#include "muster/tokenizer/vocabulary.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

/// Every way to make a piece of two others, best piece first: a rank in this list then orders
/// merges as the scores do, and the two programs differ at most where pieces have equal scores.
Json merges(const Vocabulary& v) {
    std::unordered_set<std::string_view> normal;
    std::vector<size_t> order;
    for (size_t id = 0; id < v.pieces.size(); ++id) {
        if (v.types[id] != TokenType::normal) continue;
        normal.insert(v.pieces[id]);
        order.push_back(id);
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return v.scores[a] > v.scores[b]; });
    Json list = Json::array();
    for (const size_t id : order) {
        const std::string_view piece = v.pieces[id];
        for (size_t at = next_utf8(piece).bytes; at < piece.size();
             at += next_utf8(piece.substr(at)).bytes) {
            const std::string_view left = piece.substr(0, at);
            const std::string_view right = piece.substr(at);
            if (normal.contains(left) && normal.contains(right)) {
                list.push_back(Json::array({left, right}));
            }
        }
    }
    return list;
}

Json model(const Vocabulary& v) {
    Json vocab = Json::object();
    for (int32_t id = 0; id < v.size(); ++id) vocab.push_back({v.pieces[id], id});
    return {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", v.unk >= 0 ? Json(v.pieces[v.unk]) : Json(nullptr)},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", true},
            {"byte_fallback", has_byte_fallback(v)},
            {"ignore_merges", false},
            {"vocab", std::move(vocab)},
            {"merges", merges(v)}};
}

Json added_tokens(const Vocabulary& v) {
    Json list = Json::array();
    for (int32_t id = 0; id < v.size(); ++id) {
        const TokenType type = v.types[id];
        const bool special = type == TokenType::control || type == TokenType::unknown;
        if (!special && type != TokenType::user_defined) continue;
        list.push_back({{"id", id},
                        {"content", special ? v.pieces[id] : with_spaces(v.pieces[id])},
                        {"single_word", false},
                        {"lstrip", false},
                        {"rstrip", false},
                        {"normalized", false},
                        {"special", special}});
    }
    return list;
}

Json replace(std::string_view from, std::string_view to) {
    return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

Json normalizer(const Vocabulary& v) {
    if (!v.add_space_prefix) return replace(" ", kSpacePiece);
    return {{"type", "Sequence"},
            {"normalizers", Json::array({{{"type", "Prepend"}, {"prepend", kSpacePiece}},
                                         replace(" ", kSpacePiece)})}};
}

Json decoder(const Vocabulary& v) {
    Json steps =
        Json::array({replace(kSpacePiece, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
    if (v.add_space_prefix) {
        steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    }
    return {{"type", "Sequence"}, {"decoders", std::move(steps)}};
}

/// Puts bos in front, where the vocabulary asks for it.
Json post_processor(const Vocabulary& v) {
    if (!v.add_bos || v.bos < 0) return nullptr;
    const std::string& bos = v.pieces[v.bos];
    const auto special = [&](int type) -> Json {
        return {{"SpecialToken", {{"id", bos}, {"type_id", type}}}};
    };
    const auto text = [](std::string_view name, int type) -> Json {
        return {{"Sequence", {{"id", name}, {"type_id", type}}}};
    };
    return {
        {"type", "TemplateProcessing"},
        {"single", Json::array({special(0), text("A", 0)})},
        {"pair", Json::array({special(0), text("A", 0), special(1), text("B", 1)})},
        {"special_tokens",
         {{bos, {{"id", bos}, {"ids", Json::array({v.bos})}, {"tokens", Json::array({bos})}}}}}};
}

}  // namespace

std::string to_tokenizer_json(const Vocabulary& vocabulary) {
    check_vocabulary(vocabulary, "to_tokenizer_json");
    need_scores(vocabulary, "to_tokenizer_json");
    const Json json = {{"version", "1.0"},
                       {"truncation", nullptr},
                       {"padding", nullptr},
                       {"added_tokens", added_tokens(vocabulary)},
                       {"normalizer", normalizer(vocabulary)},
                       {"pre_tokenizer", nullptr},
                       {"post_processor", post_processor(vocabulary)},
                       {"decoder", decoder(vocabulary)},
                       {"model", model(vocabulary)}};
    return json.dump(1) + "\n";
}

}  // namespace muster
