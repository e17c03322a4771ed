// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "muster/core/progress.h"
#include "muster/model/forward.h"

namespace muster {

struct LossOptions {
    int window = 0;  ///< tokens per window; 0: the model's context length
    int stride = 0;  ///< how far windows advance over a longer text; 0: half a window
    PassOptions pass = {};
};

/// What the model makes of a text.
struct TokenLosses {
    /// [n - 1] loss[i] = -log p(tokens[i + 1] | tokens before it), in nats.
    std::vector<float> loss;
    /// [n - 1, L] routed experts of the row that predicted tokens[i + 1] (dense layers 0).
    std::vector<int32_t> experts;
    int layers = 0;
};

/// Scores a text. Texts longer than a window are scored in overlapping windows: each token once, in
/// the first window that holds it, with at least window - stride tokens before it from the second
/// window on. `routing` keeps its controllers' state over the call. `cache` holds a window; its
/// content is replaced. Throws Error as ForwardContext::forward does, and under `speed:`.
TokenLosses token_losses(ForwardContext& context, KvCache& cache, RequestRouting& routing,
                         std::span<const int32_t> tokens, const LossOptions& options = {});

/// -log softmax(logits)[target], in nats.
double negative_log_likelihood(std::span<const float> logits, int32_t target) noexcept;

}  // namespace muster
