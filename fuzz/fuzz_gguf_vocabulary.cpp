// SPDX-License-Identifier: Apache-2.0
// The vocabulary of any GGUF file gives a tokeniser that encodes and decodes and can be stored, or
// an Error.
#include <cstring>
#include <vector>

#include "fuzz_parts.h"
#include "muster/checkpoint/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::vector<std::byte> bytes(size);
    if (size > 0) std::memcpy(bytes.data(), data, size);
    try {
        const auto tokenizer = muster::Tokenizer::from_gguf(muster::GgufFile(bytes, "test"));
        muster::fuzzing::use(tokenizer);
        muster::WeightMap again("again");
        muster::store_vocabulary(tokenizer.vocabulary(), again);
        muster::fuzzing::use(muster::Tokenizer::from_gguf(again));
    } catch (const muster::Error&) {
    }
    return 0;
}
