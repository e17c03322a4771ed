// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "muster/core/progress.h"
#include "muster/model/forward.h"

namespace muster {

/// Sees the passes of a scoring: layer() for each MoE layer of a pass, then scored().
class ScoringSink : public TraceSink {
  public:
    /// Row skipped + i of the pass, which stands at first + skipped + i in the text, predicted the
    /// next token with losses[i]; the other rows are context that was scored before.
    virtual void scored(size_t first, int skipped, std::span<const float> losses) = 0;
};

struct LossOptions {
    int window = 0;  ///< tokens per window; 0: the model's context length
    int stride = 0;  ///< how far windows advance over a longer text; 0: half a window
    PassOptions pass = {};
    ScoringSink* sink = nullptr;  ///< takes the place of pass.trace where it is given
    Progress progress = {};       ///< in the text's scored tokens; returning false throws Error
};

/// What the model makes of a text.
struct TokenLosses {
    /// [n - 1] loss[i] = -log p(tokens[i + 1] | tokens before it), in nats.
    std::vector<float> loss;
    /// [n - 1, L] routed experts of the row that predicted tokens[i + 1] (dense layers 0).
    std::vector<int32_t> experts;
    int layers = 0;
};

/// The routing of an evaluation. Throws Error when the policy cannot work on the model, or follows
/// the clock while text is written (`speed:`).
RequestRouting evaluation_routing(const ModelConfig& config, const RoutingPolicy& policy);

/// Scores a text. Texts longer than a window are scored in overlapping windows: each token once, in
/// the first window that holds it, with at least window - stride tokens before it from the second
/// window on. `routing` keeps its controllers' state over the call. `cache` holds a window; its
/// content is replaced. Throws Error as ForwardContext::forward does, and under `speed:`.
TokenLosses token_losses(ForwardContext& context, KvCache& cache, RequestRouting& routing,
                         std::span<const int32_t> tokens, const LossOptions& options = {});

/// Losses [targets] of the wanted rows of the context's last pass, in nats, targets[i] being the
/// token that wanted row i should predict; as many as wanted rows (asserted).
void wanted_losses(ForwardContext& context, std::span<const int32_t> targets,
                   std::span<float> losses);

/// -log softmax(logits)[target], in nats.
double negative_log_likelihood(std::span<const float> logits, int32_t target) noexcept;

}  // namespace muster
