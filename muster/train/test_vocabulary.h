// SPDX-License-Identifier: Apache-2.0
// For tests.
#pragma once

#include "muster/tokenizer/tokenizer.h"

namespace muster::train {

/// `<unk>`, `<s>`, `</s>` and the 256 byte tokens from id 3: every text is its bytes.
inline Vocabulary bytes_vocabulary() {
    Vocabulary v;
    v.pieces = {"<unk>", "<s>", "</s>"};
    v.types = {TokenType::unknown, TokenType::control, TokenType::control};
    constexpr char kHex[] = "0123456789ABCDEF";
    for (int b = 0; b < 256; ++b) {
        v.pieces.push_back(std::string("<0x") + kHex[b / 16] + kHex[b % 16] + ">");
        v.types.push_back(TokenType::byte);
    }
    v.scores.assign(v.pieces.size(), 0);
    v.unk = 0, v.bos = 1, v.eos = 2;
    return v;
}

}  // namespace muster::train
