// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "muster/core/stats.h"
#include "muster/counterfactual/budgets.h"
#include "muster/counterfactual/clusters.h"
#include "muster/counterfactual/measurements.h"
#include "muster/counterfactual/strata.h"

namespace muster {
namespace {

constexpr int kBootstraps = 1000;
constexpr double kTie = 1e-12;         // nats: nothing moves without evidence
constexpr int64_t kDormantTokens = 8;  // least evidence of a dormant expert

using Windows = std::vector<WindowMeasurement>;

/// Windows with the parity, or all.
enum class Half : uint8_t { all, even, odd };

bool within(Half half, size_t w) {
    return half == Half::all || (w % 2 == 0) == (half == Half::even);
}

double over(double sum, double count) {
    return count > 0 ? sum / count : std::numeric_limits<double>::quiet_NaN();
}

/// Mean changes of the loss in layer l, windows counted so often.
struct Sensitivity {
    double hard = 0, easy = 0;
    double contrast(double epsilon) const { return hard / (easy + epsilon); }
};

Sensitivity sensitivity(const Windows& windows, size_t l, std::span<const int> counts) {
    double hard = 0, easy = 0, hard_rows = 0, easy_rows = 0;
    for (size_t w = 0; w < windows.size(); ++w) {
        const double c = counts.empty() ? 1 : counts[w];
        hard += c * windows[w].layers[l].hard;
        easy += c * windows[w].layers[l].easy;
        hard_rows += c * static_cast<double>(windows[w].hard_rows);
        easy_rows += c * static_cast<double>(windows[w].easy_rows);
    }
    return {over(hard, hard_rows), over(easy, easy_rows)};
}

bool measured(const Windows& windows, size_t l) { return !windows[0].layers[l].impact.empty(); }

void take_sensitivity(const Windows& windows, size_t l, const CalibrationOptions& options,
                      LayerEvidence& out) {
    const auto interval = [&](auto value) {
        return bootstrap(
            windows.size(),
            [&](std::span<const int> counts) { return value(sensitivity(windows, l, counts)); },
            options.confidence, kBootstraps);
    };
    out.hard = interval([](const Sensitivity& s) { return s.hard; });
    out.easy = interval([](const Sensitivity& s) { return s.easy; });
    out.contrast = interval([&](const Sensitivity& s) { return s.contrast(options.epsilon); });
}

/// A text without hard or without easy tokens has no contrast.
void make_finite(Interval& x) {
    if (!std::isfinite(x.mean)) x = {};
}

struct ImpactSum {
    double sum = 0;
    int64_t tokens = 0;
};

ImpactSum impact_of(const Windows& windows, size_t l, size_t e, Half half) {
    ImpactSum s;
    for (size_t w = 0; w < windows.size(); ++w) {
        if (!within(half, w)) continue;
        s.sum += windows[w].layers[l].impact[e];
        s.tokens += windows[w].layers[l].tokens[e];
    }
    return s;
}

ExpertEvidence evidence_of(const Windows& windows, size_t l, size_t e, double confidence) {
    ExpertEvidence out;
    std::vector<double> sums, counts;
    double rank = 0, rows = 0;
    for (const WindowMeasurement& w : windows) {
        rank += w.layers[l].rank[e];
        rows += static_cast<double>(w.rows);
        out.tokens += w.layers[l].tokens[e];
        if (w.layers[l].tokens[e] == 0) continue;
        sums.push_back(w.layers[l].impact[e]);
        counts.push_back(static_cast<double>(w.layers[l].tokens[e]));
    }
    out.gate_rank = rank / rows;
    if (out.tokens > 0) out.impact = bootstrap_ratio(sums, counts, confidence, kBootstraps);
    return out;
}

/// Among the quarter of the layer's experts with the highest impact, surely above 0, and in the
/// lower half by the gate's rank.
void name_dormant(std::vector<ExpertEvidence>& experts) {
    std::vector<double> impacts, gate_ranks;
    for (const ExpertEvidence& e : experts) {
        gate_ranks.push_back(e.gate_rank);
        if (e.tokens > 0) impacts.push_back(e.impact.mean);
    }
    if (impacts.size() < 4) return;
    const double high = quantile(impacts, 0.75), middle = quantile(gate_ranks, 0.5);
    for (ExpertEvidence& e : experts)
        e.dormant = e.tokens >= kDormantTokens && e.impact.mean >= high && e.impact.low > 0 &&
                    e.gate_rank > middle;
}

void share_out(const ModelConfig& config, const CalibrationOptions& options, int k,
               std::vector<LayerEvidence>& layers) {
    std::vector<double> worth;
    std::vector<int> low, high;
    std::vector<size_t> which;
    for (size_t l = 0; l < layers.size(); ++l) {
        if (config.layers[l].dense()) continue;
        layers[l].budget = k;
        if (!(layers[l].contrast.mean > 0)) continue;
        const int most = most_experts(config.layers[l].router);
        const int shift = options.max_shift > 0 ? options.max_shift : most;
        which.push_back(l);
        worth.push_back(layers[l].contrast.mean);
        low.push_back(std::max(1, k - shift));
        high.push_back(std::max(k, std::min(most, k + shift)));
    }
    const std::vector<int> budgets =
        share_budget(worth, k * static_cast<int>(which.size()), low, high);
    for (size_t i = 0; i < which.size(); ++i) layers[which[i]].budget = budgets[i];
}

/// Numbers of experts in the measured layers, and what each does to the loss.
class Numbers {
  public:
    Numbers(const ModelConfig& config, const Windows& windows, int k,
            const CalibrationOptions& options)
        : windows_(windows), k_(k), reach_(budget_reach(config, options)), lead_(options.lead) {
        for (size_t l = 0; l < windows[0].layers.size(); ++l) {
            if (!measured(windows, l)) continue;
            layers_.push_back(l);
            low_.push_back(std::max(1, k - reach_));
            high_.push_back(std::min(most_experts(config.layers[l].router), k + reach_));
        }
    }

    const std::vector<size_t>& layers() const noexcept { return layers_; }

    /// Whether the half has rows that were measured.
    bool any(Half half) const {
        double rows = 0;
        for (size_t w = 0; w < windows_.size(); ++w)
            if (within(half, w)) rows += rows_of(w);
        return rows > 0;
    }
    /// Mean change of the loss per token with n experts in measured layer i.
    double change(size_t i, int n, Half half) const {
        double sum = 0, rows = 0;
        for (size_t w = 0; w < windows_.size(); ++w) {
            if (!within(half, w)) continue;
            sum += sum_of(w, i, n);
            rows += rows_of(w);
        }
        return rows > 0 ? sum / rows : 0;
    }
    Interval interval(size_t i, int n, double confidence) const {
        std::vector<double> sums, rows;
        for (size_t w = 0; w < windows_.size(); ++w) {
            if (rows_of(w) == 0) continue;
            sums.push_back(sum_of(w, i, n));
            rows.push_back(rows_of(w));
        }
        return sums.empty() ? Interval{} : bootstrap_ratio(sums, rows, confidence, kBootstraps);
    }
    /// Budgets of the measured layers.
    std::vector<int> cheapest(Half half) const {
        std::vector<std::vector<double>> costs(layers_.size());
        for (size_t i = 0; i < layers_.size(); ++i)
            for (int n = low_[i]; n <= high_[i]; ++n)
                costs[i].push_back(n == k_ ? 0 : change(i, n, half) + kTie * std::abs(n - k_));
        return cheapest_budgets(costs, low_, k_ * static_cast<int>(layers_.size()));
    }
    double changed(const std::vector<int>& budgets, Half half) const {
        double sum = 0;
        for (size_t i = 0; i < layers_.size(); ++i)
            if (budgets[i] != k_) sum += change(i, budgets[i], half);
        return sum;
    }
    std::vector<NumberEvidence> evidence(size_t i, double confidence) const {
        std::vector<NumberEvidence> out;
        for (int n = low_[i]; n <= high_[i]; ++n)
            if (n != k_) out.push_back({n, interval(i, n, confidence)});
        return out;
    }

  private:
    double sum_of(size_t w, size_t i, int n) const {
        return windows_[w]
            .layers[layers_[i]]
            .numbers[static_cast<size_t>(int64_t{n} - k_ + reach_)];
    }
    double rows_of(size_t w) const {
        return static_cast<double>(std::max<int64_t>(0, windows_[w].rows - lead_));
    }

    const Windows& windows_;
    const int k_, reach_, lead_;
    std::vector<size_t> layers_;
    std::vector<int> low_, high_;
};

/// Fills budgets and their evidence; gives what budgets chosen on one half of the windows change on
/// the other.
double share_by_loss(const ModelConfig& config, const Windows& windows,
                     const CalibrationOptions& options, ActivationPlan& plan) {
    const int k = plan.experts_per_token;
    const Numbers numbers(config, windows, k, options);
    for (size_t l = 0; l < plan.layers.size(); ++l)
        if (!config.layers[l].dense()) plan.layers[l].budget = k;
    const std::vector<int> budgets = numbers.cheapest(Half::all);
    for (size_t i = 0; i < budgets.size(); ++i) {
        LayerEvidence& layer = plan.layers[numbers.layers()[i]];
        layer.budget = budgets[i];
        layer.numbers = numbers.evidence(i, options.confidence);
    }
    if (!numbers.any(Half::odd) || !numbers.any(Half::even))
        return std::numeric_limits<double>::quiet_NaN();
    return (numbers.changed(numbers.cheapest(Half::odd), Half::even) +
            numbers.changed(numbers.cheapest(Half::even), Half::odd)) /
           2;
}

/// Layers that were not measured have values too, which say nothing.
void fill_unmeasured(const ModelConfig& config, ContextCluster& c) {
    for (size_t l = 0; l < config.layers.size(); ++l) {
        const auto n = static_cast<size_t>(config.layers[l].experts());
        if (config.layers[l].dense() || !c.centre[l].empty()) continue;
        c.centre[l].assign(n, 0);
        c.impact[l].assign(n, 0);
        c.tokens[l].assign(n, 0);
    }
}

double contrast_reliability(const Windows& windows, double epsilon) {
    std::vector<double> halves[2];
    for (size_t l = 0; l < windows[0].layers.size(); ++l) {
        if (!measured(windows, l)) continue;
        double contrasts[2];
        for (const Half half : {Half::even, Half::odd}) {
            std::vector<int> counts(windows.size());
            for (size_t w = 0; w < windows.size(); ++w) counts[w] = within(half, w);
            contrasts[half == Half::odd] = sensitivity(windows, l, counts).contrast(epsilon);
        }
        if (!std::isfinite(contrasts[0]) || !std::isfinite(contrasts[1])) continue;
        for (int h = 0; h < 2; ++h) halves[h].push_back(contrasts[h]);
    }
    return correlation(ranks(halves[0]), ranks(halves[1]));
}

/// Impacts less their layer's mean, which says nothing of the choice within a layer.
double impact_reliability(const Windows& windows) {
    std::vector<double> all[2];
    for (size_t l = 0; l < windows[0].layers.size(); ++l) {
        std::vector<double> halves[2];
        for (size_t e = 0; e < windows[0].layers[l].impact.size(); ++e) {
            const ImpactSum a = impact_of(windows, l, e, Half::even);
            const ImpactSum b = impact_of(windows, l, e, Half::odd);
            if (a.tokens == 0 || b.tokens == 0) continue;
            halves[0].push_back(a.sum / static_cast<double>(a.tokens));
            halves[1].push_back(b.sum / static_cast<double>(b.tokens));
        }
        for (int h = 0; h < 2; ++h) {
            const double mean = over(std::accumulate(halves[h].begin(), halves[h].end(), 0.0),
                                     static_cast<double>(halves[h].size()));
            for (const double x : halves[h]) all[h].push_back(x - mean);
        }
    }
    return correlation(all[0], all[1]);
}

}  // namespace

CalibrationResult conclude(const ModelConfig& config, const Measurements& m,
                           const CalibrationOptions& options) {
    CalibrationResult result;
    result.windows = static_cast<int64_t>(m.windows.size());
    result.hard_loss = m.hard_loss;
    result.easy_loss = m.easy_loss;
    ActivationPlan& plan = result.plan;
    plan.experts_per_token = baseline_experts(config, options);
    plan.lambda = options.lambda;
    plan.settings = m.settings;
    for (size_t l = 0; l < config.layers.size(); ++l) {
        LayerEvidence& layer = plan.layers.emplace_back();
        if (config.layers[l].dense()) continue;
        layer.experts.resize(static_cast<size_t>(config.layers[l].experts()));
        if (!measured(m.windows, l)) continue;
        take_sensitivity(m.windows, l, options, layer);
        for (Interval* x : {&layer.hard, &layer.easy, &layer.contrast}) make_finite(*x);
        for (size_t e = 0; e < layer.experts.size(); ++e)
            layer.experts[e] = evidence_of(m.windows, l, e, options.confidence);
        name_dormant(layer.experts);
    }
    result.budget_change = std::numeric_limits<double>::quiet_NaN();
    if (options.budgets == BudgetRule::loss) {
        result.budget_change = share_by_loss(config, m.windows, options, plan);
    } else {
        share_out(config, options, plan.experts_per_token, plan.layers);
    }
    if (options.clusters > 1) plan.clusters = context_clusters(m.windows, options.clusters);
    for (ContextCluster& c : plan.clusters) fill_unmeasured(config, c);
    result.contrast_reliability = contrast_reliability(m.windows, options.epsilon);
    result.impact_reliability = impact_reliability(m.windows);
    return result;
}

}  // namespace muster
