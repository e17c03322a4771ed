// SPDX-License-Identifier: Apache-2.0
// The vocabulary in a GGUF file's metadata: github.com/ggml-org/ggml docs/gguf.md, section
// "Tokenizer"; what absent keys mean follows llama.cpp. An add_eos_token is not heeded: text that
// the engine reads is there to be continued.
#include <algorithm>
#include <string>

#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/gguf_types.h"
#include "muster/core/error.h"
#include "muster/tokenizer/piece_index.h"
#include "muster/tokenizer/pre_tokenizer.h"
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
constexpr std::string_view kEot = "tokenizer.ggml.eot_token_id";
constexpr std::string_view kPad = "tokenizer.ggml.padding_token_id";
constexpr std::string_view kMerges = "tokenizer.ggml.merges";
constexpr std::string_view kSplits = "muster.tokenizer.split_patterns";
constexpr std::string_view kMatchesOnly = "muster.tokenizer.split_matches_only";
constexpr std::string_view kIgnoreMerges = "muster.tokenizer.ignore_merges";
constexpr std::string_view kNfc = "muster.tokenizer.nfc";
constexpr std::string_view kAdded = "muster.tokenizer.added_tokens";
constexpr std::string_view kOwnPre = "muster";  ///< rules that no name stands for
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

void read_pieces(const WeightMap& file, Vocabulary& v) {
    v.pieces = file.strings(kTokens);
    if (v.pieces.empty()) throw Error(file.name(), std::string(kTokens) + " is empty");
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
    v.eot = id_or_none(file, kEot, v.pieces.size());
    v.pad = id_or_none(file, kPad, v.pieces.size());
    v.add_eos = flag(file, kAddEos, false);
}

/// [id, lstrip + 2 rstrip + 4 single_word] of each.
void read_added(const WeightMap& file, Vocabulary& v) {
    if (!file.has(kAdded)) return;
    const std::vector<int64_t> values = file.integers(kAdded);
    for (size_t i = 0; i + 1 < values.size(); i += 2) {
        const int64_t id = values[i], flags = values[i + 1];
        if (id < 0 || id >= v.size() || flags < 0 || flags > 7) {
            throw Error(file.name(), std::string(kAdded) + " has the values " + std::to_string(id) +
                                         ", " + std::to_string(flags) +
                                         ", expected a token and flags from 0 to 7");
        }
        v.added.push_back(
            {static_cast<int32_t>(id), (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0});
    }
}

/// Merges are pairs of pieces with a space between.
void read_merges(const WeightMap& file, Vocabulary& v) {
    PieceIndex index(v.pieces);
    for (int32_t id = 0; id < v.size(); ++id) index.insert(id);
    const std::vector<std::string>& merges = file.strings(kMerges);
    v.merges.reserve(merges.size());
    std::string joined;
    for (size_t i = 0; i < merges.size(); ++i) {
        const std::string_view merge = merges[i];
        const size_t space = merge.find(' ', 1);
        PieceMerge ids{-1, -1, -1};
        if (space != std::string_view::npos) {
            const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
            joined.assign(left).append(right);
            ids = {index.find(left), index.find(right), index.find(joined)};
        }
        if (ids.left < 0 || ids.right < 0 || ids.merged < 0) {
            throw Error(file.name(), std::string(kMerges) + ": entry " + std::to_string(i) +
                                         " is not two tokens that together are one");
        }
        v.merges.push_back(ids);
    }
}

Vocabulary read_byte_level(const WeightMap& file) {
    Vocabulary v;
    v.kind = Vocabulary::Kind::byte_level;
    read_pieces(file, v);
    read_merges(file, v);
    const std::string pre = file.has(kPre) ? file.string(kPre) : "default";
    v.add_bos = false;
    if (pre == kOwnPre) {
        const std::vector<std::string>& patterns = file.strings(kSplits);
        const std::vector<int64_t> only = file.integers(kMatchesOnly);
        check_length(file, kMatchesOnly, only.size(), patterns.size());
        for (size_t i = 0; i < patterns.size(); ++i) {
            v.splits.push_back(
                {patterns[i], only[i] != 0 ? SplitRule::Keep::matches : SplitRule::Keep::all});
        }
    } else if (const NamedSplit* named = named_split(pre)) {
        v.splits = rules_of(*named);
        v.ignore_merges = named->ignore_merges;
        v.add_bos = named->add_bos;
        v.nfc = named->nfc;
    } else {
        throw Error(file.name(),
                    std::string(kPre) + " is \"" + pre + "\", expected one of " + split_names());
    }
    v.ignore_merges = flag(file, kIgnoreMerges, v.ignore_merges);
    v.nfc = flag(file, kNfc, v.nfc);
    v.add_bos = flag(file, kAddBos, v.add_bos);
    v.add_space_prefix = flag(file, kAddSpace, false);
    return v;
}

Vocabulary read_scored(const WeightMap& file) {
    Vocabulary v;
    read_pieces(file, v);
    for (const double score : file.reals(kScores)) v.scores.push_back(static_cast<float>(score));
    check_length(file, kScores, v.scores.size(), v.pieces.size());
    if (v.unk < 0) {
        const auto found = std::find(v.types.begin(), v.types.end(), TokenType::unknown);
        if (found != v.types.end()) v.unk = static_cast<int32_t>(found - v.types.begin());
    }
    v.add_bos = flag(file, kAddBos, true);
    v.add_space_prefix = flag(file, kAddSpace, true);
    return v;
}

/// Sets keys in a map in the types that GGUF has for them, and remembers their order.
class Keys {
  public:
    explicit Keys(WeightMap& into) : into_(into) {}

    void text(std::string_view key, std::string_view value) {
        set(key, std::string(value), gguf::ValueType::string);
    }
    void id(std::string_view key, int32_t value) {
        if (value >= 0) set(key, static_cast<uint64_t>(value), gguf::ValueType::u32);
    }
    void flag(std::string_view key, bool value) { set(key, value, gguf::ValueType::boolean); }
    void strings(std::string_view key, std::vector<std::string> values) {
        set(key, MetadataArray(std::move(values)), gguf::ValueType::string);
    }
    void reals(std::string_view key, const std::vector<float>& values) {
        set(key, MetadataArray(std::vector<double>(values.begin(), values.end())),
            gguf::ValueType::f32);
    }
    void integers(std::string_view key, std::vector<int64_t> values) {
        set(key, MetadataArray(std::move(values)), gguf::ValueType::i32);
    }
    const std::vector<std::string>& order() const noexcept { return order_; }

  private:
    void set(std::string_view key, MetadataValue value, gguf::ValueType type) {
        into_.set(std::string(key), std::move(value), static_cast<uint32_t>(type));
        order_.emplace_back(key);
    }
    WeightMap& into_;
    std::vector<std::string> order_;
};

void store_byte_level(const Vocabulary& v, Keys& keys) {
    const std::string_view name = name_of_rules(v.splits, v.ignore_merges, v.nfc);
    keys.text(kPre, name.empty() ? kOwnPre : name);
    const NamedSplit* named = named_split(name);
    if (named == nullptr) {
        std::vector<std::string> patterns;
        std::vector<int64_t> only;
        for (const SplitRule& rule : v.splits) {
            patterns.push_back(rule.pattern);
            only.push_back(rule.keep == SplitRule::Keep::matches);
        }
        keys.strings(kSplits, std::move(patterns));
        keys.integers(kMatchesOnly, std::move(only));
    }
    if (v.ignore_merges != (named != nullptr && named->ignore_merges)) {
        keys.flag(kIgnoreMerges, v.ignore_merges);
    }
    if (v.nfc != (named != nullptr && named->nfc)) keys.flag(kNfc, v.nfc);
    std::vector<std::string> merges;
    merges.reserve(v.merges.size());
    for (const PieceMerge& merge : v.merges) {
        merges.push_back(v.pieces[static_cast<size_t>(merge.left)] + ' ' +
                         v.pieces[static_cast<size_t>(merge.right)]);
    }
    keys.strings(kMerges, std::move(merges));
}

std::vector<std::string> store(const Vocabulary& v, WeightMap& into) {
    Keys keys(into);
    const bool scored = v.kind == Vocabulary::Kind::scores;
    keys.text(kModel, scored ? "llama" : "gpt2");
    if (scored) keys.text(kPre, "default");
    keys.strings(kTokens, v.pieces);
    if (scored) keys.reals(kScores, v.scores);
    std::vector<int64_t> types;
    types.reserve(v.types.size());
    for (const TokenType type : v.types) types.push_back(static_cast<int64_t>(type));
    keys.integers(kTypes, std::move(types));
    if (!scored) store_byte_level(v, keys);
    std::vector<int64_t> added;
    for (const AddedTokenRule& rule : v.added) {
        added.push_back(rule.id);
        added.push_back(int{rule.lstrip} + 2 * int{rule.rstrip} + 4 * int{rule.single_word});
    }
    if (!added.empty()) keys.integers(kAdded, std::move(added));
    keys.id(kBos, v.bos);
    keys.id(kEos, v.eos);
    keys.id(kUnk, v.unk);
    keys.id(kEot, v.eot);
    keys.id(kPad, v.pad);
    keys.flag(kAddBos, v.add_bos);
    keys.flag(kAddEos, v.add_eos);
    keys.flag(kAddSpace, v.add_space_prefix);
    return keys.order();
}

}  // namespace

Tokenizer Tokenizer::from_gguf(const WeightMap& file) {
    const std::string& model = file.string(kModel);
    if (model != "llama" && model != "gpt2") {
        throw Error(file.name(),
                    std::string(kModel) + " is \"" + model + "\", expected \"llama\" or \"gpt2\"");
    }
    Vocabulary v = model == "llama" ? read_scored(file) : read_byte_level(file);
    read_added(file, v);
    return {std::move(v), file.name() + ": " + std::string(kTokens)};
}

void store_vocabulary(const Vocabulary& vocabulary, WeightMap& into) {
    check_vocabulary(vocabulary, "store_vocabulary");
    (void)store(vocabulary, into);
}

void write_vocabulary(const Vocabulary& vocabulary, GgufWriter& writer) {
    check_vocabulary(vocabulary, "write_vocabulary");
    WeightMap map("vocabulary");
    for (const std::string& key : store(vocabulary, map)) writer.copy(map, key);
}

}  // namespace muster
