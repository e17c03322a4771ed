// SPDX-License-Identifier: Apache-2.0
#include "muster/model/open_model.h"

#include "muster/checkpoint/gguf.h"
#include "muster/core/error.h"
#include "muster/tokenizer/tokenizer.h"

namespace muster {

WeightMap open_model(const std::filesystem::path& path, HfUse use) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(path, ignored)) return open_gguf(path);
    if (!std::filesystem::exists(path / "config.json", ignored))
        throw Error(path.string(),
                    "has no config.json, expected a GGUF file or a Hugging Face directory");
    WeightMap map = open_hf(path, use);
    const TensorView& embedding = map.tensors().find("token_embd.weight")->second;
    read_huggingface_tokenizer(path, map, embedding.shape.front());
    return map;
}

}  // namespace muster
