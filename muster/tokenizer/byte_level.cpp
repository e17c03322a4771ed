// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/byte_level.h"

#include "muster/tokenizer/utf8.h"

namespace muster {
namespace {

constexpr bool stands_for_itself(uint32_t byte) noexcept {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
           (byte >= 0xAE && byte <= 0xFF);
}

/// The bytes that do not stand for themselves are 0..0x20, 0x7F..0xA0 and 0xAD.
constexpr uint32_t kShifted = 0x21 + 0x22 + 1;

}  // namespace

uint32_t character_of_byte(uint8_t byte) noexcept {
    if (stands_for_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100U + byte;
    if (byte <= 0xA0) return 0x121U + (byte - 0x7FU);
    return 0x143;
}

std::optional<uint8_t> byte_of_character(uint32_t code_point) noexcept {
    if (code_point < 0x100) {
        if (!stands_for_itself(code_point)) return std::nullopt;
        return static_cast<uint8_t>(code_point);
    }
    const uint32_t index = code_point - 0x100;
    if (index >= kShifted) return std::nullopt;
    if (index <= 0x20) return static_cast<uint8_t>(index);
    if (index <= 0x42) return static_cast<uint8_t>(0x7F + index - 0x21);
    return uint8_t{0xAD};
}

std::string bytes_of_byte_level_piece(std::string_view piece) {
    std::string bytes;
    bytes.reserve(piece.size());
    for (size_t at = 0; at < piece.size();) {
        const Utf8Step step = next_utf8(piece.substr(at));
        const auto byte = byte_of_character(step.code_point);
        if (!step.valid || !byte) return std::string(piece);
        bytes += static_cast<char>(*byte);
        at += step.bytes;
    }
    return bytes;
}

std::string byte_level_piece(std::string_view bytes) {
    std::string piece;
    for (const char c : bytes) append_utf8(character_of_byte(static_cast<uint8_t>(c)), piece);
    return piece;
}

}  // namespace muster
