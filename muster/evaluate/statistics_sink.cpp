// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/statistics_sink.h"

#include <algorithm>

namespace muster {

RoutingStatistics empty_statistics(const Model& model) {
    RoutingStatistics out;
    out.model = model.config().name.empty() ? model.config().architecture : model.config().name;
    out.model_hash = model.hash();
    for (const FeedForwardConfig& ff : model.config().layers) {
        LoadStatistics& layer = out.layers.emplace_back();
        if (ff.dense()) continue;
        const auto experts = static_cast<size_t>(ff.experts());
        layer.load.resize(experts);
        layer.weight.resize(experts);
        layer.scored.resize(experts);
        layer.loss.resize(experts);
    }
    return out;
}

StatisticsSink::StatisticsSink(const Model& model, const RoutingPolicy& policy)
    : policy_(policy.to_string()), statistics_(empty_statistics(model)) {}

void StatisticsSink::token(const ScoredToken& token) {
    for (size_t l = 0; l < token.layers.size(); ++l) {
        LoadStatistics& layer = statistics_.layers[l];
        if (layer.load.empty()) continue;
        const LayerRoutes& routes = token.layers[l];
        layer.add(static_cast<int>(layer.load.size()), routes.experts, routes.weights);
        layer.add_loss(routes.experts, token.loss);
    }
    ++statistics_.policies[policy_];
}

SessionStatistics::SessionStatistics(const Model& model, const RoutingPolicy& policy)
    : policy_(policy.to_string()),
      statistics_(empty_statistics(model)),
      last_(statistics_.layers.size()) {
    const auto moe = [](const FeedForwardConfig& ff) { return !ff.dense(); };
    const auto& layers = model.config().layers;
    first_moe_layer_ =
        static_cast<int>(std::find_if(layers.begin(), layers.end(), moe) - layers.begin());
}

void SessionStatistics::layer(const LayerTrace& trace) {
    const RouteTable& routes = trace.routes;
    if (routes.tokens() == 0) return;
    statistics_.layers[trace.layer].add(routes);
    const auto experts = routes.token_experts(routes.tokens() - 1);
    last_[trace.layer].assign(experts.begin(), experts.end());
    if (trace.layer == first_moe_layer_) statistics_.policies[policy_] += routes.tokens();
}

void SessionStatistics::predicted(double loss) {
    for (size_t l = 0; l < last_.size(); ++l) statistics_.layers[l].add_loss(last_[l], loss);
}

}  // namespace muster
