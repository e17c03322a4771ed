// SPDX-License-Identifier: Apache-2.0
// SentencePiece's model file: the protobuf message ModelProto of sentencepiece_model.proto
// (github.com/google/sentencepiece), read and written field by field.
#include <algorithm>
#include <optional>

#include "muster/core/error.h"
#include "muster/tokenizer/protobuf_wire.h"
#include "muster/tokenizer/tokenizer.h"
#include "muster/tokenizer/vocabulary.h"

namespace muster {
namespace {

constexpr std::string_view kWhere = "tokenizer.model";
constexpr int64_t kModelBpe = 2;

/// Numbers of the fields that matter here.
namespace model {
enum : uint32_t { pieces = 1, trainer = 2, normalizer = 3, denormalizer = 5 };
}
namespace piece {
enum : uint32_t { text = 1, score = 2, type = 3 };
}
namespace trainer {
enum : uint32_t {
    model_type = 3,
    vocab_size = 4,
    space_as_suffix = 24,
    byte_fallback = 35,
    unk_id = 40,
    bos_id = 41,
    eos_id = 42,
    pad_id = 43,
    unk_piece = 45,
    bos_piece = 46,
    eos_piece = 47
};
}
namespace normalizer {
enum : uint32_t { name = 1, charsmap = 2, add_dummy_prefix = 3, remove_spaces = 4, escape = 5 };
}

/// What the trainer's and the normaliser's settings say, with the defaults of the format.
struct Settings {
    int64_t model_type = 1;
    int64_t bos_id = 1;
    int64_t eos_id = 2;
    std::string bos_piece = "<s>";
    std::string eos_piece = "</s>";
    bool byte_fallback = false;
    bool space_as_suffix = false;
    std::string name;
    bool charsmap = false;
    bool add_dummy_prefix = true;
    bool remove_spaces = true;
    bool escape = true;
};

void read_piece(std::string_view bytes, Vocabulary& v) {
    WireReader reader(bytes, kWhere);
    std::string text;
    float score = 0;
    int64_t type = 1;
    while (reader.next()) {
        switch (reader.field()) {
            case piece::text:
                text = reader.bytes();
                break;
            case piece::score:
                score = reader.real();
                break;
            case piece::type:
                type = reader.integer();
                break;
            default:
                break;
        }
    }
    if (type < 1 || type > 6) {
        throw Error(kWhere, "the type of piece " + std::to_string(v.pieces.size()) + " is " +
                                std::to_string(type) + ", expected 1 to 6");
    }
    v.pieces.push_back(std::move(text));
    v.scores.push_back(score);
    v.types.push_back(static_cast<TokenType>(type));
}

void read_trainer(std::string_view bytes, Settings& settings) {
    WireReader reader(bytes, kWhere);
    while (reader.next()) {
        switch (reader.field()) {
            case trainer::model_type:
                settings.model_type = reader.integer();
                break;
            case trainer::byte_fallback:
                settings.byte_fallback = reader.boolean();
                break;
            case trainer::space_as_suffix:
                settings.space_as_suffix = reader.boolean();
                break;
            case trainer::bos_id:
                settings.bos_id = reader.integer();
                break;
            case trainer::eos_id:
                settings.eos_id = reader.integer();
                break;
            case trainer::bos_piece:
                settings.bos_piece = reader.bytes();
                break;
            case trainer::eos_piece:
                settings.eos_piece = reader.bytes();
                break;
            default:
                break;
        }
    }
}

void read_normalizer(std::string_view bytes, Settings& settings) {
    WireReader reader(bytes, kWhere);
    while (reader.next()) {
        switch (reader.field()) {
            case normalizer::name:
                settings.name = reader.bytes();
                break;
            case normalizer::charsmap:
                settings.charsmap = !reader.bytes().empty();
                break;
            case normalizer::add_dummy_prefix:
                settings.add_dummy_prefix = reader.boolean();
                break;
            case normalizer::remove_spaces:
                settings.remove_spaces = reader.boolean();
                break;
            case normalizer::escape:
                settings.escape = reader.boolean();
                break;
            default:
                break;
        }
    }
}

void check_settings(const Settings& settings) {
    if (settings.model_type != kModelBpe) {
        throw Error(kWhere,
                    "model_type is " + std::to_string(settings.model_type) + ", expected 2 (BPE)");
    }
    if (settings.charsmap) {
        throw Error(kWhere, "the normaliser \"" + settings.name +
                                "\" rewrites characters (precompiled_charsmap), expected identity");
    }
    if (settings.remove_spaces) {
        throw Error(kWhere, "remove_extra_whitespaces is true, expected false");
    }
    if (!settings.escape) throw Error(kWhere, "escape_whitespaces is false, expected true");
    if (settings.space_as_suffix) {
        throw Error(kWhere, "treat_whitespace_as_suffix is true, expected false");
    }
}

/// As SentencePiece has it, the special pieces are found by their spelling; an id of -1 means none.
int32_t special_id(const Vocabulary& v, int64_t id, const std::string& spelling) {
    if (id < 0) return -1;
    const auto found = std::find(v.pieces.begin(), v.pieces.end(), spelling);
    return found == v.pieces.end() ? -1 : static_cast<int32_t>(found - v.pieces.begin());
}

std::string trainer_message(const Vocabulary& v) {
    WireWriter writer;
    const auto id = [&](uint32_t field, uint32_t piece_field, int32_t value) {
        writer.integer(field, value);
        if (value >= 0) writer.bytes(piece_field, v.pieces[static_cast<size_t>(value)]);
    };
    writer.integer(trainer::model_type, kModelBpe);
    writer.integer(trainer::vocab_size, v.size());
    writer.integer(trainer::byte_fallback, has_byte_fallback(v));
    id(trainer::unk_id, trainer::unk_piece, v.unk);
    id(trainer::bos_id, trainer::bos_piece, v.bos);
    id(trainer::eos_id, trainer::eos_piece, v.eos);
    writer.integer(trainer::pad_id, -1);
    return writer.message();
}

std::string normalizer_message(const Vocabulary& v) {
    WireWriter writer;
    writer.bytes(normalizer::name, "identity");
    writer.integer(normalizer::add_dummy_prefix, v.add_space_prefix);
    writer.integer(normalizer::remove_spaces, 0);
    writer.integer(normalizer::escape, 1);
    return writer.message();
}

}  // namespace

Tokenizer Tokenizer::from_sentencepiece(std::string_view model_bytes) {
    Vocabulary v;
    Settings settings;
    Settings backwards;
    WireReader reader(model_bytes, kWhere);
    while (reader.next()) {
        switch (reader.field()) {
            case model::pieces:
                read_piece(reader.bytes(), v);
                break;
            case model::trainer:
                read_trainer(reader.bytes(), settings);
                break;
            case model::normalizer:
                read_normalizer(reader.bytes(), settings);
                break;
            case model::denormalizer:
                read_normalizer(reader.bytes(), backwards);
                break;
            default:
                break;
        }
    }
    if (v.pieces.empty()) throw Error(kWhere, "there are no pieces: not a SentencePiece model");
    check_settings(settings);
    if (backwards.charsmap) {
        throw Error(kWhere, "the denormaliser \"" + backwards.name +
                                "\" rewrites characters (precompiled_charsmap), expected none");
    }
    if (settings.byte_fallback != has_byte_fallback(v)) {
        throw Error(kWhere, "byte_fallback and the presence of byte pieces contradict each other");
    }
    v.add_space_prefix = settings.add_dummy_prefix;
    const auto unk = std::find(v.types.begin(), v.types.end(), TokenType::unknown);
    v.unk = unk == v.types.end() ? -1 : static_cast<int32_t>(unk - v.types.begin());
    v.bos = special_id(v, settings.bos_id, settings.bos_piece);
    v.eos = special_id(v, settings.eos_id, settings.eos_piece);
    check_vocabulary(v, kWhere);
    return Tokenizer(std::move(v));
}

std::string to_sentencepiece(const Vocabulary& vocabulary) {
    check_vocabulary(vocabulary, "to_sentencepiece");
    need_scores(vocabulary, "to_sentencepiece");
    if (vocabulary.unk < 0 ||
        vocabulary.types[static_cast<size_t>(vocabulary.unk)] != TokenType::unknown) {
        throw Error("to_sentencepiece", "there is no unknown token, which SentencePiece needs");
    }
    WireWriter writer;
    for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
        WireWriter entry;
        entry.bytes(piece::text, vocabulary.pieces[i]);
        entry.real(piece::score, vocabulary.scores[i]);
        entry.integer(piece::type, static_cast<int64_t>(vocabulary.types[i]));
        writer.bytes(model::pieces, entry.message());
    }
    writer.bytes(model::trainer, trainer_message(vocabulary));
    writer.bytes(model::normalizer, normalizer_message(vocabulary));
    return writer.message();
}

}  // namespace muster
