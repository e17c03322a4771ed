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

Interval bootstrap(size_t units,
                   const std::function<double(std::span<const int> counts)>& statistic,
                   double confidence, int draws, uint64_t seed) {
    MUSTER_ASSERT(units > 0 && confidence > 0 && confidence < 1 && draws > 0);
    std::vector<int> counts(units, 1);
    Interval result;
    result.mean = statistic(counts);
    result.low = -std::numeric_limits<double>::infinity();
    result.high = -result.low;
    if (units == 1) return result;
    Random random(seed);
    std::vector<double> values;
    values.reserve(static_cast<size_t>(draws));
    for (int d = 0; d < draws; ++d) {
        std::fill(counts.begin(), counts.end(), 0);
        for (size_t i = 0; i < units; ++i) ++counts[random.below(units)];
        const double value = statistic(counts);
        if (std::isfinite(value)) values.push_back(value);
    }
    if (values.empty()) return result;
    const double tail = (1 - confidence) / 2;
    result.low = quantile(values, tail);
    result.high = quantile(values, 1 - tail);
    return result;
}

double correlation(std::span<const double> a, std::span<const double> b) {
    MUSTER_ASSERT(a.size() == b.size());
    const auto n = static_cast<double>(a.size());
    if (a.size() < 3) return std::numeric_limits<double>::quiet_NaN();
    const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n;
    const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        aa += (a[i] - mean_a) * (a[i] - mean_a);
        bb += (b[i] - mean_b) * (b[i] - mean_b);
        ab += (a[i] - mean_a) * (b[i] - mean_b);
    }
    return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : std::numeric_limits<double>::quiet_NaN();
}

std::vector<double> ranks(std::span<const double> values) {
    std::vector<size_t> order(values.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return values[a] < values[b]; });
    std::vector<double> out(values.size());
    for (size_t first = 0; first < order.size();) {
        size_t last = first;
        while (last < order.size() && values[order[last]] == values[order[first]]) ++last;
        const double rank = static_cast<double>(first + last + 1) / 2;
        for (; first < last; ++first) out[order[first]] = rank;
    }
    return out;
}

}  // namespace muster
