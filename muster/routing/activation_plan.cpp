// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/activation_plan.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "muster/core/error.h"
#include "muster/core/random.h"

namespace muster {
namespace {

constexpr uint64_t kDeal = 0x706c616e;  // of the random controls

/// A permutation of n things, a function of all of its arguments.
std::vector<int> dealt(size_t n, int deal, uint64_t stream) {
    std::vector<int> order(n);
    std::iota(order.begin(), order.end(), 0);
    Random random(mix64(kDeal + static_cast<uint64_t>(deal)) + stream);
    random.shuffle(std::span(order));
    return order;
}

/// Deals the budgets of MoE layers, which are above 0, to these layers at random. The greatest
/// choose first: whoever fits them leaves the others room, for every layer that has room for a
/// greater budget has room for a smaller one.
void deal_out(std::vector<int>& budgets, std::span<const int> most, int deal) {
    MUSTER_ASSERT(most.size() == budgets.size());
    std::vector<int> left;
    std::vector<size_t> free;
    for (const int layer : dealt(budgets.size(), deal, 0)) {
        if (budgets[static_cast<size_t>(layer)] == 0) continue;
        free.push_back(static_cast<size_t>(layer));
        left.push_back(budgets[free.back()]);
    }
    std::sort(left.begin(), left.end(), std::greater<>());
    for (const int budget : left) {
        const auto fits =
            std::find_if(free.begin(), free.end(), [&](size_t l) { return most[l] >= budget; });
        if (fits == free.end())
            throw Error("plan", "a budget of " + std::to_string(budget) +
                                    " that no layer has room for, expected budgets of this model");
        budgets[*fits] = budget;
        free.erase(fits);
    }
}

constexpr double kLargest = ActivationPlan::kMostLambda;  // nats, too

bool sensible(const Interval& x) {
    return std::abs(x.mean) <= kLargest && !std::isnan(x.low) && !std::isnan(x.high);
}

template <typename T>
bool sensible(const std::vector<T>& values, double low, double high) {
    return std::all_of(values.begin(), values.end(), [low, high](T x) {
        return static_cast<double>(x) >= low && static_cast<double>(x) <= high;
    });
}

/// As how many tokens of a cluster the impact over all contexts counts.
constexpr double kPriorTokens = 8;

/// What has been measured of a layer's experts.
struct Impacts {
    std::vector<double> mean;
    std::vector<bool> known;
};

Impacts impacts_of(const ActivationPlan& plan, int l, int cluster) {
    const auto& experts = plan.layers[static_cast<size_t>(l)].experts;
    Impacts out;
    for (size_t e = 0; e < experts.size(); ++e) {
        bool known = experts[e].tokens > 0;
        double mean = experts[e].impact.mean;
        if (cluster >= 0) {
            const ContextCluster& c = plan.clusters[static_cast<size_t>(cluster)];
            const auto tokens = static_cast<double>(c.tokens[static_cast<size_t>(l)][e]);
            if (tokens > 0) {
                const double prior = known ? kPriorTokens : 0;
                mean = (tokens * c.impact[static_cast<size_t>(l)][e] + prior * mean) /
                       (tokens + prior);
                known = true;
            }
        }
        out.mean.push_back(mean);
        out.known.push_back(known);
    }
    return out;
}

}  // namespace

void ActivationPlan::check(std::span<const int> experts, std::string_view where) const {
    const auto require = [&](bool holds, const std::string& what, const std::string& expected) {
        if (!holds) throw Error(where, what + ", expected " + expected);
    };
    require(layers.size() == experts.size(), std::to_string(layers.size()) + " layers",
            std::to_string(experts.size()));
    require(lambda >= 0 && lambda <= kLargest, "a lambda that makes no sense", "0 to 1000000");
    int64_t total = 0, moe = 0;
    for (size_t l = 0; l < layers.size(); ++l) {
        const LayerEvidence& layer = layers[l];
        const std::string here = "layer " + std::to_string(l);
        const int n = experts[l] > 1 ? experts[l] : 0;
        require(layer.experts.size() == static_cast<size_t>(n),
                here + " with " + std::to_string(layer.experts.size()) + " experts",
                std::to_string(n));
        require(n == 0 ? layer.budget == 0 : layer.budget >= 1 && layer.budget <= n,
                here + " with a budget of " + std::to_string(layer.budget),
                n == 0 ? "0, it is dense" : "1 to " + std::to_string(n));
        for (const ExpertEvidence& e : layer.experts)
            require(e.tokens >= 0 && std::isfinite(e.gate_rank) && sensible(e.impact),
                    here + " with evidence that makes no sense",
                    "impacts of at most 1000000 nats, numbers of tokens and gate ranks");
        for (const NumberEvidence& x : layer.numbers)
            require(sensible(x.change) && x.experts >= 1 && x.experts <= n,
                    here + " with a number of experts that makes no sense",
                    "1 to " + std::to_string(n));
        total += layer.budget;
        moe += n > 0;
    }
    require(total == moe * experts_per_token, "budgets that sum to " + std::to_string(total),
            std::to_string(moe * experts_per_token) + ", the baseline's activations of a token");
    for (const ContextCluster& c : clusters) {
        bool fits = c.centre.size() == layers.size() && c.impact.size() == layers.size() &&
                    c.tokens.size() == layers.size();
        for (size_t l = 0; fits && l < layers.size(); ++l) {
            const size_t n = layers[l].experts.size();
            fits = c.centre[l].size() == n && c.impact[l].size() == n && c.tokens[l].size() == n &&
                   sensible(c.centre[l], 0, 1) && sensible(c.impact[l], -kLargest, kLargest) &&
                   sensible(c.tokens[l], 0, 1e15);
        }
        require(fits, "a context cluster of another shape, or with values that make no sense",
                "values for each layer and expert");
    }
}

std::vector<int> ActivationPlan::budgets(PlanUse use, std::span<const int> most, int deal) const {
    std::vector<int> out;
    out.reserve(layers.size());
    for (const LayerEvidence& layer : layers) out.push_back(layer.budget);
    if (use == PlanUse::experts || use == PlanUse::random_experts) {
        for (int& k : out) k = k > 0 ? experts_per_token : 0;
    } else if (use == PlanUse::random_layers || use == PlanUse::random) {
        deal_out(out, most, deal);
    }
    return out;
}

std::vector<float> ActivationPlan::boosts(int l, PlanUse use, double weight, int cluster,
                                          int deal) const {
    if (!takes_impacts(use)) return {};
    const Impacts impacts = impacts_of(*this, l, cluster);
    double low = 0, high = 0;
    bool any = false;
    for (size_t e = 0; e < impacts.mean.size(); ++e) {
        if (!impacts.known[e]) continue;
        low = any ? std::min(low, impacts.mean[e]) : impacts.mean[e];
        high = any ? std::max(high, impacts.mean[e]) : impacts.mean[e];
        any = true;
    }
    std::vector<float> out(impacts.mean.size(), 0.0f);
    if (high > low)
        for (size_t e = 0; e < out.size(); ++e)
            if (impacts.known[e])
                out[e] = static_cast<float>(weight * (impacts.mean[e] - low) / (high - low));
    if (use != PlanUse::random_experts && use != PlanUse::random) return out;
    const std::vector<int> order = dealt(out.size(), deal, 1 + static_cast<uint64_t>(l));
    std::vector<float> mixed(out.size());
    for (size_t e = 0; e < out.size(); ++e) mixed[e] = out[static_cast<size_t>(order[e])];
    return mixed;
}

}  // namespace muster
