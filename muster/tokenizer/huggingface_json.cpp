// SPDX-License-Identifier: Apache-2.0
// Hugging Face's tokenizer.json (github.com/huggingface/tokenizers) as a vocabulary.
#include <simdjson.h>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "muster/core/error.h"
#include "muster/core/json_fault.h"
#include "muster/tokenizer/piece_index.h"
#include "muster/tokenizer/pre_tokenizer.h"
#include "muster/tokenizer/tokenizer.h"
#include "muster/tokenizer/vocabulary.h"

namespace muster {
namespace {

using Json = nlohmann::json;

namespace dom = simdjson::dom;

constexpr size_t kMaxTokens = 4'000'000;
constexpr size_t kMaxGaps = 65'536;  ///< ids without a token
constexpr size_t kMaxDepth = 64;

/// The two long parts stay as simdjson has them; the others are small.
class Reader {
  public:
    Reader(const dom::object& json, std::string_view where) : where_(where) {
        json_ = Json::object();
        for (const auto& [key, value] : json) {
            if (key == "model") {
                read_model(value);
            } else if (key == "added_tokens" || key == "normalizer" || key == "pre_tokenizer" ||
                       key == "post_processor") {
                json_[std::string(key)] = small(value);
            }
        }
    }

    Vocabulary read() {
        const Json& model = member(json_, "model");
        const std::string type = model.value("type", "BPE");
        if (type != "BPE") fail("model.type is \"" + type + "\", expected \"BPE\"");
        read_pieces();
        read_added();
        for (size_t id = 0; id < v_.pieces.size(); ++id) {
            if (!v_.pieces[id].empty()) continue;
            v_.pieces[id] = "[PAD" + std::to_string(id) + "]";
            v_.types[id] = TokenType::unused;
        }
        v_.ignore_merges = truth(model, "ignore_merges");
        const bool pre = read_pre_tokenizer(part("pre_tokenizer"), 0);
        v_.kind = byte_level_ ? Vocabulary::Kind::byte_level : Vocabulary::Kind::scores;
        if (pre && !byte_level_ && !v_.splits.empty()) {
            fail("pre_tokenizer splits text without ByteLevel, which is not supported");
        }
        read_normalizer(part("normalizer"), 0);
        read_merges();
        if (!byte_level_) finish_scores(model);
        v_.add_bos = false;
        read_post_processor(part("post_processor"), 0);
        check_vocabulary(v_, where_);
        return std::move(v_);
    }

  private:
    [[noreturn]] void fail(const std::string& what) const { throw Error(where_, what); }

    static Json small(const dom::element& value) { return Json::parse(simdjson::minify(value)); }

    void read_model(const dom::element& model) {
        dom::object members;
        if (model.get(members) != simdjson::SUCCESS) fail("'model' is no object");
        Json& settings = json_["model"] = Json::object();
        for (const auto& [key, value] : members) {
            if (key == "vocab") {
                has_vocab_ = value.get(vocab_) == simdjson::SUCCESS;
            } else if (key == "merges") {
                has_merges_ = value.get(merges_) == simdjson::SUCCESS;
            } else {
                settings[std::string(key)] = small(value);
            }
        }
    }

    const Json& member(const Json& object, const char* key) const {
        const auto found = object.find(key);
        if (!object.is_object() || found == object.end()) {
            fail(std::string("'") + key + "' is missing");
        }
        return *found;
    }
    const Json* part(const char* key) const {
        const auto found = json_.find(key);
        return found == json_.end() || found->is_null() ? nullptr : &*found;
    }
    bool truth(const Json& object, const char* key, bool absent = false) const {
        const auto found = object.find(key);
        if (found == object.end() || found->is_null()) return absent;
        if (!found->is_boolean()) fail(std::string("'") + key + "' is neither true nor false");
        return found->get<bool>();
    }
    std::string text(const Json& object, const char* key) const {
        const Json& value = member(object, key);
        if (!value.is_string()) fail(std::string("'") + key + "' is no string");
        return value.get<std::string>();
    }
    std::string type_of(const Json& object, const char* part, int depth) const {
        if (!object.is_object()) fail(std::string(part) + " is no object");
        if (depth > 8) fail(std::string(part) + " is nested more than 8 deep");
        return text(object, "type");
    }
    const Json& list(const Json& object, const char* key) const {
        const Json& value = member(object, key);
        if (!value.is_array()) fail(std::string("'") + key + "' is no array");
        return value;
    }

    void put(std::string_view piece, uint64_t id, TokenType type) {
        if (id >= limit_) {
            fail("the id of token '" + std::string(piece.substr(0, 40)) +
                 "' is not a number below " + std::to_string(limit_));
        }
        const auto at = static_cast<size_t>(id);
        if (at >= v_.pieces.size()) {
            v_.pieces.resize(at + 1);
            v_.types.resize(at + 1, TokenType::normal);
        }
        if (!v_.pieces[at].empty() && v_.pieces[at] != piece) {
            fail("the id " + std::to_string(at) + " has two tokens");
        }
        if (piece.empty()) fail("token " + std::to_string(at) + " is empty");
        v_.pieces[at] = piece;
        v_.types[at] = type;
    }

    void read_pieces() {
        if (!has_vocab_) fail("model.vocab is missing or no object");
        const Json* added = part("added_tokens");
        const size_t tokens = vocab_.size() + (added == nullptr ? 0 : added->size());
        limit_ = std::min(tokens + kMaxGaps, kMaxTokens);
        v_.pieces.reserve(std::min(tokens, limit_));
        for (const auto& [piece, value] : vocab_) {
            uint64_t id = UINT64_MAX;
            if (value.get(id) != simdjson::SUCCESS) id = UINT64_MAX;
            put(piece, id, TokenType::normal);
        }
    }

    void read_added() {
        const Json* tokens = part("added_tokens");
        if (tokens == nullptr) return;
        if (!tokens->is_array()) fail("added_tokens is no array");
        for (const Json& token : *tokens) {
            const bool special = truth(token, "special");
            const Json& id = member(token, "id");
            put(text(token, "content"), id.is_number_unsigned() ? id.get<uint64_t>() : UINT64_MAX,
                special ? TokenType::control : TokenType::user_defined);
            const AddedTokenRule rule{id.get<int32_t>(), truth(token, "lstrip"),
                                      truth(token, "rstrip"), truth(token, "single_word")};
            if (rule.lstrip || rule.rstrip || rule.single_word) v_.added.push_back(rule);
        }
    }

    /// "left right" or ["left", "right"].
    std::pair<std::string_view, std::string_view> halves(const dom::element& merge) const {
        std::string_view both, left, right;
        if (merge.get(both) == simdjson::SUCCESS) {
            const size_t space = both.find(' ', 1);
            if (space == std::string_view::npos) fail("a merge has no space");
            return {both.substr(0, space), both.substr(space + 1)};
        }
        dom::array two;
        if (merge.get(two) != simdjson::SUCCESS || two.size() != 2 ||
            two.at(0).get(left) != simdjson::SUCCESS || two.at(1).get(right) != simdjson::SUCCESS) {
            fail("a merge is neither a string nor two");
        }
        return {left, right};
    }

    void read_merges() {
        if (!has_merges_) fail("model.merges is missing or no array");
        PieceIndex index(v_.pieces);
        for (int32_t id = 0; id < v_.size(); ++id) index.insert(id);
        v_.merges.reserve(merges_.size());
        std::string joined;
        for (const dom::element merge : merges_) {
            const auto [left, right] = halves(merge);
            joined.assign(left).append(right);
            const PieceMerge ids{index.find(left), index.find(right), index.find(joined)};
            if (ids.left < 0 || ids.right < 0 || ids.merged < 0) {
                fail("merge " + std::to_string(v_.merges.size()) +
                     " is not two tokens that together are one");
            }
            v_.merges.push_back(ids);
        }
    }

    /// A piece's score is the place of the first merge that makes it.
    void finish_scores(const Json& model) {
        v_.scores.assign(v_.pieces.size(), -static_cast<float>(v_.merges.size() + 1));
        for (size_t rank = v_.merges.size(); rank-- > 0;) {
            v_.scores[static_cast<size_t>(v_.merges[rank].merged)] = -static_cast<float>(rank);
        }
        v_.merges.clear();
        if (const auto unk = model.find("unk_token"); unk != model.end() && unk->is_string()) {
            const auto found =
                std::find(v_.pieces.begin(), v_.pieces.end(), unk->get_ref<const std::string&>());
            if (found == v_.pieces.end()) fail("model.unk_token is no token");
            v_.unk = static_cast<int32_t>(found - v_.pieces.begin());
            v_.types[static_cast<size_t>(v_.unk)] = TokenType::unknown;
        }
        if (!truth(model, "byte_fallback")) return;
        for (size_t id = 0; id < v_.pieces.size(); ++id) {
            if (byte_of_piece(v_.pieces[id])) v_.types[id] = TokenType::byte;
        }
    }

    void read_normalizer(const Json* json, int depth) {
        if (json == nullptr) return;
        const std::string type = type_of(*json, "normalizer", depth);
        if (type == "Sequence") {
            for (const Json& step : list(*json, "normalizers")) read_normalizer(&step, depth + 1);
        } else if (type == "NFC" && byte_level_) {
            v_.nfc = true;
        } else if (type == "Prepend" && !byte_level_ && text(*json, "prepend") == kSpacePiece) {
            v_.add_space_prefix = true;
        } else if (type != "Replace" || byte_level_ || text(*json, "content") != kSpacePiece ||
                   member(*json, "pattern") != Json{{"String", " "}}) {
            fail("the normalizer " + type + " is not supported with this model");
        }
    }

    bool read_pre_tokenizer(const Json* json, int depth) {
        if (json == nullptr) return false;
        const std::string type = type_of(*json, "pre_tokenizer", depth);
        if (type == "Sequence") {
            for (const Json& s : list(*json, "pretokenizers")) read_pre_tokenizer(&s, depth + 1);
        } else if (type == "ByteLevel") {
            byte_level_ = true;
            v_.add_space_prefix = truth(*json, "add_prefix_space", true);
            if (truth(*json, "use_regex", true)) {
                v_.splits.push_back({std::string(gpt2_pattern())});
            }
        } else if (type == "Digits") {
            v_.splits.push_back({truth(*json, "individual_digits") ? R"(\p{N})" : R"(\p{N}+)"});
        } else if (type == "Split") {
            read_split(*json);
        } else if (type == "Metaspace" && v_.splits.empty()) {
            read_metaspace(*json);
        } else {
            fail("the pre_tokenizer " + type + " is not supported here");
        }
        return true;
    }

    void read_metaspace(const Json& json) {
        if (text(json, "replacement") != kSpacePiece) {
            fail("the Metaspace replaces by something else than U+2581");
        }
        if (truth(json, "split", true) && json.contains("split")) {
            fail("a Metaspace that splits is not supported");
        }
        const std::string scheme = json.value("prepend_scheme", "always");
        v_.add_space_prefix = scheme != "never" && truth(json, "add_prefix_space", true);
    }

    void read_split(const Json& json) {
        const Json& pattern = member(json, "pattern");
        SplitRule rule;
        if (pattern.is_object() && pattern.contains("Regex")) {
            rule.pattern = text(pattern, "Regex");
        } else {
            for (const char c : text(pattern, "String")) {
                if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) {
                    rule.pattern += '\\';
                }
                rule.pattern += c;
            }
        }
        const std::string behavior = text(json, "behavior");
        const bool invert = truth(json, "invert");
        if (behavior == "Removed" && invert) {
            rule.keep = SplitRule::Keep::matches;
        } else if (behavior == "Contiguous" && !invert) {
            rule.pattern = "(?:" + rule.pattern + ")+";
        } else if (behavior != "Isolated") {
            fail("the behavior " + behavior + " of a Split is not supported");
        }
        v_.splits.push_back(std::move(rule));
    }

    void read_post_processor(const Json* json, int depth) {
        if (json == nullptr) return;
        const std::string type = type_of(*json, "post_processor", depth);
        if (type == "Sequence") {
            for (const Json& step : list(*json, "processors")) {
                read_post_processor(&step, depth + 1);
            }
        } else if (type == "TemplateProcessing") {
            bool before = true;
            for (const Json& item : list(*json, "single")) {
                if (!item.is_object()) fail("an item of a TemplateProcessing is no object");
                const auto special = item.find("SpecialToken");
                if (special == item.end()) {
                    before = false;
                    continue;
                }
                const auto found =
                    std::find(v_.pieces.begin(), v_.pieces.end(), text(*special, "id"));
                if (found == v_.pieces.end()) fail("post_processor adds an unknown token");
                const auto id = static_cast<int32_t>(found - v_.pieces.begin());
                (before ? v_.bos : v_.eos) = id;
                (before ? v_.add_bos : v_.add_eos) = true;
            }
        } else if (type != "ByteLevel") {
            fail("the post_processor " + type + " is not supported");
        }
    }

    Json json_;
    dom::object vocab_;
    dom::array merges_;
    bool has_vocab_ = false, has_merges_ = false;
    size_t limit_ = 0;  ///< of ids
    std::string where_;
    Vocabulary v_;
    bool byte_level_ = false;
};

}  // namespace

Vocabulary read_tokenizer_json(std::string_view json, std::string_view where) {
    if (json.starts_with("\xEF\xBB\xBF")) json.remove_prefix(3);
    dom::parser parser;
    dom::element root;
    dom::object object;
    auto error = parser.allocate(std::max<size_t>(json.size(), 64), kMaxDepth);
    if (error == simdjson::SUCCESS) error = parser.parse(json.data(), json.size()).get(root);
    if (error == simdjson::DEPTH_ERROR) {
        throw Error(where, "the JSON is nested more than 64 deep");
    }
    if (error != simdjson::SUCCESS) {
        throw Error(where, std::string("this is not JSON: ") + simdjson::error_message(error));
    }
    if (root.get(object) != simdjson::SUCCESS) throw Error(where, "this is not a JSON object");
    try {
        return Reader(object, where).read();
    } catch (const Json::exception& e) {
        throw Error(where, "a value has the wrong type: " + json_fault(e));
    }
}

}  // namespace muster
