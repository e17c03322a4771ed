// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/vocabulary.h"

#include <algorithm>
#include <bitset>
#include <climits>
#include <cmath>

#include "muster/core/error.h"
#include "muster/tokenizer/piece_index.h"
#include "muster/tokenizer/utf8.h"

namespace muster {
namespace {

constexpr std::string_view kHex = "0123456789ABCDEF";

std::string piece_name(size_t id) { return "piece " + std::to_string(id); }

void check_sizes(const Vocabulary& v, std::string_view where) {
    if (v.pieces.empty()) throw Error(where, "the vocabulary is empty");
    if (v.pieces.size() > INT_MAX / 2) throw Error(where, "the vocabulary is too large");
    const bool scored = v.kind == Vocabulary::Kind::scores;
    if (v.scores.size() != (scored ? v.pieces.size() : 0) || v.types.size() != v.pieces.size()) {
        throw Error(where, std::to_string(v.pieces.size()) + " pieces have " +
                               std::to_string(v.scores.size()) + " scores and " +
                               std::to_string(v.types.size()) + " types, expected as many" +
                               (scored ? "" : " types and no scores"));
    }
}

void check_pieces(const Vocabulary& v, std::string_view where) {
    PieceIndex seen(v.pieces);
    for (size_t id = 0; id < v.pieces.size(); ++id) {
        const std::string& piece = v.pieces[id];
        if (piece.empty()) throw Error(where, piece_name(id) + " is empty");
        if (piece.size() > kMaxPieceBytes) {
            throw Error(where, piece_name(id) + " has " + std::to_string(piece.size()) +
                                   " bytes, expected at most " + std::to_string(kMaxPieceBytes));
        }
        if (!is_valid_utf8(piece)) throw Error(where, piece_name(id) + " is not valid UTF-8");
        if (seen.insert(static_cast<int32_t>(id)) != static_cast<int32_t>(id)) {
            throw Error(where, piece_name(id) + " (" + piece + ") is repeated");
        }
        if (!v.scores.empty() && !std::isfinite(v.scores[id])) {
            throw Error(where, "the score of " + piece_name(id) + " is not a finite number");
        }
        if (v.types[id] < TokenType::normal || v.types[id] > TokenType::byte) {
            throw Error(where, "the type of " + piece_name(id) + " is unknown");
        }
    }
}

void check_bytes(const Vocabulary& v, std::string_view where) {
    std::bitset<256> bytes;
    for (size_t id = 0; id < v.pieces.size(); ++id) {
        if (v.types[id] != TokenType::byte) continue;
        const auto byte = byte_of_piece(v.pieces[id]);
        if (!byte) {
            throw Error(where, "byte " + piece_name(id) + " is " + v.pieces[id] +
                                   ", expected <0x00> to <0xFF>");
        }
        bytes.set(*byte);
    }
    if (bytes.any() && !bytes.all()) {
        throw Error(where, "there are " + std::to_string(bytes.count()) +
                               " byte pieces, expected 256 or none");
    }
    if (bytes.none() && v.unk < 0) {
        throw Error(where, "there are neither byte pieces nor an unknown token");
    }
}

void check_id(int32_t id, std::string_view name, const Vocabulary& v, std::string_view where) {
    if (id < -1 || id >= v.size()) {
        throw Error(where, "the id of " + std::string(name) + " is " + std::to_string(id) +
                               ", expected -1 or less than " + std::to_string(v.size()));
    }
}

}  // namespace

std::optional<uint8_t> byte_of_piece(std::string_view piece) noexcept {
    if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
    const size_t high = kHex.find(piece[3]);
    const size_t low = kHex.find(piece[4]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    return static_cast<uint8_t>(high << 4 | low);
}

std::string byte_piece(uint8_t byte) {
    return std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + '>';
}

std::string with_spaces(std::string_view piece) {
    std::string text;
    for (size_t at; (at = piece.find(kSpacePiece)) != std::string_view::npos;) {
        text.append(piece.substr(0, at));
        text += ' ';
        piece.remove_prefix(at + kSpacePiece.size());
    }
    return text.append(piece);
}

void check_vocabulary(const Vocabulary& vocabulary, std::string_view where) {
    check_sizes(vocabulary, where);
    check_pieces(vocabulary, where);
    check_id(vocabulary.bos, "bos", vocabulary, where);
    check_id(vocabulary.eos, "eos", vocabulary, where);
    check_id(vocabulary.unk, "unk", vocabulary, where);
    check_id(vocabulary.eot, "eot", vocabulary, where);
    check_id(vocabulary.pad, "pad", vocabulary, where);
    for (const AddedTokenRule& rule : vocabulary.added) {
        if (rule.id < 0) throw Error(where, "a rule of an added token has no id");
        check_id(rule.id, "an added token", vocabulary, where);
    }
    if (vocabulary.kind == Vocabulary::Kind::scores) return check_bytes(vocabulary, where);
    for (const auto& [left, right, merged] : vocabulary.merges) {
        for (const int32_t id : {left, right, merged}) {
            if (id < 0) throw Error(where, "a merge has a piece without an id");
            check_id(id, "a merge's piece", vocabulary, where);
        }
    }
}

void need_scores(const Vocabulary& vocabulary, std::string_view where) {
    if (vocabulary.kind == Vocabulary::Kind::scores) return;
    throw Error(where,
                "a byte-level vocabulary cannot be written in this form, expected one with "
                "scores");
}

bool has_byte_fallback(const Vocabulary& vocabulary) noexcept {
    return std::find(vocabulary.types.begin(), vocabulary.types.end(), TokenType::byte) !=
           vocabulary.types.end();
}

}  // namespace muster
