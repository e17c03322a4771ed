// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace muster {

class GgufFile;
class GgufWriter;

/// GGUF's token types (tokenizer.ggml.token_type).
enum class TokenType : int32_t {
    normal = 1,
    unknown = 2,
    control = 3,
    user_defined = 4,
    unused = 5,
    byte = 6
};

/// Everything that defines a SentencePiece-style vocabulary; also what GGUF stores.
struct Vocabulary {
    std::vector<std::string> pieces;  ///< U+2581 stands for a space
    std::vector<float> scores;
    std::vector<TokenType> types;
    int32_t bos = -1, eos = -1, unk = -1;  ///< -1: none
    bool add_space_prefix = false;
    bool add_bos = true;  ///< encode() puts bos in front when asked to add special tokens

    int size() const noexcept { return static_cast<int>(pieces.size()); }
};

/// Text <-> token ids. Immutable, safe to use from several threads.
class Tokenizer {
  public:
    /// From a vocabulary (BPE by scores, byte fallback). Throws Error when it cannot work (sizes
    /// differ, empty or repeated pieces, ids out of range).
    explicit Tokenizer(Vocabulary vocabulary);
    /// From the bytes of a SentencePiece model file. Throws Error.
    static Tokenizer from_sentencepiece(std::string_view model_bytes);
    /// From tokenizer.ggml.* of a GGUF file (model `llama`). Throws Error naming the key.
    static Tokenizer from_gguf(const GgufFile& file);
    ~Tokenizer();
    Tokenizer(Tokenizer&&) noexcept;
    Tokenizer& operator=(Tokenizer&&) noexcept;

    const Vocabulary& vocabulary() const noexcept;
    int vocab_size() const noexcept { return vocabulary().size(); }

    /// Any bytes are accepted; invalid UTF-8 becomes U+FFFD per maximal subpart. `special`: put bos
    /// in front when the vocabulary says so. Text that looks like a control token stays text.
    std::vector<int32_t> encode(std::string_view text, bool special = true) const;
    /// Control tokens give nothing. Bytes that are no UTF-8 come out as they are.
    std::string decode(std::span<const int32_t> ids) const;
    /// The bytes of one token as they stand in running text (a lone byte may be part of a
    /// character).
    std::string token_bytes(int32_t id) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Writes tokenizer.ggml.* keys.
void write_vocabulary(const Vocabulary& vocabulary, GgufWriter& writer);

/// The Hugging Face tokenizer.json of the same tokeniser (model BPE with byte_fallback; merges from
/// scores).
std::string to_tokenizer_json(const Vocabulary& vocabulary);

/// The bytes of a SentencePiece model file (ModelProto) of a vocabulary: identity normalisation,
/// white space kept.
std::string to_sentencepiece(const Vocabulary& vocabulary);

}  // namespace muster
