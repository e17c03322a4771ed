// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "muster/core/error.h"
#include "muster/tokenizer/added_tokens.h"
#include "muster/tokenizer/bpe.h"
#include "muster/tokenizer/byte_bpe.h"
#include "muster/tokenizer/byte_level.h"
#include "muster/tokenizer/nfc.h"
#include "muster/tokenizer/pre_tokenizer.h"
#include "muster/tokenizer/utf8.h"
#include "muster/tokenizer/vocabulary.h"

namespace muster {
namespace {

using Kind = Vocabulary::Kind;

/// What ends a turn or a text in the published families, beside their eos.
constexpr std::array<std::string_view, 12> kEndings = {
    "<|eot_id|>",      "<|im_end|>", "<|end|>",         "<|endoftext|>",
    "<end_of_turn>",   "<|return|>", "<|call|>",        "<|eom_id|>",
    "<|end_of_text|>", "<|EOT|>",    "<|end_of_turn|>", "<｜end▁of▁sentence｜>"};

std::string bytes_of(const std::string& piece, TokenType type, Kind kind) {
    if (type == TokenType::unknown || type == TokenType::control) return {};
    if (kind == Kind::byte_level) {
        return type == TokenType::normal ? bytes_of_byte_level_piece(piece) : piece;
    }
    if (type != TokenType::byte) return with_spaces(piece);
    const auto byte = byte_of_piece(piece);
    return byte ? std::string(1, static_cast<char>(*byte)) : std::string();
}

std::vector<std::string> bytes_of(const Vocabulary& v) {
    std::vector<std::string> bytes;
    bytes.reserve(v.pieces.size());
    for (size_t id = 0; id < v.pieces.size(); ++id) {
        bytes.push_back(bytes_of(v.pieces[id], v.types[id], v.kind));
    }
    return bytes;
}

/// Buffers of one call of encode.
struct Scratch {
    explicit Scratch(size_t text_bytes) : words(text_bytes) {}
    ByteBpe::Scratch words;
    SplitRegex::Search search;
};

}  // namespace

struct Tokenizer::Impl {
    Vocabulary vocabulary;
    std::vector<std::string> bytes;  ///< of each token
    AddedTokens added;
    std::optional<BpeEncoder> scores;
    std::optional<ByteBpe> byte_bpe;
    std::optional<PreTokenizer> pre_tokenizer;
    std::vector<int32_t> endings;  ///< sorted

    explicit Impl(Vocabulary v)
        : vocabulary(std::move(v)), bytes(bytes_of(vocabulary)), added(vocabulary) {
        if (vocabulary.kind == Kind::scores) {
            scores.emplace(vocabulary);
        } else {
            byte_bpe.emplace(vocabulary, bytes);
            pre_tokenizer.emplace(vocabulary.splits, "tokenizer");
        }
        for (int32_t id = 0; id < vocabulary.size(); ++id) {
            const auto at = static_cast<size_t>(id);
            const bool control = vocabulary.types[at] == TokenType::control;
            if (id == vocabulary.eos || id == vocabulary.eot ||
                (control && std::find(kEndings.begin(), kEndings.end(), vocabulary.pieces[at]) !=
                                kEndings.end())) {
                endings.push_back(id);
            }
        }
    }

    const std::string& token(int32_t id) const {
        if (id < 0 || id >= vocabulary.size()) {
            throw Error("tokenizer", "token id " + std::to_string(id) +
                                         " is outside the vocabulary of " +
                                         std::to_string(vocabulary.size()));
        }
        return bytes[static_cast<size_t>(id)];
    }

    /// Text between added tokens, not empty.
    void encode_plain(std::string_view text, std::optional<Scratch>& scratch,
                      std::vector<int32_t>& ids) const {
        std::string owned;
        if (vocabulary.add_space_prefix && (scores || !text.starts_with(' '))) {
            owned.reserve(text.size() + 1);
            owned.append(1, ' ').append(text);
            text = owned;
        }
        if (scores) return scores->encode(text, ids);
        std::string valid;
        if (!is_valid_utf8(text)) text = valid = to_valid_utf8(text);
        std::string composed;
        if (vocabulary.nfc) text = composed = to_nfc(text);
        if (!scratch) scratch.emplace(text.size());
        pre_tokenizer->split(text, scratch->search, [&](std::string_view word) {
            byte_bpe->encode(word, scratch->words, ids);
        });
    }
};

Tokenizer::Tokenizer(Vocabulary vocabulary) : Tokenizer(std::move(vocabulary), "tokenizer") {}

Tokenizer::Tokenizer(Vocabulary vocabulary, std::string_view where) {
    check_vocabulary(vocabulary, where);
    impl_ = std::make_unique<Impl>(std::move(vocabulary));
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

const Vocabulary& Tokenizer::vocabulary() const noexcept { return impl_->vocabulary; }

std::vector<int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
    const Vocabulary& v = impl_->vocabulary;
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 3 + 8);
    if (options.add_special && v.add_bos && v.bos >= 0) ids.push_back(v.bos);
    std::optional<Scratch> scratch;
    const auto plain = [&](std::string_view part) {
        if (!part.empty()) impl_->encode_plain(part, scratch, ids);
    };
    // The encoder by scores finds user-defined pieces itself, as SentencePiece does.
    if (impl_->added.empty(options.parse_special) || (impl_->scores && !options.parse_special)) {
        plain(text);
        return ids;
    }
    size_t done = 0;
    for (AddedTokens::Match match; impl_->added.find(text, done, options.parse_special, match);) {
        plain(text.substr(done, match.begin - done));
        ids.push_back(match.id);
        done = match.end;
    }
    plain(text.substr(done));
    return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
    std::string text;
    for (const int32_t id : ids) text += impl_->token(id);
    if (impl_->vocabulary.add_space_prefix && text.starts_with(' ')) text.erase(0, 1);
    return text;
}

std::string Tokenizer::token_bytes(int32_t id) const { return impl_->token(id); }

bool Tokenizer::ends_text(int32_t id) const noexcept {
    return std::binary_search(impl_->endings.begin(), impl_->endings.end(), id);
}

}  // namespace muster
