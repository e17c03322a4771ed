// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "muster/cli/json_text.h"
#include "muster/generate/generation.h"

namespace muster::cli {

/// Appends a written token to a JSON list: id, text, loss, experts, layers. Bytes that were held
/// back (id -1) go to the last token's text.
void append_token(const GeneratedToken& token, ordered_json& tokens);

/// An answer under the keys of docs/cli.md#run, from `routing` on; `tokens` as append_token() made
/// them.
ordered_json answer_json(const RoutingPolicy& policy, uint64_t seed, const GenerateResult& result,
                         ordered_json tokens);

}  // namespace muster::cli
