// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/end_tokens.h"

#include <algorithm>

namespace muster {
std::vector<int32_t> end_tokens(const Model& model) {
    const Vocabulary& v = model.tokenizer().vocabulary();
    std::vector<int32_t> ids;
    for (int id = 0; id < v.size(); ++id)
        if (model.tokenizer().ends_text(id)) ids.push_back(id);
    if (const char* key = "tokenizer.ggml.eom_token_id"; model.file().has(key))
        ids.push_back(static_cast<int32_t>(model.file().integer(key, 0, v.size() - 1)));
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    return ids;
}

}  // namespace muster
