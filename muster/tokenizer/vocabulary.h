// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "muster/tokenizer/tokenizer.h"

namespace muster {

/// How a space stands in pieces (U+2581), and its code point.
inline constexpr std::string_view kSpacePiece = "\u2581";
inline constexpr uint32_t kSpaceCodePoint = 0x2581;

/// Pieces longer than this are refused: preparing a piece takes the square of its length.
inline constexpr size_t kMaxPieceBytes = 1024;

/// The byte that a byte piece such as `<0x0A>` stands for; nothing for other spellings.
std::optional<uint8_t> byte_of_piece(std::string_view piece) noexcept;

/// The spelling of a byte piece.
std::string byte_piece(uint8_t byte);

/// The piece with spaces in place of U+2581.
std::string with_spaces(std::string_view piece);

/// Throws Error, under `where`, unless the vocabulary can work: vectors of one size, not empty;
/// pieces not empty, not repeated, valid UTF-8, at most kMaxPieceBytes; scores finite; special ids
/// -1 or in range; byte pieces all or none; byte pieces or an unknown token for the rest.
void check_vocabulary(const Vocabulary& vocabulary, std::string_view where);

/// Throws Error, under `where`, for a byte-level vocabulary.
void need_scores(const Vocabulary& vocabulary, std::string_view where);

/// Whether characters without a piece become bytes (of a checked vocabulary).
bool has_byte_fallback(const Vocabulary& vocabulary) noexcept;

}  // namespace muster
