// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace muster {

class WeightMap;
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

/// One step of cutting text into words between which nothing merges.
struct SplitRule {
    enum class Keep { all, matches };
    std::string pattern;    ///< a regular expression as Hugging Face's tokenizers write it
    Keep keep = Keep::all;  ///< whether what lies between its matches is kept, too
};

/// An entry of an ordered list of merges: pieces' ids.
struct PieceMerge {
    int32_t left, right, merged;
};

/// Everything that defines a SentencePiece-style vocabulary; also what GGUF stores.
struct Vocabulary {
    std::vector<std::string> pieces;  ///< U+2581 stands for a space
    std::vector<float> scores;
    std::vector<TokenType> types;
    std::vector<PieceMerge> merges;        ///< for byte-level BPE (ByteBpe), first to last
    bool ignore_merges = false;            ///< ByteBpe: a word that is a piece is that piece
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
    /// From the bytes of a SentencePiece model file (untrusted). Throws Error, also for models that
    /// are not BPE, rewrite characters or drop white space.
    static Tokenizer from_sentencepiece(std::string_view model_bytes);
    /// From tokenizer.ggml.* of a GGUF file (model `llama`). Throws Error naming the key.
    static Tokenizer from_gguf(const WeightMap& file);
    ~Tokenizer();
    Tokenizer(Tokenizer&&) noexcept;
    Tokenizer& operator=(Tokenizer&&) noexcept;

    const Vocabulary& vocabulary() const noexcept;
    int vocab_size() const noexcept { return vocabulary().size(); }

    /// Any bytes are accepted; invalid UTF-8 becomes U+FFFD per maximal subpart. `special`: put bos
    /// in front when the vocabulary says so. Text that looks like a control token stays text. With
    /// byte fallback decode(encode(text)) is the text for any valid UTF-8: a U+2581 in it, which
    /// other programs read as a space, becomes its bytes. Otherwise the ids are libsentencepiece's.
    std::vector<int32_t> encode(std::string_view text, bool special = true) const;
    /// Control and unknown tokens give nothing. Bytes that are no UTF-8 come out as they are.
    /// Throws Error on an id outside the vocabulary.
    std::string decode(std::span<const int32_t> ids) const;
    /// The bytes of one token as they stand in running text (a lone byte may be part of a
    /// character). Throws Error on an id outside the vocabulary.
    std::string token_bytes(int32_t id) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Writes tokenizer.ggml.* keys. Throws Error as the constructor of Tokenizer does.
void write_vocabulary(const Vocabulary& vocabulary, GgufWriter& writer);

/// The Hugging Face tokenizer.json of the same tokeniser (model BPE with byte_fallback; merges from
/// scores). The same ids where no two pieces have one score, but for two habits of that library: it
/// reads added tokens in text, and U+2581 as a space. Needs tokenizers 0.20 or later; beside it,
/// tokenizer_config.json should say `"clean_up_tokenization_spaces": false`. Throws Error as the
/// constructor of Tokenizer does.
std::string to_tokenizer_json(const Vocabulary& vocabulary);

/// The bytes of a SentencePiece model file (ModelProto) of a vocabulary: identity normalisation,
/// white space kept. The file has no place for add_bos. Throws Error as the constructor of
/// Tokenizer does, and when there is no unknown token, which SentencePiece needs.
std::string to_sentencepiece(const Vocabulary& vocabulary);

}  // namespace muster
