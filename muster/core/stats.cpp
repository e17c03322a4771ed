// SPDX-License-Identifier: Apache-2.0
#include "muster/core/stats.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "muster/core/error.h"
#include "muster/core/random.h"

namespace muster {

double quantile(std::span<const double> values, double p) {
    MUSTER_ASSERT(!values.empty() && p >= 0 && p <= 1);
    std::vector<double> sorted(values.begin(), values.end());
    std::sort(sorted.begin(), sorted.end());
    const double at = p * static_cast<double>(sorted.size() - 1);
    const auto low = static_cast<size_t>(std::floor(at));
    const size_t high = std::min(low + 1, sorted.size() - 1);
    return std::lerp(sorted[low], sorted[high], at - static_cast<double>(low));
}

Interval bootstrap_ratio(std::span<const double> values, std::span<const double> weights,
                         double confidence, int draws, uint64_t seed) {
    MUSTER_ASSERT(values.size() == weights.size() && !values.empty());
    MUSTER_ASSERT(confidence > 0 && confidence < 1 && draws > 0);
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    MUSTER_ASSERT(total > 0);
    Interval result;
    result.mean = std::accumulate(values.begin(), values.end(), 0.0) / total;
    if (values.size() == 1) {
        result.low = -std::numeric_limits<double>::infinity();
        result.high = -result.low;
        return result;
    }
    Random random(seed);
    std::vector<double> ratios;
    ratios.reserve(static_cast<size_t>(draws));
    for (int d = 0; d < draws; ++d) {
        double value = 0;
        double weight = 0;
        for (size_t i = 0; i < values.size(); ++i) {
            const size_t j = random.below(values.size());
            value += values[j];
            weight += weights[j];
        }
        if (weight > 0) ratios.push_back(value / weight);
    }
    const double tail = (1 - confidence) / 2;
    result.low = quantile(ratios, tail);
    result.high = quantile(ratios, 1 - tail);
    return result;
}

}  // namespace muster
