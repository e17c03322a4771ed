// SPDX-License-Identifier: Apache-2.0
// Any pattern cuts any text (behind a NUL) into words that together are the text, or gives an
// Error.
#include "fuzz_parts.h"
#include "muster/tokenizer/pre_tokenizer.h"
#include "muster/tokenizer/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto [pattern, bytes] = muster::fuzzing::halves(data, size);
    try {
        const muster::PreTokenizer splits({muster::SplitRule{std::string(pattern)}}, "test");
        const std::string text = muster::to_valid_utf8(bytes);
        std::string joined;
        muster::SplitRegex::Search search;
        splits.split(text, search, [&](std::string_view word) { joined += word; });
        if (joined != text) std::abort();
    } catch (const muster::Error&) {
    }
    return 0;
}
