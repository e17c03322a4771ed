// SPDX-License-Identifier: Apache-2.0
#include "muster/counterfactual/calibration.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/core/stats.h"
#include "muster/counterfactual/measurements.h"
#include "muster/counterfactual/strata.h"
#include "muster/counterfactual/weight_sharing.h"
#include "muster/counterfactual/window.h"
#include "muster/model/request_routing.h"

namespace muster {
namespace {

using Clock = std::chrono::steady_clock;

uint64_t hash_of(std::span<const std::vector<int32_t>> windows) {
    uint64_t h = windows.size();
    for (const auto& w : windows) {
        h = mix64(h + w.size());
        for (const int32_t id : w) h = mix64(h ^ static_cast<uint64_t>(id));
    }
    return h;
}

std::string settings_of(const Model& model, std::span<const std::vector<int32_t>> windows,
                        const CalibrationOptions& o) {
    return nlohmann::ordered_json{
        {"model", std::to_string(model.hash())},
        {"text", std::to_string(hash_of(windows))},
        {"experts_per_token", baseline_experts(model.config(), o)},
        {"window", window_tokens(model.config(), o)},
        {"hard", o.hard},
        {"easy", o.easy},
        {"noise", o.noise},
        {"draws", o.draws},
        {"ablation", o.ablation == Ablation::next ? "next" : "share"},
        {"lead", o.lead},
        {"reach", budget_reach(model.config(), o)},
        {"impacts", o.impacts == ImpactRule::users ? "users" : "boundary"},
        {"layers", measured_layers(model.config(), o)},
        {"compute", static_cast<int>(o.compute)},
        {"kv", dtype_info(o.kv).name},
        {"seed", o.seed}}
        .dump();
}

/// Sees the experts that each row of batches of branches takes in a layer.
class ChosenExperts final : public Intervention {
  public:
    explicit ChosenExperts(int layer) : layer_(layer) {}
    std::vector<std::vector<int32_t>> routes;  ///< [rows of all batches], strongest first

    bool touches(int l) const override { return l == layer_; }
    void after_route(int /*l*/, const RowInfo& /*rows*/, RouteTable& table) override {
        for (int t = 0; t < table.tokens(); ++t) {
            const auto experts = table.token_experts(t);
            routes.emplace_back(experts.begin(), experts.end());
        }
    }

  private:
    int layer_;
};

bool same_but_last(std::span<const int32_t> a, std::span<const int32_t> b) {
    return a.size() == b.size() && !a.empty() &&
           std::is_permutation(a.begin(), a.end() - 1, b.begin());
}

/// One calibration's measuring.
class Measuring {
  public:
    Measuring(const Model& model, Executor& executor, std::span<const std::vector<int32_t>> windows,
              const CalibrationOptions& options)
        : config_(model.config()),
          windows_(windows),
          options_(options),
          k_(baseline_experts(config_, options)),
          layers_(measured_layers(config_, options)),
          cost_(calibration_cost(model, windows, options)),
          window_(model, executor, window_tokens(config_, options), top_k_policy(k_),
                  options.compute, options.kv) {
        measured_.settings = settings_of(model, windows, options);
        without_.resize(config_.layers.size());
    }

    /// False: stopped.
    bool run() {
        find_earlier();
        if (measured_.windows.empty() && !find_strata()) return false;
        save();
        auto saved = Clock::now();
        while (measured_.windows.size() < windows_.size() && !time_is_up()) {
            WindowMeasurement m;
            if (!measure(windows_[measured_.windows.size()], m)) {
                save();
                if (time_is_up()) break;
                return false;
            }
            measured_.windows.push_back(std::move(m));
            if (seconds_since(saved) < options_.save_seconds) continue;
            save();
            saved = Clock::now();
        }
        save();
        return true;
    }
    const Measurements& measured() const noexcept { return measured_; }

  private:
    static double seconds_since(Clock::time_point time) {
        return std::chrono::duration<double>(Clock::now() - time).count();
    }
    /// Never before a window is measured.
    bool time_is_up() const {
        return options_.seconds > 0 && !measured_.windows.empty() &&
               seconds_since(start_) >= options_.seconds;
    }
    bool work(std::string_view what, int64_t row_layers) {
        done_ += row_layers;
        if (time_is_up()) return false;
        return !options_.progress ||
               options_.progress(what, std::min(done_, cost_.row_layers), cost_.row_layers);
    }
    int depth(int l) const noexcept { return config_.num_layers() - l; }

    void find_earlier() {
        if (options_.state.empty()) return;
        auto earlier = read_measurements(options_.state, measured_.settings);
        if (!earlier) return;
        measured_ = std::move(*earlier);
        if (measured_.windows.size() > windows_.size() || !fits())
            throw Error(options_.state.string(),
                        "does not fit the model and the text, expected a state of theirs");
        const auto share =
            static_cast<double>(measured_.windows.size()) / static_cast<double>(windows_.size());
        done_ = static_cast<int64_t>(share * static_cast<double>(cost_.row_layers));
    }
    bool fits() const {
        if (measured_.windows.empty()) return true;
        const auto& layers = measured_.windows.front().layers;
        if (layers.size() != config_.layers.size()) return false;
        const int reach = budget_reach(config_, options_);
        for (size_t l = 0; l < layers.size(); ++l) {
            const bool wanted =
                std::find(layers_.begin(), layers_.end(), static_cast<int>(l)) != layers_.end();
            const auto n = static_cast<size_t>(wanted ? config_.layers[l].experts() : 0);
            const size_t numbers = wanted && reach > 0 ? static_cast<size_t>(2 * reach + 1) : 0;
            if (layers[l].impact.size() != n || layers[l].numbers.size() != numbers) return false;
        }
        return true;
    }
    void save() const {
        if (!options_.state.empty()) write_measurements(options_.state, measured_);
    }

    bool find_strata() {
        std::vector<double> losses;
        for (const auto& tokens : windows_) {
            window_.read(tokens);
            Strata::gather(window_, options_.lead, losses);
            if (!work("reading", int64_t{window_.rows()} * config_.num_layers())) return false;
        }
        const Strata strata = Strata::of(losses, options_);
        measured_.hard_loss = strata.hard_loss;
        measured_.easy_loss = strata.easy_loss;
        return true;
    }

    bool measure(const std::vector<int32_t>& tokens, WindowMeasurement& m) {
        window_.read(tokens);
        m.rows = window_.rows();
        m.layers.resize(config_.layers.size());
        const Strata strata{measured_.hard_loss, measured_.easy_loss, options_.lead};
        hard_ = strata.hard(window_);
        easy_ = strata.easy(window_);
        m.hard_rows = static_cast<int64_t>(hard_.size());
        m.easy_rows = static_cast<int64_t>(easy_.size());
        for (const int l : layers_) {
            count_gate(l, m.layers[static_cast<size_t>(l)]);
            WindowMeasurement::Layer& layer = m.layers[static_cast<size_t>(l)];
            const auto n = static_cast<size_t>(config_.layers[static_cast<size_t>(l)].experts());
            layer.impact.assign(n, 0);
            layer.tokens.assign(n, 0);
            const bool users = options_.impacts == ImpactRule::users;
            if (!(users ? ablate(l, layer) : compare_boundary(l, layer))) return false;
        }
        for (const int l : layers_) {
            WindowMeasurement::Layer& layer = m.layers[static_cast<size_t>(l)];
            if (!perturb(l, layer) || !try_numbers(l, layer)) return false;
        }
        return true;
    }

    void count_gate(int l, WindowMeasurement::Layer& m) const {
        const MatrixView<const float> scores = window_.scores(l);
        const auto n = static_cast<size_t>(scores.cols);
        m.rank.assign(n, 0);
        m.load.assign(n, 0);
        for (int64_t t = 0; t < scores.rows; ++t) {
            const std::span<const float> row(scores.row(t), n);
            for (size_t e = 0; e < n; ++e)
                m.rank[e] +=
                    1.0 + static_cast<double>(std::count_if(row.begin(), row.end(),
                                                            [&](float s) { return s > row[e]; }));
        }
        for (const int32_t e : window_.routes(l).experts) ++m.load[static_cast<size_t>(e)];
    }

    /// Every expert of every hard row, one at a time.
    bool ablate(int l, WindowMeasurement::Layer& m) {
        const bool next = options_.ablation == Ablation::next;
        if (next) prepare_without(l, static_cast<int>(m.impact.size()));
        std::vector<RequestRouting>& without = without_[static_cast<size_t>(l)];
        std::vector<Branch> branches;
        WeightSharing touch(l);
        for (const int t : hard_) {
            for (const int32_t e : window_.routes(l).token_experts(t)) {
                branches.push_back({t, next ? &without[static_cast<size_t>(e)] : nullptr});
                touch.removed.push_back(e);
            }
        }
        std::vector<float> losses(branches.size());
        window_.branch(l, branches, next ? nullptr : &touch, losses);
        for (size_t i = 0; i < branches.size(); ++i) {
            const auto e = static_cast<size_t>(touch.removed[i]);
            m.impact[e] +=
                double{losses[i]} - window_.losses()[static_cast<size_t>(branches[i].token)];
            ++m.tokens[e];
        }
        return work("ablating", static_cast<int64_t>(branches.size()) * depth(l));
    }

    /// The last selected expert of every hard row against the first that is not.
    bool compare_boundary(int l, WindowMeasurement::Layer& m) {
        prepare_without(l, static_cast<int>(m.impact.size()));
        std::vector<Branch> branches;
        for (const int t : hard_) {
            const int32_t last = window_.routes(l).token_experts(t).back();
            branches.push_back({t, &without_[static_cast<size_t>(l)][static_cast<size_t>(last)]});
        }
        ChosenExperts seen(l);
        std::vector<float> losses(branches.size());
        window_.branch(l, branches, &seen, losses);
        for (size_t i = 0; i < branches.size(); ++i) {
            const int t = branches[i].token;
            const double rise = double{losses[i]} - window_.losses()[static_cast<size_t>(t)];
            const auto out = static_cast<size_t>(window_.routes(l).token_experts(t).back());
            // Where groups are limited, others may have come and gone with it: no comparison.
            if (!same_but_last(window_.routes(l).token_experts(t), seen.routes[i])) continue;
            const auto in = static_cast<size_t>(seen.routes[i].back());
            m.impact[out] += rise;
            m.impact[in] -= rise;
            ++m.tokens[out];
            ++m.tokens[in];
        }
        return work("comparing", static_cast<int64_t>(branches.size()) * depth(l));
    }

    void prepare_without(int l, int n) {
        std::vector<RequestRouting>& without = without_[static_cast<size_t>(l)];
        for (int e = static_cast<int>(without.size()); e < n; ++e) {
            RoutingPolicy policy = top_k_policy(k_);
            policy.ban = {{l, e}};
            without.emplace_back(config_, policy);
        }
    }

    /// Other numbers of experts in a layer.
    bool try_numbers(int l, WindowMeasurement::Layer& m) {
        const int reach = budget_reach(config_, options_);
        if (reach == 0) return true;
        m.numbers.assign(2 * static_cast<size_t>(reach) + 1, 0);
        std::vector<int> wanted;
        for (int t = options_.lead; t < window_.rows(); ++t) wanted.push_back(t);
        std::vector<float> losses(wanted.size());
        RoutingPolicy policy = top_k_policy(k_);
        policy.values.assign(config_.layers.size(), k_);
        const int most = most_experts(config_.layers[static_cast<size_t>(l)].router);
        for (int n = std::max(1, k_ - reach); n <= std::min(most, k_ + reach); ++n) {
            if (n == k_) continue;
            policy.values[static_cast<size_t>(l)] = n;
            RequestRouting routing(config_, policy);
            window_.reroute(l, routing, wanted, losses);
            double& sum = m.numbers[static_cast<size_t>(int64_t{n} - k_ + reach)];
            for (size_t i = 0; i < wanted.size(); ++i)
                sum += double{losses[i]} - window_.losses()[static_cast<size_t>(wanted[i])];
            if (!work("trying numbers", int64_t{window_.rows()} * depth(l))) return false;
        }
        return true;
    }

    bool perturb(int l, WindowMeasurement::Layer& m) {
        std::vector<int> wanted(hard_.size() + easy_.size());
        std::merge(hard_.begin(), hard_.end(), easy_.begin(), easy_.end(), wanted.begin());
        std::vector<float> losses(wanted.size());
        const uint64_t window = measured_.windows.size();
        for (int d = 0; d < options_.draws; ++d) {
            const uint64_t stream =
                mix64(mix64(options_.seed) + mix64(window * 4096 + static_cast<uint64_t>(l)) +
                      static_cast<uint64_t>(d));
            window_.perturb(l, options_.noise, stream, wanted, losses);
            for (size_t i = 0; i < wanted.size(); ++i) {
                const double before = window_.losses()[static_cast<size_t>(wanted[i])];
                (before > measured_.hard_loss ? m.hard : m.easy) +=
                    std::abs(losses[i] - before) / options_.draws;
            }
            if (!work("perturbing", int64_t{window_.rows()} * depth(l))) return false;
        }
        return true;
    }

    const ModelConfig& config_;
    std::span<const std::vector<int32_t>> windows_;
    const CalibrationOptions& options_;
    const int k_;
    const std::vector<int> layers_;
    const CalibrationCost cost_;
    Window window_;
    Measurements measured_;
    std::vector<int> hard_, easy_;                      ///< rows of the window
    std::vector<std::vector<RequestRouting>> without_;  ///< [L][E] the baseline less an expert
    int64_t done_ = 0;
    const Clock::time_point start_ = Clock::now();
};

}  // namespace

std::vector<std::vector<int32_t>> calibration_windows(const Model& model,
                                                      std::span<const std::string> texts,
                                                      const CalibrationOptions& options,
                                                      int64_t most) {
    check_options(model.config(), options);
    const auto longest = static_cast<size_t>(window_tokens(model.config(), options));
    std::vector<std::vector<int32_t>> all;
    // Each begins as a text does, with the begin token where the vocabulary has one.
    const Vocabulary& v = model.tokenizer().vocabulary();
    const size_t lead = v.add_bos && v.bos >= 0 ? 1 : 0;
    for (const std::string& text : texts) {
        const std::vector<int32_t> ids = model.tokenizer().encode(text);
        for (size_t first = lead; first + kShortestWindow <= ids.size() + lead;
             first += longest - lead) {
            const size_t last = std::min(ids.size(), first + longest - lead);
            std::vector<int32_t>& window = all.emplace_back(lead, v.bos);
            window.insert(window.end(), ids.begin() + static_cast<int64_t>(first),
                          ids.begin() + static_cast<int64_t>(last));
        }
    }
    if (all.empty())
        throw Error("calibration", "no text of at least " + std::to_string(kShortestWindow) +
                                       " tokens, expected one");
    // In an order that mixes the texts: any beginning of it is a sample of all.
    Random random(options.seed);
    random.shuffle(std::span(all));
    if (most == 0) return all;
    int64_t taken = 0;
    size_t count = 0;
    while (count < all.size() && (count == 0 || taken < most))
        taken += static_cast<int64_t>(all[count++].size());
    all.resize(count);
    return all;
}

int baseline_experts(const ModelConfig& config, const CalibrationOptions& options) {
    double sum = 0, layers = 0;
    int fewest = 0;
    const RequestRouting own(config);
    for (int l = 0; l < config.num_layers(); ++l) {
        const FeedForwardConfig& ff = config.layers[static_cast<size_t>(l)];
        if (ff.dense()) continue;
        const int most = most_experts(ff.router);
        fewest = layers == 0 ? most : std::min(fewest, most);
        sum += expected_experts(config, own, l);
        layers += 1;
    }
    if (layers == 0)
        throw Error("calibration", "every layer is dense, expected layers with several experts");
    int k = options.experts_per_token;
    if (k == 0) {
        if (sum <= 0)
            throw Error("calibration",
                        "the model does not say how many experts its tokens take, expected the "
                        "number of the baseline");
        k = std::max(1, static_cast<int>(std::lround(sum / layers)));
    }
    if (k < 1 || k >= fewest)
        throw Error("calibration", "a baseline of " + std::to_string(k) +
                                       " experts per token, expected 1 to " +
                                       std::to_string(fewest - 1) + ", one less than there are");
    return k;
}

CalibrationCost calibration_cost(const Model& model, std::span<const std::vector<int32_t>> windows,
                                 const CalibrationOptions& options) {
    const ModelConfig& config = model.config();
    check_options(config, options);
    const std::vector<int> layers = measured_layers(config, options);
    const int k = baseline_experts(config, options);
    CalibrationCost cost;
    int64_t hard = 0;
    for (const auto& w : windows) {
        ++cost.windows;
        cost.tokens += static_cast<int64_t>(w.size()) - 1;
        hard += std::max<int64_t>(0, static_cast<int64_t>(w.size()) - 1 - options.lead);
    }
    hard = std::lround((1 - options.hard) * static_cast<double>(hard));
    const int reach = budget_reach(config, options);
    const auto passes = [&](int l) {  // from a layer on
        const int most = most_experts(config.layers[static_cast<size_t>(l)].router);
        return options.draws + std::min(reach, k - 1) + std::min(reach, most - k);
    };
    cost.passes = 2;
    for (const int l : layers) cost.passes += passes(l);
    const int taken = options.impacts == ImpactRule::users ? k : 1;  // experts of a hard row
    cost.ablations = hard * taken * static_cast<int64_t>(layers.size());
    cost.row_layers = 2 * cost.tokens * config.num_layers();
    for (const int l : layers)
        cost.row_layers +=
            (config.num_layers() - l) * (hard * taken + cost.tokens * int64_t{passes(l)});
    return cost;
}

double calibration_rate(const Model& model, Executor& executor,
                        std::span<const std::vector<int32_t>> windows,
                        const CalibrationOptions& options) {
    Window window(model, executor, window_tokens(model.config(), options),
                  top_k_policy(baseline_experts(model.config(), options)), options.compute,
                  options.kv);
    window.read(windows[0]);  // touches memory and weights
    const auto start = Clock::now();
    window.read(windows[0]);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return static_cast<double>(window.rows()) * model.config().num_layers() / seconds;
}

CalibrationResult calibrate(const Model& model, Executor& executor,
                            std::span<const std::vector<int32_t>> windows,
                            const CalibrationOptions& options) {
    check_options(model.config(), options);
    Measuring measuring(model, executor, windows, options);
    if (!measuring.run()) {
        CalibrationResult stopped;
        stopped.stopped = true;
        stopped.windows = static_cast<int64_t>(measuring.measured().windows.size());
        return stopped;
    }
    CalibrationResult result = conclude(model.config(), measuring.measured(), options);
    result.plan.model = model.hash();
    const auto measured = windows.first(static_cast<size_t>(result.windows));
    result.plan.text = hash_of(measured);
    int64_t rows = 0;
    for (const auto& window : measured) rows += static_cast<int64_t>(window.size()) - 1;
    auto settings = nlohmann::ordered_json::parse(result.plan.settings);
    for (const char* of_another_key : {"model", "text", "experts_per_token"})
        settings.erase(of_another_key);
    settings["windows"] = result.windows;
    settings["rows"] = rows;
    settings["budgets"] = options.budgets == BudgetRule::loss ? "loss" : "contrast";
    settings["max_shift"] = options.max_shift;
    settings["clusters"] = options.clusters;
    result.plan.settings = settings.dump();
    return result;
}

}  // namespace muster
