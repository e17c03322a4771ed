// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <numeric>

#include "muster/core/stats.h"
#include "muster/evaluate/expert_atlas.h"
#include "muster/evaluate/units.h"

namespace muster {
namespace {

constexpr size_t kLeastPerBin = 30;

std::vector<size_t> order_by_loss(const ExpertAtlas& atlas) {
    std::vector<size_t> order(atlas.tokens());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return atlas.losses[a] < atlas.losses[b]; });
    return order;
}

/// Per block of tokens, the experts and the number of a bin's tokens.
Interval bin_interval(const ExpertAtlas& atlas, std::span<const size_t> tokens) {
    std::vector<double> experts(atlas.tokens() / kBlockTokens + 1), count(experts.size());
    for (const size_t t : tokens) {
        experts[t / kBlockTokens] += atlas.mean_experts(t);
        count[t / kBlockTokens] += 1;
    }
    return bootstrap_ratio(experts, count, 0.95, 500);
}

double log_or_zero(double p) { return p > 0 ? p * std::log(p) : 0; }

}  // namespace

std::vector<DifficultyBin> difficulty(const ExpertAtlas& atlas, int bins) {
    const std::vector<size_t> order = order_by_loss(atlas);
    const size_t n = order.size();
    const size_t count = std::min(static_cast<size_t>(bins), std::max<size_t>(1, n / kLeastPerBin));
    std::vector<DifficultyBin> out;
    for (size_t b = 0; b < count && n > 0; ++b) {
        const size_t begin = n * b / count, end = n * (b + 1) / count;
        const std::span<const size_t> tokens(order.data() + begin, end - begin);
        out.push_back({atlas.losses[tokens.front()], atlas.losses[tokens.back()],
                       static_cast<int64_t>(tokens.size()), bin_interval(atlas, tokens)});
    }
    return out;
}

double difficulty_correlation(const ExpertAtlas& atlas) {
    std::vector<double> experts(atlas.tokens());
    for (size_t t = 0; t < experts.size(); ++t) experts[t] = atlas.mean_experts(t);
    const std::vector<double> losses(atlas.losses.begin(), atlas.losses.end());
    const double rho = correlation(ranks(losses), ranks(experts));
    return std::isfinite(rho) ? rho : 0;
}

Specialisation specialisation(const ExpertAtlas& atlas, int layer) {
    const LayerAtlas& l = atlas.layers[layer];
    const auto experts = static_cast<size_t>(l.num_experts());
    std::vector<double> totals;  // of the domains in which the layer worked
    std::vector<size_t> used;
    for (size_t d = 0; d < atlas.domains.size(); ++d) {
        const auto row = l.by_domain.begin() + static_cast<std::ptrdiff_t>(d * experts);
        const auto sum =
            std::accumulate(row, row + static_cast<std::ptrdiff_t>(experts), int64_t{0});
        if (sum == 0) continue;
        totals.push_back(static_cast<double>(sum));
        used.push_back(d);
    }
    Specialisation out{std::vector<double>(experts, 0), 0, 0};
    const auto domains = static_cast<double>(used.size());
    for (size_t e = 0; e < experts; ++e) {
        double sum = 0, products = 0;  // H(q) = log S - sum(p log p) / S for q = p / S
        for (size_t i = 0; i < used.size(); ++i) {
            const double p = static_cast<double>(l.by_domain[used[i] * experts + e]) / totals[i];
            sum += p;
            products += log_or_zero(p);
        }
        const bool varied = used.size() > 1;
        out.experts[e] = sum == 0 ? -1 : 0;
        if (sum == 0 || !varied) continue;
        const double entropy = std::log(sum) - products / sum;
        out.experts[e] = std::clamp(1 - entropy / std::log(domains), 0.0, 1.0);
        out.layer += sum / domains * out.experts[e];
    }
    if (used.size() < 2) return out;
    double inverse = 0;
    for (const double total : totals) inverse += 1 / total / domains;
    const double active = static_cast<double>(std::count_if(l.load.load.begin(), l.load.load.end(),
                                                            [](int64_t n) { return n > 0; })) -
                          1;
    out.chance = std::min(1.0, active / 2 * inverse * (1 - 1 / domains) / std::log(domains));
    return out;
}

std::vector<ExpertPair> frequent_pairs(const LayerAtlas& layer, int count) {
    std::vector<ExpertPair> out;
    const auto tokens = static_cast<double>(layer.load.tokens);
    for (int a = 0; a < layer.num_experts(); ++a) {
        for (int b = a + 1; b < layer.num_experts(); ++b) {
            const int64_t n = layer.pair(a, b);
            if (n == 0) continue;
            const double expected = static_cast<double>(layer.load.load[a]) *
                                    static_cast<double>(layer.load.load[b]) / tokens;
            out.push_back({a, b, n, static_cast<double>(n) / expected,
                           (static_cast<double>(n) - expected) / std::sqrt(expected)});
        }
    }
    std::stable_sort(out.begin(), out.end(),
                     [](const auto& x, const auto& y) { return x.z > y.z; });
    if (out.size() > static_cast<size_t>(count)) out.resize(static_cast<size_t>(count));
    return out;
}

}  // namespace muster
