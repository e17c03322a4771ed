// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "muster/routing/router.h"

namespace muster {

/// The third axis: combine weights of one token's selected experts, in their order. Always finite;
/// the selection bias plays no part. logits, scores: [E]; experts, weights: [n]. Internal to
/// routing/.
void weigh_experts(const RouterSpec& spec, std::span<const float> logits,
                   std::span<const float> scores, std::span<const int32_t> experts,
                   std::span<float> weights) noexcept;

}  // namespace muster
