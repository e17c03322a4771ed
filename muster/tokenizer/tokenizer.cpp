// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/tokenizer.h"

#include <utility>

#include "muster/core/error.h"
#include "muster/tokenizer/bpe.h"
#include "muster/tokenizer/vocabulary.h"

namespace muster {
namespace {

std::string bytes_of(const std::string& piece, TokenType type) {
    if (type == TokenType::unknown || type == TokenType::control) return {};
    if (type != TokenType::byte) return with_spaces(piece);
    const auto byte = byte_of_piece(piece);
    return byte ? std::string(1, static_cast<char>(*byte)) : std::string();
}

}  // namespace

struct Tokenizer::Impl {
    Vocabulary vocabulary;
    BpeEncoder encoder;
    std::vector<std::string> bytes;  ///< of each token

    explicit Impl(Vocabulary v) : vocabulary(std::move(v)), encoder(vocabulary) {
        bytes.reserve(vocabulary.pieces.size());
        for (size_t id = 0; id < vocabulary.pieces.size(); ++id) {
            bytes.push_back(bytes_of(vocabulary.pieces[id], vocabulary.types[id]));
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
};

Tokenizer::Tokenizer(Vocabulary vocabulary) {
    check_vocabulary(vocabulary, "tokenizer");
    impl_ = std::make_unique<Impl>(std::move(vocabulary));
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

const Vocabulary& Tokenizer::vocabulary() const noexcept { return impl_->vocabulary; }

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool special) const {
    const Vocabulary& v = impl_->vocabulary;
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 3 + 8);
    if (special && v.add_bos && v.bos >= 0) ids.push_back(v.bos);
    if (v.add_space_prefix && !text.empty()) {
        std::string prefixed;
        prefixed.reserve(text.size() + 1);
        prefixed.append(1, ' ').append(text);
        impl_->encoder.encode(prefixed, ids);
    } else {
        impl_->encoder.encode(text, ids);
    }
    return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
    std::string text;
    for (const int32_t id : ids) text += impl_->token(id);
    if (impl_->vocabulary.add_space_prefix && text.starts_with(' ')) text.erase(0, 1);
    return text;
}

std::string Tokenizer::token_bytes(int32_t id) const { return impl_->token(id); }

}  // namespace muster
