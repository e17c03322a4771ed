// SPDX-License-Identifier: Apache-2.0
// Any bytes as tokenizer.json, and behind a NUL tokenizer_config.json beside it, give a tokeniser
// that encodes and decodes, or an Error.
#include "fuzz_folder.h"
#include "fuzz_parts.h"
#include "muster/checkpoint/weight_map.h"

namespace {

void read_directory(std::string_view json, std::string_view config) {
    static const muster::fuzzing::Folder folder;
    folder.write("tokenizer.json", json);
    folder.write("tokenizer_config.json", config);
    muster::WeightMap map("test");
    muster::read_huggingface_tokenizer(folder.path(), map, 300);
    muster::fuzzing::use(muster::Tokenizer::from_gguf(map));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto [json, config] = muster::fuzzing::halves(data, size);
    try {
        muster::fuzzing::use(muster::Tokenizer(muster::read_tokenizer_json(json, "test")));
        if (!config.empty()) read_directory(json, config);
    } catch (const muster::Error&) {
    }
    return 0;
}
