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

/// Counts what forward passes route, every row under its policy, and the losses of tokens that rows
/// predicted. A pass counts once it is through its last MoE layer.
class PassStatistics final : public TraceSink {
  public:
    explicit PassStatistics(const Model& model);
    void layer(const LayerTrace& trace) override;
    /// The token that this row of the last pass predicted has this loss, in nats.
    void predicted(int row, double loss);
    const RoutingStatistics& statistics() const { return statistics_; }
    /// Nothing is counted.
    void clear() { statistics_ = none_; }

  private:
    void count_policies(const RowInfo& rows);

    RoutingStatistics none_, statistics_;
    std::vector<RouteTable> pass_;  ///< [L] of the last pass
    int last_moe_layer_ = -1;
};

}  // namespace muster
