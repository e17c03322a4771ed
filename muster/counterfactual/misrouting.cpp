// SPDX-License-Identifier: Apache-2.0
#include "muster/counterfactual/misrouting.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/counterfactual/strata.h"
#include "muster/counterfactual/window.h"

namespace muster {
namespace {

/// k experts drawn without replacement, each in proportion to its softmax among those left (Gumbel
/// top-k, arXiv 1903.06059).
std::vector<int> drawn_route(std::span<const float> logits, int k, Random& random) {
    std::vector<double> keys;
    for (const float x : logits)
        keys.push_back(x - std::log(-std::log(random.uniform() * (1 - 1e-12) + 1e-13)));
    std::vector<int> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](int a, int b) {
        return keys[static_cast<size_t>(a)] > keys[static_cast<size_t>(b)];
    });
    order.resize(static_cast<size_t>(k));
    return order;
}

/// Of one window, summed over its rows.
struct Sums {
    double rows = 0, better = 0, drawn = 0, any = 0, gain = 0;
};

class Analysis {
  public:
    Analysis(const Model& model, Executor& executor, const CalibrationOptions& calibration,
             const MisroutingOptions& options)
        : model_(model),
          options_(options),
          k_(baseline_experts(model.config(), calibration)),
          seed_(calibration.seed),
          window_(model, executor, window_tokens(model.config(), calibration), top_k_policy(k_),
                  calibration.compute, calibration.kv) {}

    Window& window() noexcept { return window_; }

    /// Alternatives of some of `rows` in layer l.
    Sums measure(int l, const std::vector<int>& rows, uint64_t stream) {
        Random random(mix64(seed_ + stream));
        const size_t step =
            std::max<size_t>(1, (rows.size() + static_cast<size_t>(options_.rows) - 1) /
                                    static_cast<size_t>(options_.rows));
        std::vector<int> chosen;
        for (size_t i = 0; i < rows.size(); i += step) chosen.push_back(rows[i]);
        std::vector<RequestRouting> routings;
        for (const int t : chosen)
            for (int a = 0; a < options_.alternatives; ++a)
                routings.push_back(routing_of(l, t, random));
        std::vector<Branch> branches;
        for (size_t i = 0; i < routings.size(); ++i)
            branches.push_back(
                {chosen[i / static_cast<size_t>(options_.alternatives)], &routings[i]});
        std::vector<float> losses(branches.size());
        window_.branch(l, branches, nullptr, losses);
        return sum(chosen, losses);
    }

  private:
    RequestRouting routing_of(int l, int t, Random& random) const {
        const MatrixView<const float> logits = window_.logits(l);
        RoutingPolicy policy = top_k_policy(k_);
        for (const int e :
             drawn_route({logits.row(t), static_cast<size_t>(logits.cols)}, k_, random))
            policy.force.emplace_back(l, e);
        return {model_.config(), policy};
    }

    Sums sum(const std::vector<int>& chosen, const std::vector<float>& losses) const {
        Sums s;
        const auto each = static_cast<size_t>(options_.alternatives);
        for (size_t i = 0; i < chosen.size(); ++i) {
            const double own = window_.losses()[static_cast<size_t>(chosen[i])];
            double best = 0;
            for (size_t a = 0; a < each; ++a) {
                const double gain = own - losses[i * each + a];
                s.better += gain > options_.least_gain;
                best = std::max(best, gain);
            }
            s.rows += 1;
            s.drawn += static_cast<double>(each);
            s.any += best > options_.least_gain;
            s.gain += best;
        }
        return s;
    }

    const Model& model_;
    const MisroutingOptions& options_;
    const int k_;
    const uint64_t seed_;
    Window window_;
};

Misrouting concluded(const std::vector<Sums>& windows, double confidence) {
    Misrouting out;
    std::vector<double> rows, drawn, better, any, gain;
    for (const Sums& s : windows) {
        if (s.rows == 0) continue;
        out.tokens += static_cast<int64_t>(s.rows);
        rows.push_back(s.rows), drawn.push_back(s.drawn), better.push_back(s.better);
        any.push_back(s.any), gain.push_back(s.gain);
    }
    if (out.tokens == 0) return out;
    out.better_share = bootstrap_ratio(better, drawn, confidence);
    out.any_better = bootstrap_ratio(any, rows, confidence);
    out.best_gain = bootstrap_ratio(gain, rows, confidence);
    return out;
}

Strata strata_of(Analysis& analysis, std::span<const std::vector<int32_t>> windows,
                 const CalibrationOptions& o) {
    std::vector<double> losses;
    for (const auto& tokens : windows) {
        analysis.window().read(tokens);
        Strata::gather(analysis.window(), o.lead, losses);
    }
    return Strata::of(losses, o);
}

}  // namespace

CalibrationCost misrouting_cost(const Model& model, std::span<const std::vector<int32_t>> windows,
                                const CalibrationOptions& calibration,
                                const MisroutingOptions& options) {
    CalibrationCost cost;
    const int layers = model.config().num_layers();
    cost.windows = static_cast<int64_t>(windows.size());
    for (const auto& w : windows) cost.tokens += static_cast<int64_t>(w.size()) - 1;
    cost.passes = 2;
    cost.row_layers = 2 * cost.tokens * layers;
    for (const int l : measured_layers(model.config(), calibration)) {
        const int64_t drawn = cost.windows * 2 * options.rows * options.alternatives;
        cost.ablations += drawn;
        cost.row_layers += drawn * (layers - l);
    }
    return cost;
}

std::vector<MisroutingLayer> analyse_misrouting(const Model& model, Executor& executor,
                                                std::span<const std::vector<int32_t>> windows,
                                                const CalibrationOptions& calibration,
                                                const MisroutingOptions& options) {
    check_options(model.config(), calibration);
    if (options.alternatives < 1 || options.rows < 1)
        throw Error("misrouting", "no routes to draw, expected at least 1 route of 1 token");
    const std::vector<int> layers = measured_layers(model.config(), calibration);
    Analysis analysis(model, executor, calibration, options);
    const Strata strata = strata_of(analysis, windows, calibration);
    std::vector<std::vector<Sums>> hard(layers.size()), easy(layers.size());
    const auto total = static_cast<int64_t>(windows.size() * layers.size());
    int64_t done = 0;
    const auto start = std::chrono::steady_clock::now();
    for (size_t w = 0; w < windows.size(); ++w) {
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        if (w > 0 && calibration.seconds > 0 && seconds.count() >= calibration.seconds) break;
        analysis.window().read(windows[w]);
        const std::vector<int> hard_rows = strata.hard(analysis.window()),
                               easy_rows = strata.easy(analysis.window());
        for (size_t i = 0; i < layers.size(); ++i) {
            const uint64_t stream = 2 * (w * layers.size() + i);
            hard[i].push_back(analysis.measure(layers[i], hard_rows, stream));
            easy[i].push_back(analysis.measure(layers[i], easy_rows, stream + 1));
            if (calibration.progress && !calibration.progress("drawing routes", ++done, total))
                return {};
        }
    }
    std::vector<MisroutingLayer> out;
    for (size_t i = 0; i < layers.size(); ++i)
        out.push_back({layers[i], concluded(hard[i], calibration.confidence),
                       concluded(easy[i], calibration.confidence)});
    return out;
}

}  // namespace muster
