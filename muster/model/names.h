// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "muster/model/config.h"
#include "muster/routing/policy.h"

namespace muster {

// The words that model files use for choices of the configuration: config.json of a training
// checkpoint and GGUF's `muster.*` keys. Every parse_* throws Error with the known words.

std::string_view score_name(Score score) noexcept;
Score parse_score(std::string_view name);
std::string_view selection_name(Selection selection) noexcept;
Selection parse_selection(std::string_view name);
std::string_view weighting_name(Weighting weighting) noexcept;
Weighting parse_weighting(std::string_view name);
std::string_view rope_name(RopeLayout layout) noexcept;
RopeLayout parse_rope(std::string_view name);
std::string_view qk_norm_name(QkNorm norm) noexcept;
QkNorm parse_qk_norm(std::string_view name);

}  // namespace muster
