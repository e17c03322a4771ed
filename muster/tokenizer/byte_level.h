// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace muster {

/// The printable character that stands for a byte in the pieces of byte-level vocabularies:
/// U+0021..U+007E, U+00A1..U+00AC and U+00AE..U+00FF for themselves, the other bytes U+0100 and
/// on in their order (Radford et al. 2019, "Language models are unsupervised multitask learners";
/// bytes_to_unicode in its published code).
uint32_t character_of_byte(uint8_t byte) noexcept;

/// The byte that a character stands for; nothing for characters that stand for none.
std::optional<uint8_t> byte_of_character(uint32_t code_point) noexcept;

/// The bytes that a piece stands for; the piece itself where one of its characters stands for no
/// byte, as Hugging Face's ByteLevel decoder has it.
std::string bytes_of_byte_level_piece(std::string_view piece);

/// The piece that stands for bytes.
std::string byte_level_piece(std::string_view bytes);

}  // namespace muster
