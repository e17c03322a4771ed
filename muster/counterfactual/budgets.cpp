// SPDX-License-Identifier: Apache-2.0
#include "muster/counterfactual/budgets.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "muster/core/error.h"

namespace muster {
namespace {

constexpr int kHalvings = 200;  // of the factor's bracket: below the last place of a double

}  // namespace

std::vector<int> share_budget(std::span<const double> worth, int total, std::span<const int> low,
                              std::span<const int> high) {
    const size_t n = worth.size();
    MUSTER_ASSERT(low.size() == n && high.size() == n);
    MUSTER_ASSERT(std::accumulate(low.begin(), low.end(), 0) <= total);
    MUSTER_ASSERT(std::accumulate(high.begin(), high.end(), 0) >= total);
    const double sum = std::accumulate(worth.begin(), worth.end(), 0.0);
    const auto share = [&](size_t i, double factor) {
        const double wanted = factor * (sum > 0 ? worth[i] : 1.0);
        return std::clamp(wanted, static_cast<double>(low[i]), static_cast<double>(high[i]));
    };
    const auto reached = [&](double factor) {
        double s = 0;
        for (size_t i = 0; i < n; ++i) s += share(i, factor);
        return s;
    };
    double below = 0, above = 1;
    // A layer worth nothing stays at its lowest bound however large the factor.
    for (int i = 0; i < kHalvings && reached(above) < total; ++i) above *= 2;
    for (int i = 0; i < kHalvings; ++i) {
        const double middle = below + (above - below) / 2;
        (reached(middle) < total ? below : above) = middle;
    }
    std::vector<int> out(n);
    std::vector<double> rest(n);
    int left = total;
    for (size_t i = 0; i < n; ++i) {
        const double x = share(i, above);
        out[i] = static_cast<int>(std::floor(x + 1e-9));
        rest[i] = x - out[i];
        left -= out[i];
    }
    std::vector<size_t> order(n);
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return rest[a] > rest[b]; });
    while (left != 0) {
        const int before = left;
        for (const size_t i : order) {
            if (left > 0 && out[i] < high[i]) ++out[i], --left;
        }
        for (size_t i = n; i-- > 0;) {
            if (left < 0 && out[order[i]] > low[order[i]]) --out[order[i]], ++left;
        }
        MUSTER_ASSERT(left != before);
    }
    return out;
}

std::vector<int> cheapest_budgets(std::span<const std::vector<double>> costs,
                                  std::span<const int> low, int total) {
    constexpr double kNever = std::numeric_limits<double>::infinity();
    MUSTER_ASSERT(costs.size() == low.size());
    const auto sums = static_cast<size_t>(total) + 1;
    // best[s]: the least cost of the layers so far with budgets that sum to s.
    std::vector<double> best(sums, kNever);
    best[0] = 0;
    std::vector<std::vector<int>> chosen;  // [L][s] the last layer's budget
    for (size_t l = 0; l < costs.size(); ++l) {
        std::vector<double> next(sums, kNever);
        std::vector<int>& choice = chosen.emplace_back(sums, 0);
        for (size_t i = 0; i < costs[l].size(); ++i) {
            const auto budget = static_cast<size_t>(low[l]) + i;
            for (size_t s = budget; s < sums; ++s) {
                const double cost = best[s - budget] + costs[l][i];
                if (cost < next[s]) next[s] = cost, choice[s] = static_cast<int>(budget);
            }
        }
        best = std::move(next);
    }
    if (best.back() == kNever)
        throw Error("budgets",
                    "no budgets sum to " + std::to_string(total) + ", expected bounds around it");
    std::vector<int> out(costs.size());
    size_t left = sums - 1;
    for (size_t l = costs.size(); l-- > 0;) {
        out[l] = chosen[l][left];
        left -= static_cast<size_t>(out[l]);
    }
    return out;
}

}  // namespace muster
