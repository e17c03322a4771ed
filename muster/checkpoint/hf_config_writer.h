// SPDX-License-Identifier: Apache-2.0
// config.json of a model under GGUF's keys. Internal to checkpoint/.
#pragma once

#include <string>

#include "muster/checkpoint/hf_family.h"
#include "muster/checkpoint/weight_map.h"

namespace muster {

/// The text of config.json, as transformers writes it: read_hf_config() the other way round.
/// `dtype`: of the tensors. Throws Error naming the key that transformers has no setting for.
std::string hf_config_text(const WeightMap& model, const HfShape& shape, DType dtype, bool mxfp4);

}  // namespace muster
