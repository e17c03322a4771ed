// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "muster/evaluate/token_sink.h"
#include "muster/generate/token_losses.h"

namespace muster {

/// Turns the passes of token_losses() into tokens: keeps the routes of a pass until its losses are
/// known and hands the scored rows on. Rows that are context only are left out.
class PassRecorder final : public ScoringSink {
  public:
    /// `sinks` outlive it.
    PassRecorder(int layers, std::span<TokenSink* const> sinks);

    /// The text whose passes follow; `tokens` outlives them.
    void begin(const Document& document, std::span<const int32_t> tokens);
    void layer(const LayerTrace& trace) override;
    void scored(size_t first, int skipped, std::span<const float> losses) override;

  private:
    std::vector<TokenSink*> sinks_;
    std::span<const int32_t> tokens_;
    std::vector<RouteTable> routes_;           ///< [L] of the rows since the last scored()
    std::vector<std::vector<float>> entropy_;  ///< [L][rows]
    std::vector<LayerRoutes> token_;           ///< [L]
};

/// Entropy in nats of `scores` divided by their sum; 0 when none is positive.
double score_entropy(std::span<const float> scores) noexcept;

}  // namespace muster
