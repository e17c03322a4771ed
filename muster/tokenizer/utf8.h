// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace muster {

/// One step through text: a character, or a part that is none.
struct Utf8Step {
    uint32_t code_point;  ///< U+FFFD for an invalid part
    uint32_t bytes;       ///< how far to go on, >= 1
    bool valid;
};

/// The character that `text` begins with; `text` must not be empty. An invalid part is the maximal
/// subpart of an ill-formed sequence (Unicode 15, section 3.9, D93b and table 3-7).
inline Utf8Step next_utf8(std::string_view text) noexcept {
    const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
    const uint32_t first = byte(0);
    if (first < 0x80) return {first, 1, true};
    if (first < 0xC2 || first > 0xF4) return {0xFFFD, 1, false};
    const uint32_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    // The second byte has a narrower range after these first bytes.
    const uint32_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const uint32_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    uint32_t code_point = first & (0x7FU >> length);
    for (uint32_t i = 1; i < length; ++i) {
        if (i >= text.size()) return {0xFFFD, i, false};
        const uint32_t b = byte(i);
        if (b < (i == 1 ? low : 0x80) || b > (i == 1 ? high : 0xBF)) return {0xFFFD, i, false};
        code_point = code_point << 6 | (b & 0x3F);
    }
    return {code_point, length, true};
}

/// Appends a code point up to U+10FFFF.
void append_utf8(uint32_t code_point, std::string& text);

bool is_valid_utf8(std::string_view text) noexcept;

/// The text with U+FFFD for each invalid part.
std::string to_valid_utf8(std::string_view text);

}  // namespace muster
