// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "muster/core/random.h"
#include "muster/tokenizer/tokenizer.h"
#include "muster/tokenizer/utf8.h"
#include "muster/tokenizer/vocabulary.h"

namespace muster::test {

inline void add_piece(Vocabulary& v, std::string piece, TokenType type, float score = 0) {
    v.pieces.push_back(std::move(piece));
    v.types.push_back(type);
    v.scores.push_back(score);
}

/// <unk>, <s>, </s> and, if wanted, the bytes.
inline Vocabulary special_pieces(bool bytes = true) {
    Vocabulary v;
    add_piece(v, "<unk>", TokenType::unknown);
    add_piece(v, "<s>", TokenType::control);
    add_piece(v, "</s>", TokenType::control);
    v.unk = 0;
    v.bos = 1;
    v.eos = 2;
    for (int b = 0; bytes && b < 256; ++b) {
        add_piece(v, byte_piece(static_cast<uint8_t>(b)), TokenType::byte);
    }
    return v;
}

/// The characters of a text, each space as U+2581.
inline std::vector<std::string> characters(std::string_view text) {
    std::vector<std::string> result;
    while (!text.empty()) {
        const auto bytes = next_utf8(text).bytes;
        const std::string_view c = text.substr(0, bytes);
        result.emplace_back(c == " " ? kSpacePiece : c);
        text.remove_prefix(bytes);
    }
    return result;
}

/// A vocabulary of up to `merges` merged pieces learnt from a short text, and its characters.
inline Vocabulary learn(std::string_view text, int merges) {
    Vocabulary v = special_pieces();
    std::vector<std::string> symbols = characters(text);
    std::map<std::string, int> alphabet;
    for (const auto& c : symbols) ++alphabet[c];
    float score = 0;
    for (int m = 0; m < merges; ++m) {
        std::map<std::pair<std::string, std::string>, int> counts;
        for (size_t i = 1; i < symbols.size(); ++i) {
            if (symbols[i] == "\n" || symbols[i - 1] == "\n") continue;
            if (symbols[i].starts_with(kSpacePiece) && symbols[i] != symbols[i - 1]) continue;
            ++counts[{symbols[i - 1], symbols[i]}];
        }
        auto best = counts.begin();
        for (auto it = counts.begin(); it != counts.end(); ++it) {
            if (it->second > best->second) best = it;
        }
        if (best == counts.end() || best->second < 2) break;
        const auto [left, right] = best->first;
        std::vector<std::string> merged;
        for (size_t i = 0; i < symbols.size(); ++i) {
            if (i + 1 < symbols.size() && symbols[i] == left && symbols[i + 1] == right) {
                merged.push_back(left + right);
                ++i;
            } else {
                merged.push_back(symbols[i]);
            }
        }
        symbols = std::move(merged);
        if (std::find(v.pieces.begin(), v.pieces.end(), left + right) == v.pieces.end()) {
            add_piece(v, left + right, TokenType::normal, score--);
        }
    }
    for (const auto& [c, count] : alphabet) {
        if (c != "\n") add_piece(v, c, TokenType::normal, score--);
    }
    return v;
}

inline constexpr std::string_view kText =
    "It was a quiet morning, and the harbour lay under mist; the ferry left the harbour late.\n"
    "    for (int i = 0; i < 10; ++i) {\n        total += values[i];  // the total\n    }\n"
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Deich, über den Deich und zurück.\n"
    "Съешь же ещё этих мягких булок, да выпей чаю. Съешь ещё булок.\n"
    "天地玄黄 宇宙洪荒 天地 宇宙  😀😀 the end, the end.\n";

/// What most tests use.
inline const Vocabulary& small_vocabulary() {
    static const Vocabulary v = learn(kText, 120);
    return v;
}

/// Valid UTF-8 without U+2581, all lengths of characters alike.
inline std::string random_text(Random& random, int count) {
    constexpr uint32_t kLimits[] = {0x80, 0x800, 0x10000, 0x110000};
    std::string text;
    for (int i = 0; i < count; ++i) {
        const auto c = static_cast<uint32_t>(random.below(kLimits[random.below(4)]));
        if ((c >= 0xD800 && c < 0xE000) || c == kSpaceCodePoint) continue;
        append_utf8(c, text);
    }
    return text;
}

inline std::string random_bytes(Random& random, size_t count) {
    std::string bytes;
    for (size_t i = 0; i < count; ++i) bytes += static_cast<char>(random.below(256));
    return bytes;
}

/// Pieces of the vocabulary one after the other, as text.
inline std::string random_pieces(const Vocabulary& v, Random& random, int count) {
    std::string text;
    for (int i = 0; i < count; ++i) {
        const size_t id = random.below(v.pieces.size());
        if (v.types[id] == TokenType::byte) continue;
        text += with_spaces(v.pieces[id]);
    }
    return text;
}

}  // namespace muster::test
