// SPDX-License-Identifier: Apache-2.0
#include "muster/counterfactual/budgets.h"

#include <algorithm>
#include <cmath>
#include <numeric>

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

}  // namespace muster
