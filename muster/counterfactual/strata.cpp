// SPDX-License-Identifier: Apache-2.0
#include "muster/counterfactual/strata.h"

#include <algorithm>
#include <cmath>

#include "muster/core/error.h"
#include "muster/core/stats.h"

namespace muster {
namespace {

constexpr int kLongestWindow = 512;

template <typename F>
std::vector<int> rows_where(const Window& window, int lead, F condition) {
    std::vector<int> rows;
    for (int t = lead; t < window.rows(); ++t)
        if (condition(window.losses()[static_cast<size_t>(t)])) rows.push_back(t);
    return rows;
}

}  // namespace

void Strata::gather(const Window& window, int lead, std::vector<double>& losses) {
    const auto all = window.losses();
    for (auto t = static_cast<size_t>(lead); t < all.size(); ++t) losses.push_back(all[t]);
}

Strata Strata::of(const std::vector<double>& losses, const CalibrationOptions& options) {
    return {quantile(losses, options.hard), quantile(losses, options.easy), options.lead};
}

std::vector<int> Strata::hard(const Window& window) const {
    return rows_where(window, lead, [this](float loss) { return loss > hard_loss; });
}

std::vector<int> Strata::easy(const Window& window) const {
    return rows_where(window, lead, [this](float loss) { return loss < easy_loss; });
}

int window_tokens(const ModelConfig& config, const CalibrationOptions& o) {
    return o.window > 0 ? o.window : std::min(config.context, kLongestWindow);
}

void check_options(const ModelConfig& config, const CalibrationOptions& o) {
    const auto expect = [](bool good, const std::string& what, const std::string& expected) {
        if (!good) throw Error("calibration", what + ", expected " + expected);
    };
    const auto text = [](double x) { return std::to_string(x); };
    const int window = window_tokens(config, o);
    expect(window >= kShortestWindow && window <= config.context,
           "a window of " + std::to_string(window) + " tokens",
           std::to_string(kShortestWindow) + " to " + std::to_string(config.context) +
               ", the model's context");
    expect(o.easy > 0 && o.easy <= o.hard && o.hard < 1,
           "quantiles " + text(o.easy) + " and " + text(o.hard), "0 < easy <= hard < 1");
    expect(o.lead >= 0 && o.lead + kShortestWindow / 2 <= window,
           "a lead of " + std::to_string(o.lead) + " tokens",
           "0 to " + std::to_string(window - kShortestWindow / 2) + ", which leaves something");
    expect(o.epsilon >= 0 && std::isfinite(o.epsilon), "epsilon " + text(o.epsilon), "at least 0");
    expect(o.noise > 0 && o.noise <= 1, "noise " + text(o.noise), "above 0 and at most 1");
    expect(o.draws >= 1 && o.draws <= 1000, std::to_string(o.draws) + " draws", "1 to 1000");
    expect(o.impacts == ImpactRule::users || o.ablation == Ablation::next,
           "impacts at the boundary under shared weight", "the next expert in the place");
    expect(o.ablation == Ablation::next || baseline_experts(config, o) > 1,
           "a baseline of 1 expert, whose weight no other can take",
           "the next expert in the place");
    expect(o.max_shift >= 0, "a shift of " + std::to_string(o.max_shift), "at least 0");
    expect(o.lambda >= 0 && o.lambda <= ActivationPlan::kMostLambda, "lambda " + text(o.lambda),
           "0 to 1000000");
    expect(o.clusters >= 0, std::to_string(o.clusters) + " clusters", "at least 0");
    expect(o.confidence > 0 && o.confidence < 1, "confidence " + text(o.confidence),
           "a share between 0 and 1");
    for (const int l : o.layers)
        expect(l >= 0 && l < config.num_layers(), "layer " + std::to_string(l),
               "one below " + std::to_string(config.num_layers()));
}

int budget_reach(const ModelConfig& config, const CalibrationOptions& o) {
    constexpr int kReach = 2;
    if (o.budgets != BudgetRule::loss) return 0;
    const int k = baseline_experts(config, o);
    int most = k;
    for (const FeedForwardConfig& ff : config.layers)
        if (!ff.dense()) most = std::max(most, most_experts(ff.router));
    return std::min(o.max_shift > 0 ? o.max_shift : kReach, std::max(k - 1, most - k));
}

std::vector<int> measured_layers(const ModelConfig& config, const CalibrationOptions& o) {
    std::vector<int> layers;
    for (int l = 0; l < config.num_layers(); ++l) {
        const bool wanted =
            o.layers.empty() || std::find(o.layers.begin(), o.layers.end(), l) != o.layers.end();
        if (wanted && !config.layers[static_cast<size_t>(l)].dense()) layers.push_back(l);
    }
    if (layers.empty())
        throw Error("calibration", "no layer to measure, expected one with several experts");
    return layers;
}

RoutingPolicy top_k_policy(int k) {
    RoutingPolicy policy;
    policy.selection = Selection::top_k;
    policy.values = {static_cast<double>(k)};
    return policy;
}

}  // namespace muster
