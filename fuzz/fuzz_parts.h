// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "muster/core/error.h"
#include "muster/tokenizer/tokenizer.h"

namespace muster::fuzzing {

/// What stands before and behind the first NUL.
inline std::pair<std::string_view, std::string_view> halves(const uint8_t* data, size_t size) {
    const std::string_view all(reinterpret_cast<const char*>(data), size);
    const size_t cut = all.find('\0');
    if (cut == std::string_view::npos) return {all, {}};
    return {all.substr(0, cut), all.substr(cut + 1)};
}

/// Encodes in every way and decodes; ids outside the vocabulary are a finding. Throws Error.
inline void use(const Tokenizer& tokenizer) {
    constexpr std::string_view kText =
        "Hello <s>World</s> 12345\r\n\t  don't \xe5\xa4\xa9\xe5\x9c\xb0 e\xcc\x81 \xff<end> "
        "a<tool>";
    for (const bool special : {false, true}) {
        for (const bool parse : {false, true}) {
            const auto ids = tokenizer.encode(kText, EncodeOptions{special, parse});
            for (const int32_t id : ids) {
                if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
            }
            static_cast<void>(tokenizer.decode(ids));
        }
    }
}

}  // namespace muster::fuzzing
