// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/statistics_sink.h"

#include "muster/model/request_routing.h"

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

PassStatistics::PassStatistics(const Model& model)
    : none_(empty_statistics(model)), statistics_(none_), pass_(none_.layers.size()) {
    const auto& layers = model.config().layers;
    for (size_t l = 0; l < layers.size(); ++l)
        if (!layers[l].dense()) last_moe_layer_ = static_cast<int>(l);
}

void PassStatistics::layer(const LayerTrace& trace) {
    pass_[static_cast<size_t>(trace.layer)] = trace.routes;
    if (trace.layer != last_moe_layer_) return;
    for (size_t l = 0; l < pass_.size(); ++l)
        if (!statistics_.layers[l].load.empty()) statistics_.layers[l].add(pass_[l]);
    count_policies(trace.rows);
}

void PassStatistics::count_policies(const RowInfo& rows) {
    for (size_t t = 0; t < rows.routing.size();) {
        const RequestRouting* routing = rows.routing[t];
        size_t end = t + 1;
        while (end < rows.routing.size() && rows.routing[end] == routing) ++end;
        if (routing != nullptr)
            statistics_.policies[routing->policy().to_string()] += static_cast<int64_t>(end - t);
        t = end;
    }
}

void PassStatistics::predicted(int row, double loss) {
    for (size_t l = 0; l < pass_.size(); ++l)
        if (!statistics_.layers[l].load.empty())
            statistics_.layers[l].add_loss(pass_[l].token_experts(row), loss);
}

}  // namespace muster
