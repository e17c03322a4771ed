// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/utf8_stream.h"

namespace muster {
namespace {

/// Bytes of the character that starts with `lead`; 1 for what starts none.
size_t length_of(unsigned char lead) noexcept {
    if (lead >= 0xc2 && lead <= 0xdf) return 2;
    if (lead >= 0xe0 && lead <= 0xef) return 3;
    if (lead >= 0xf0 && lead <= 0xf4) return 4;
    return 1;
}

/// How many bytes at the end of `text` start a character without ending it.
size_t unfinished(std::string_view text) noexcept {
    const size_t most = text.size() < 3 ? text.size() : 3;
    for (size_t back = 1; back <= most; ++back) {
        const auto byte = static_cast<unsigned char>(text[text.size() - back]);
        if ((byte & 0xc0) == 0x80) continue;  // a later byte of a character: look further back
        return length_of(byte) > back ? back : 0;
    }
    return 0;
}

}  // namespace

std::string Utf8Stream::push(std::string_view bytes) {
    held_ += bytes;
    const size_t keep = unfinished(held_);
    std::string out = held_.substr(0, held_.size() - keep);
    held_.erase(0, held_.size() - keep);
    return out;
}

std::string Utf8Stream::flush() {
    std::string out;
    out.swap(held_);
    return out;
}

}  // namespace muster
