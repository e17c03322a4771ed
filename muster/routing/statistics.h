// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "muster/routing/route_table.h"

namespace muster {

/// Running load of one layer's experts. A value; merge() adds another's counts.
struct LoadStatistics {
    std::vector<int64_t> load;   ///< [E] activations
    std::vector<double> weight;  ///< [E] summed combine weights
    int64_t tokens = 0;

    void add(const RouteTable& routes);
    void merge(const LoadStatistics& other);

    int64_t activations() const noexcept;
    double experts_per_token() const noexcept;  ///< 0 without tokens
    double coefficient_of_variation() const noexcept;
    double max_over_mean() const noexcept;  ///< 1 is perfect balance
    double entropy() const noexcept;        ///< of the load's shares, in nats
    int dead_experts() const noexcept;      ///< experts with no activation
};

}  // namespace muster
