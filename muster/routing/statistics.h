// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/routing/route_table.h"

namespace muster {

/// Running load of one layer's experts. A value; merge() adds another's counts.
struct LoadStatistics {
    std::vector<int64_t> load;   ///< [E] activations
    std::vector<double> weight;  ///< [E] summed combine weights
    /// [E] of these activations, those whose token's loss is known, and the losses' sum, in nats.
    std::vector<int64_t> scored;
    std::vector<double> loss;
    int64_t tokens = 0;

    void add(const RouteTable& routes);
    /// One token of a layer of `num_experts` experts; experts and weights as in a RouteTable.
    void add(int num_experts, std::span<const int32_t> experts, std::span<const float> weights);
    /// The loss of a token that was added, with the experts that it activated.
    void add_loss(std::span<const int32_t> experts, double nats);
    void merge(const LoadStatistics& other);

    int64_t activations() const noexcept;
    double experts_per_token() const noexcept;  ///< 0 without tokens
    double coefficient_of_variation() const noexcept;
    double max_over_mean() const noexcept;  ///< 1 is perfect balance
    double entropy() const noexcept;        ///< of the load's shares, in nats
    int dead_experts() const noexcept;      ///< experts with no activation
};

/// The loads of all layers of a model, kept in a file across runs (format `muster-statistics`,
/// version 1, docs/file-formats.md). A value.
struct RoutingStatistics {
    std::string model;                        ///< its name, for people
    uint64_t model_hash = 0;                  ///< Model::hash()
    std::map<std::string, int64_t> policies;  ///< policy's text -> tokens routed under it
    std::vector<LoadStatistics> layers;       ///< [L]; a dense layer's are empty

    /// Throws Error, with nothing changed, when `other` is of another model.
    void merge(const RoutingStatistics& other, std::string_view where);
};

std::string to_json(const RoutingStatistics& statistics);
/// Throws Error naming `where` and what is damaged.
RoutingStatistics statistics_from_json(std::string_view text, std::string_view where);
/// A line per layer and expert: layer, expert, tokens of the layer, activations, their share of the
/// layer's, weight (sum), mean weight, scored, loss (sum, nats), mean loss (empty: unknown).
std::string to_csv(const RoutingStatistics& statistics);

}  // namespace muster
