// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/utf8.h"

namespace muster {

void append_utf8(uint32_t code_point, std::string& text) {
    const auto put = [&](uint32_t byte) { text += static_cast<char>(byte); };
    const auto tail = [&](int shift) { put(0x80 | (code_point >> shift & 0x3F)); };
    if (code_point < 0x80) {
        put(code_point);
    } else if (code_point < 0x800) {
        put(0xC0 | code_point >> 6);
        tail(0);
    } else if (code_point < 0x10000) {
        put(0xE0 | code_point >> 12);
        tail(6);
        tail(0);
    } else {
        put(0xF0 | code_point >> 18);
        tail(12);
        tail(6);
        tail(0);
    }
}

bool is_valid_utf8(std::string_view text) noexcept {
    while (!text.empty()) {
        const Utf8Step step = next_utf8(text);
        if (!step.valid) return false;
        text.remove_prefix(step.bytes);
    }
    return true;
}

std::string to_valid_utf8(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    while (!text.empty()) {
        const Utf8Step step = next_utf8(text);
        if (step.valid) {
            result.append(text.substr(0, step.bytes));
        } else {
            append_utf8(0xFFFD, result);
        }
        text.remove_prefix(step.bytes);
    }
    return result;
}

}  // namespace muster
