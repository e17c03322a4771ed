// SPDX-License-Identifier: Apache-2.0
// Hugging Face's tokenizer.json (github.com/huggingface/tokenizers) of a vocabulary.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "muster/core/error.h"
#include "muster/tokenizer/pre_tokenizer.h"
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

Json merges_in_order(const Vocabulary& v) {
    Json list = Json::array();
    for (const PieceMerge& merge : v.merges) {
        list.push_back(Json::array({v.pieces[merge.left], v.pieces[merge.right]}));
    }
    return list;
}

/// nlohmann's push_back() into an ordered object looks through all of it.
Json vocab_of(const Vocabulary& v) {
    Json vocab = Json::object();
    auto& members = vocab.get_ref<Json::object_t&>();
    members.reserve(v.pieces.size());
    for (int32_t id = 0; id < v.size(); ++id) {
        // Added tokens and gaps need no place here, and in byte-level files have none.
        if (v.kind == Vocabulary::Kind::byte_level && v.types[id] != TokenType::normal) continue;
        members.emplace_back(v.pieces[id], id);
    }
    return vocab;
}

Json model(const Vocabulary& v) {
    Json vocab = vocab_of(v);
    const bool scored = v.kind == Vocabulary::Kind::scores;
    return {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", v.unk >= 0 ? Json(v.pieces[v.unk]) : Json(nullptr)},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", scored},
            {"byte_fallback", has_byte_fallback(v)},
            {"ignore_merges", v.ignore_merges},
            {"vocab", std::move(vocab)},
            {"merges", scored ? merges(v) : merges_in_order(v)}};
}

Json added_tokens(const Vocabulary& v) {
    const bool scored = v.kind == Vocabulary::Kind::scores;
    std::unordered_map<int32_t, AddedTokenRule> rules;
    for (const AddedTokenRule& rule : v.added) rules.emplace(rule.id, rule);
    Json list = Json::array();
    for (int32_t id = 0; id < v.size(); ++id) {
        const TokenType type = v.types[id];
        const bool special = type == TokenType::control || type == TokenType::unknown;
        if (!special && type != TokenType::user_defined) continue;
        const auto found = rules.find(id);
        const AddedTokenRule rule = found == rules.end() ? AddedTokenRule{} : found->second;
        const bool as_it_is = special || !scored;
        list.push_back({{"id", id},
                        {"content", as_it_is ? v.pieces[id] : with_spaces(v.pieces[id])},
                        {"single_word", rule.single_word},
                        {"lstrip", rule.lstrip},
                        {"rstrip", rule.rstrip},
                        {"normalized", false},
                        {"special", special}});
    }
    return list;
}

Json replace(std::string_view from, std::string_view to) {
    return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

Json normalizer(const Vocabulary& v) {
    if (v.kind == Vocabulary::Kind::byte_level) {
        return v.nfc ? Json{{"type", "NFC"}} : Json(nullptr);
    }
    if (!v.add_space_prefix) return replace(" ", kSpacePiece);
    return {{"type", "Sequence"},
            {"normalizers", Json::array({{{"type", "Prepend"}, {"prepend", kSpacePiece}},
                                         replace(" ", kSpacePiece)})}};
}

Json byte_level(bool add_prefix_space, bool use_regex) {
    return {{"type", "ByteLevel"},
            {"add_prefix_space", add_prefix_space},
            {"trim_offsets", true},
            {"use_regex", use_regex}};
}

/// The rules as splits, then bytes as characters.
Json pre_tokenizer(const Vocabulary& v) {
    if (v.kind == Vocabulary::Kind::scores) return nullptr;
    if (v.splits.size() == 1 && v.splits[0].pattern == gpt2_pattern() &&
        v.splits[0].keep == SplitRule::Keep::all) {
        return byte_level(v.add_space_prefix, true);
    }
    if (v.add_space_prefix) {
        throw Error("to_tokenizer_json",
                    "a space in front cannot be written beside these split rules, expected the "
                    "rule of GPT-2 or no space");
    }
    Json steps = Json::array();
    for (const SplitRule& rule : v.splits) {
        const bool matches = rule.keep == SplitRule::Keep::matches;
        steps.push_back({{"type", "Split"},
                         {"pattern", {{"Regex", rule.pattern}}},
                         {"behavior", matches ? "Removed" : "Isolated"},
                         {"invert", matches}});
    }
    steps.push_back(byte_level(false, false));
    return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

Json decoder(const Vocabulary& v) {
    if (v.kind == Vocabulary::Kind::byte_level) return byte_level(v.add_space_prefix, true);
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
    const Json json = {{"version", "1.0"},
                       {"truncation", nullptr},
                       {"padding", nullptr},
                       {"added_tokens", added_tokens(vocabulary)},
                       {"normalizer", normalizer(vocabulary)},
                       {"pre_tokenizer", pre_tokenizer(vocabulary)},
                       {"post_processor", post_processor(vocabulary)},
                       {"decoder", decoder(vocabulary)},
                       {"model", model(vocabulary)}};
    return json.dump(1) + "\n";
}

}  // namespace muster
