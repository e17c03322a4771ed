// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "muster/model/model.h"

namespace muster {

/// The tokens that end an answer, sorted: the vocabulary's end of text, what the checkpoint calls
/// its end of turn or message (tokenizer.ggml.eot_token_id, eom_token_id), and control tokens that
/// carry a known name of such an end, e.g. <|im_end|> or <|eot_id|>, for files that do not say.
std::vector<int32_t> end_tokens(const Model& model);

}  // namespace muster
