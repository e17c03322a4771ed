// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "muster/tokenizer/tokenizer.h"
#include "tools/make_checkpoint/hf_output.h"
#include "tools/make_checkpoint/spec.h"

namespace muster::checkpoints {

/// The text of config.json, as transformers writes it for such a model.
std::string hf_config_text(const CheckpointSpec& spec, const HfOptions& options);
/// The text of tokenizer_config.json.
std::string hf_tokenizer_config_text(const CheckpointSpec& spec, const Vocabulary& vocabulary);

}  // namespace muster::checkpoints
