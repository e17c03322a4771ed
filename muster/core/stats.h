// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace muster {

struct Interval {
    double mean = 0;
    double low = 0;
    double high = 0;
};

/// Percentile bootstrap (Efron 1979) of the ratio sum(values) / sum(weights) over paired units,
/// such as documents with their summed losses and token counts. `confidence` in (0, 1). Both spans
/// have the same length >= 1 and the weights a positive sum; deterministic for a seed. One unit
/// says nothing of the spread: its interval is infinite.
Interval bootstrap_ratio(std::span<const double> values, std::span<const double> weights,
                         double confidence = 0.95, int draws = 2000, uint64_t seed = 1);

/// The same of any statistic of `units` (at least 1) things, given how often each was drawn; `mean`
/// is the statistic of all, once each. Draws whose statistic is not finite are left out; when none
/// is finite, or there is one unit, the interval is infinite.
Interval bootstrap(size_t units,
                   const std::function<double(std::span<const int> counts)>& statistic,
                   double confidence = 0.95, int draws = 2000, uint64_t seed = 1);

/// Pearson's correlation; NaN for fewer than 3 pairs or without spread.
double correlation(std::span<const double> a, std::span<const double> b);
/// Ranks from 1, equal values share the mean of theirs; correlation() of ranks is Spearman's.
std::vector<double> ranks(std::span<const double> values);

/// The p-quantile (linear interpolation) of `values`; not empty, p in [0, 1].
double quantile(std::span<const double> values, double p);

}  // namespace muster
