// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "muster/evaluate/token_sink.h"
#include "muster/model/model.h"
#include "muster/model/trace.h"
#include "muster/routing/statistics.h"

namespace muster {

/// Statistics of `model` in which nothing is counted yet.
RoutingStatistics empty_statistics(const Model& model);

/// Counts the scored tokens of an evaluation.
class StatisticsSink final : public TokenSink {
  public:
    StatisticsSink(const Model& model, const RoutingPolicy& policy);
    void document(const Document&, std::span<const int32_t>) override {}
    void token(const ScoredToken& token) override;
    const RoutingStatistics& statistics() const { return statistics_; }

  private:
    std::string policy_;
    RoutingStatistics statistics_;
};

/// Counts what a session routes: every row of its passes, prompt and answer, and the losses of the
/// tokens that it writes.
class SessionStatistics final : public TraceSink {
  public:
    SessionStatistics(const Model& model, const RoutingPolicy& policy);
    void layer(const LayerTrace& trace) override;
    /// The token that the last row of the last pass predicted has this loss, in nats.
    void predicted(double loss);
    const RoutingStatistics& statistics() const { return statistics_; }

  private:
    std::string policy_;
    RoutingStatistics statistics_;
    std::vector<std::vector<int32_t>> last_;  ///< [L] experts of the last row
    int first_moe_layer_ = 0;
};

}  // namespace muster
