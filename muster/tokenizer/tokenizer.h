// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
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

/// How an added token is found in text, where that is more than its text alone
/// (tokenizer.json: added_tokens).
struct AddedTokenRule {
    int32_t id = -1;
    bool lstrip = false, rstrip = false;  ///< it takes the white space on that side
    bool single_word = false;             ///< not inside a word
};

/// Everything that defines a tokeniser; also what GGUF stores (model `llama` or `gpt2`).
struct Vocabulary {
    enum class Kind {
        scores,     ///< SentencePiece-style BPE by scores; U+2581 stands for a space in pieces
        byte_level  ///< BPE of bytes by an ordered list of merges, in words; see byte_level.h
    };
    Kind kind = Kind::scores;
    std::vector<std::string> pieces;  ///< control and user-defined ones: as they stand in text
    std::vector<float> scores;        ///< byte_level: none
    std::vector<TokenType> types;
    std::vector<PieceMerge> merges;     ///< byte_level: first to last
    std::vector<SplitRule> splits;      ///< byte_level: how text is cut into words
    bool ignore_merges = false;         ///< byte_level: a word that is a piece is that piece
    bool nfc = false;                   ///< byte_level: text is brought to Unicode's form C first
    std::vector<AddedTokenRule> added;  ///< of control and user-defined pieces, where any holds
    int32_t bos = -1, eos = -1, unk = -1, eot = -1, pad = -1;  ///< -1: none
    bool add_space_prefix = false;
    bool add_bos = true;   ///< encode() puts bos in front when asked to add special tokens
    bool add_eos = false;  ///< kept for other programs: text that is read is there to be continued

    int size() const noexcept { return static_cast<int>(pieces.size()); }
};

struct EncodeOptions {
    bool add_special = true;  ///< bos in front, where the vocabulary says so
    /// Control tokens that stand in the text are these tokens, as rendered chat templates need it;
    /// otherwise such text stays text. User-defined tokens are always found.
    bool parse_special = false;
};

/// Text <-> token ids. Immutable, safe to use from several threads.
class Tokenizer {
  public:
    /// From a vocabulary. Throws Error when it cannot work (sizes
    /// differ, empty or repeated pieces, ids out of range).
    explicit Tokenizer(Vocabulary vocabulary);
    /// From the bytes of a SentencePiece model file (untrusted). Throws Error, also for models that
    /// are not BPE, rewrite characters or drop white space.
    static Tokenizer from_sentencepiece(std::string_view model_bytes);
    /// From tokenizer.ggml.* of a checkpoint (models `llama` and `gpt2`; what absent keys mean
    /// follows llama.cpp). Throws Error naming the key; for an unknown tokenizer.ggml.pre with the
    /// names that are known.
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
    std::vector<int32_t> encode(std::string_view text, bool special = true) const {
        return encode(text, EncodeOptions{special, false});
    }
    /// Of several control and user-defined tokens that begin in one place the longest is taken.
    /// Throws Error when a pattern of the pre-tokeniser exceeds its limits on this text.
    std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const;
    /// Control and unknown tokens give nothing. Bytes that are no UTF-8 come out as they are.
    /// Throws Error on an id outside the vocabulary.
    std::string decode(std::span<const int32_t> ids) const;
    /// The bytes of one token as they stand in running text (a lone byte may be part of a
    /// character). Throws Error on an id outside the vocabulary.
    std::string token_bytes(int32_t id) const;
    /// Whether an answer ends with this token: eos, eot, or a control token that ends turns or
    /// texts in a published family (`<|im_end|>`, `<|eot_id|>`, `<|return|>` ...).
    bool ends_text(int32_t id) const noexcept;

  private:
    Tokenizer(Vocabulary vocabulary, std::string_view where);

    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Writes tokenizer.ggml.* keys, and muster.tokenizer.* for what those cannot say
/// (docs/file-formats.md). Throws Error as the constructor of Tokenizer does.
void write_vocabulary(const Vocabulary& vocabulary, GgufWriter& writer);
/// The same keys in a map that has none of them.
void store_vocabulary(const Vocabulary& vocabulary, WeightMap& into);

/// From the text of a Hugging Face tokenizer.json (untrusted). Throws Error, under `where`, naming
/// the part that is damaged or not supported.
Vocabulary read_tokenizer_json(std::string_view json, std::string_view where);

/// Reads tokenizer.json of a Hugging Face directory (untrusted), and what tokenizer_config.json,
/// special_tokens_map.json, chat_template.jinja and chat_template.json
/// beside it say, into tokenizer.ggml.*, tokenizer.chat_template* and muster.tokenizer.* keys:
/// Tokenizer::from_gguf(into) and chat_templates_of(into) then work. The vocabulary is filled up
/// to `rows` (of the embedding) with unused tokens. Throws Error naming file and part.
void read_huggingface_tokenizer(const std::filesystem::path& directory, WeightMap& into,
                                int64_t rows = 0);

/// The Hugging Face tokenizer.json of the same tokeniser: model BPE, byte-level ones with their
/// merges and split rules, others with byte_fallback and merges from scores. The same ids where no
/// two pieces have one score, but for two habits of that library: it reads added tokens in text,
/// and U+2581 as a space. Needs tokenizers 0.20 or later; beside it, tokenizer_config.json should
/// say `"clean_up_tokenization_spaces": false`. Throws Error as the constructor of Tokenizer does,
/// and for a byte-level vocabulary with both a space in front and other split rules than GPT-2's.
std::string to_tokenizer_json(const Vocabulary& vocabulary);

/// The bytes of a SentencePiece model file (ModelProto) of a vocabulary: identity normalisation,
/// white space kept. The file has no place for add_bos. Throws Error as the constructor of
/// Tokenizer does, and when there is no unknown token, which SentencePiece needs.
std::string to_sentencepiece(const Vocabulary& vocabulary);

}  // namespace muster
