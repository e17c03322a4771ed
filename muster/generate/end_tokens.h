// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "muster/model/model.h"

namespace muster {

/// The tokens that end an answer, sorted: Tokenizer::ends_text(), and the end of a message
/// (tokenizer.ggml.eom_token_id) where the checkpoint names one.
std::vector<int32_t> end_tokens(const Model& model);

}  // namespace muster
