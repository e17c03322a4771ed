// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "muster/core/error.h"

namespace muster {
namespace {

void fit(LoadStatistics& statistics, size_t experts) {
    if (statistics.load.empty()) {
        statistics.load.resize(experts);
        statistics.weight.resize(experts);
    }
    // Training checkpoints restore loads and weights alone.
    if (statistics.scored.empty()) {
        statistics.scored.resize(experts);
        statistics.loss.resize(experts);
    }
    MUSTER_ASSERT(statistics.load.size() == experts && statistics.weight.size() == experts);
    MUSTER_ASSERT(statistics.scored.size() == experts && statistics.loss.size() == experts);
}

}  // namespace

void LoadStatistics::add(const RouteTable& routes) {
    fit(*this, static_cast<size_t>(routes.num_experts));
    for (int a = 0; a < routes.activations(); ++a) {
        ++load[routes.experts[a]];
        weight[routes.experts[a]] += routes.weights[a];
    }
    tokens += routes.tokens();
}

void LoadStatistics::add(int num_experts, std::span<const int32_t> experts,
                         std::span<const float> weights) {
    fit(*this, static_cast<size_t>(num_experts));
    for (size_t i = 0; i < experts.size(); ++i) {
        ++load[experts[i]];
        weight[experts[i]] += weights[i];
    }
    ++tokens;
}

void LoadStatistics::add_loss(std::span<const int32_t> experts, double nats) {
    for (const int32_t e : experts) {
        ++scored[e];
        loss[e] += nats;
    }
}

void LoadStatistics::merge(const LoadStatistics& other) {
    if (other.load.empty()) return;
    fit(*this, other.load.size());
    for (size_t e = 0; e < load.size(); ++e) {
        load[e] += other.load[e];
        weight[e] += other.weight[e];
    }
    for (size_t e = 0; e < other.scored.size(); ++e) {
        scored[e] += other.scored[e];
        loss[e] += other.loss[e];
    }
    tokens += other.tokens;
}

int64_t LoadStatistics::activations() const noexcept {
    return std::accumulate(load.begin(), load.end(), int64_t{0});
}

double LoadStatistics::experts_per_token() const noexcept {
    return tokens > 0 ? static_cast<double>(activations()) / static_cast<double>(tokens) : 0;
}

double LoadStatistics::coefficient_of_variation() const noexcept {
    const double total = static_cast<double>(activations());
    if (total == 0) return 0;
    const double mean = total / static_cast<double>(load.size());
    double squares = 0;
    for (const int64_t n : load)
        squares += (static_cast<double>(n) - mean) * (static_cast<double>(n) - mean);
    return std::sqrt(squares / static_cast<double>(load.size())) / mean;
}

double LoadStatistics::max_over_mean() const noexcept {
    const double total = static_cast<double>(activations());
    if (total == 0) return 0;
    const int64_t most = *std::max_element(load.begin(), load.end());
    return static_cast<double>(most) * static_cast<double>(load.size()) / total;
}

double LoadStatistics::entropy() const noexcept {
    const double total = static_cast<double>(activations());
    double sum = 0;
    for (const int64_t n : load) {
        if (n == 0) continue;
        const double share = static_cast<double>(n) / total;
        sum -= share * std::log(share);
    }
    return sum;
}

int LoadStatistics::dead_experts() const noexcept {
    return static_cast<int>(std::count(load.begin(), load.end(), 0));
}

}  // namespace muster
