// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/end_tokens.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace muster {
namespace {

// Ends of turns in the chat formats of the families that the engine knows.
constexpr std::array<std::string_view, 10> kNames{
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<|end_of_text|>",
    "<\xEF\xBD\x9C"
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"};

}  // namespace

std::vector<int32_t> end_tokens(const Model& model) {
    const Vocabulary& v = model.tokenizer().vocabulary();
    std::vector<int32_t> ids;
    if (v.eos >= 0) ids.push_back(v.eos);
    for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
        if (model.file().has(key))
            ids.push_back(static_cast<int32_t>(model.file().integer(key, 0, v.size() - 1)));
    for (int id = 0; id < v.size(); ++id) {
        if (v.types[id] != TokenType::control) continue;
        if (std::find(kNames.begin(), kNames.end(), v.pieces[id]) != kNames.end())
            ids.push_back(id);
    }
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    return ids;
}

}  // namespace muster
