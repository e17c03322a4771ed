// SPDX-License-Identifier: Apache-2.0
// What config.json says of a model, in GGUF's keys. Internal to checkpoint/.
#pragma once

#include <string_view>
#include <vector>

#include "muster/checkpoint/hf_family.h"
#include "muster/checkpoint/json_value.h"
#include "muster/checkpoint/weight_map.h"

namespace muster {

struct HfConfig {
    const HfFamily* family = nullptr;
    bool tied = false;                ///< the head is the embedding
    std::vector<float> rope_factors;  ///< rope_freqs.weight of Llama 3's scaling, or none
    int64_t later_layers = 0;         ///< that predict further tokens, and are not read
};

/// Sets general.architecture and the architecture's keys, as llama.cpp's converter does. `config`
/// is the text of config.json, parsed (untrusted). Throws Error, under `where`, for a missing key,
/// one out of range, and whatever of the model GGUF or Muster cannot say.
HfConfig read_hf_config(const JsonValue& config, std::string_view where, WeightMap& into);

}  // namespace muster
