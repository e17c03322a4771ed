// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/weighting.h"

#include <algorithm>
#include <limits>

namespace muster {
namespace {

void divide_by_sum(std::span<float> weights, double floor, float scale) noexcept {
    double sum = 0;
    for (const float w : weights) sum += w;
    const double divisor = std::max(sum, floor);
    // Without a floor, scores that are all zero stay zero.
    const double factor = divisor > 0 ? scale / divisor : 0;
    for (float& w : weights) w = static_cast<float>(w * factor);
}

}  // namespace

void weigh_experts(const RouterSpec& spec, std::span<const float> logits,
                   std::span<const float> scores, std::span<const int32_t> experts,
                   std::span<float> weights) noexcept {
    const size_t n = experts.size();
    if (n == 0) return;
    if (spec.weight == Weighting::softmax) {
        for (size_t i = 0; i < n; ++i) weights[i] = logits[experts[i]];
        score_logits(Score::softmax, weights, weights);
        for (float& w : weights) w *= spec.scale;
        return;
    }
    if (spec.weight == Weighting::uniform) {
        std::fill(weights.begin(), weights.end(), spec.scale / static_cast<float>(n));
        return;
    }
    for (size_t i = 0; i < n; ++i) weights[i] = scores[experts[i]];
    if (spec.weight == Weighting::renorm)
        return divide_by_sum(weights, spec.renorm_floor, spec.scale);
    constexpr float kLargest = std::numeric_limits<float>::max();  // ReLU scores have no bound
    for (float& w : weights) w = std::min(w * spec.scale, kLargest);
}

}  // namespace muster
