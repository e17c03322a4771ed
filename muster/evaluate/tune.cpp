// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/tune.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/model/request_routing.h"

namespace muster {
namespace {

constexpr size_t kPieceBytes = 2048;

/// Pieces of the documents, cut at blanks where there are some.
std::vector<Document> pieces_of(const std::vector<Document>& documents) {
    std::vector<Document> pieces;
    for (const Document& d : documents) {
        for (size_t first = 0; first < d.text.size();) {
            size_t last = std::min(d.text.size(), first + kPieceBytes);
            if (last < d.text.size()) {
                const size_t blank = d.text.find_last_of(" \n", last);
                if (blank != std::string::npos && blank > first) last = blank;
            }
            pieces.push_back({d.domain, d.text.substr(first, last - first)});
            first = last;
        }
    }
    return pieces;
}

class Tuning {
  public:
    Tuning(const Model& model, const std::vector<Document>& documents, Executor& executor,
           const TuneOptions& options)
        : model_(model), executor_(executor), options_(options) {
        std::vector<Document> pieces = pieces_of(documents);
        // Mixed, so that any beginning of either half is a sample of all texts.
        Random random(1);
        random.shuffle(std::span(pieces));
        for (size_t i = 0; i < pieces.size(); ++i)
            (i % 2 == 0 ? search_ : confirm_).push_back(pieces[i]);
        if (confirm_.empty())
            throw Error("tune", "a text of one piece, expected more than " +
                                    std::to_string(kPieceBytes) + " bytes");
        for (const FeedForwardConfig& ff : model.config().layers) {
            if (!ff.dense()) most_ = std::max(most_, ff.experts());
        }
        if (most_ == 0)
            throw Error("tune", "every layer is dense, expected layers with several experts");
    }

    TuneCost cost() const {
        TuneCost cost;
        for (const Document& piece : search_) {
            if (options_.evaluate.max_tokens > 0 && cost.tokens >= options_.evaluate.max_tokens)
                break;
            cost.tokens += static_cast<int64_t>(model_.tokenizer().encode(piece.text).size());
        }
        if (options_.evaluate.max_tokens > 0)
            cost.tokens = std::min(cost.tokens, options_.evaluate.max_tokens);
        constexpr int kOwn = 1, kConfirming = 2;
        cost.policies = kOwn + own_number() + 2 * options_.steps + kConfirming;
        if (!options_.per_layer) return cost;
        int fewer = 0;  // numbers of one layer alone
        for (const FeedForwardConfig& ff : model_.config().layers)
            if (!ff.dense()) fewer += std::min(own_number(), ff.experts()) - 1;
        cost.policies += 1 + fewer + static_cast<int>(std::bit_width(static_cast<unsigned>(fewer)));
        return cost;
    }

    TuneResult run() {
        const TunedPolicy own = try_policy(RoutingPolicy{});
        limit_ = own.loss + std::log1p(options_.max_perplexity);
        result_.tried.back().allowed = true;
        try_numbers();
        try_scale("top-p:", 0.02, 1, /*falling=*/false);
        try_scale("relative:", 0, 1, /*falling=*/true);
        if (options_.per_layer) try_layers();
        confirm();
        return std::move(result_);
    }

  private:
    TunedPolicy try_policy(const RoutingPolicy& policy) {
        EvaluateOptions evaluate = options_.evaluate;
        evaluate.policies = {policy};
        const PolicyResult found =
            evaluate_perplexity(model_, search_, executor_, evaluate).policies[0];
        TunedPolicy tried{policy.to_string(), found.all.loss, found.all.experts, found.activated,
                          found.all.loss <= limit_};
        result_.tried.push_back(tried);
        return tried;
    }
    TunedPolicy try_text(const std::string& text) { return try_policy(RoutingPolicy::parse(text)); }

    /// The least k that is allowed; the numbers above it cost more.
    void try_numbers() {
        const int own = own_number();
        for (int k = 1; k <= own; ++k) {
            number_ = k;
            if (try_text("top-k:" + std::to_string(k)).allowed) return;
        }
    }

    /// The number of the checkpoint's own selection, or the mean of it, rounded up.
    int own_number() const {
        const RequestRouting own(model_.config());
        double most = 1;
        for (int l = 0; l < model_.config().num_layers(); ++l)
            if (!model_.config().layers[static_cast<size_t>(l)].dense())
                most = std::max(most, known_or_seen(expected_experts(model_.config(), own, l)));
        return std::min(most_, static_cast<int>(std::ceil(most)));
    }

    /// Where the checkpoint does not say how many its tokens take (below 0): what came of it.
    double known_or_seen(double experts) const {
        if (experts >= 0) return experts;
        return result_.tried.empty() ? most_ : result_.tried.front().experts;
    }

    /// Halves between a value that costs little and one that costs much.
    void try_scale(const std::string& selection, double low, double high, bool falling) {
        double cheap = falling ? high : low, dear = falling ? low : high;
        const std::string bound =
            own_number() < most_ ? ",max=" + std::to_string(own_number()) : std::string();
        for (int i = 0; i < options_.steps; ++i) {
            const double middle = (cheap + dear) / 2;
            const double rounded = std::round(middle * 1000) / 1000;
            char text[32];
            std::snprintf(text, sizeof text, "%g", rounded);
            (try_text(selection + text + (falling ? bound : "")).allowed ? dear : cheap) = middle;
        }
    }

    static RoutingPolicy by_layer(const std::vector<int>& numbers) {
        RoutingPolicy policy;
        policy.selection = Selection::top_k;
        for (const int k : numbers) policy.values.push_back(k);
        return policy;
    }

    /// One expert less in a layer: what it loses by the measurements of that layer alone.
    struct Step {
        int layer = 0;
        double loss = 0;
        double saved = 0;  ///< parameters
    };

    void try_layers() {
        const ModelConfig& config = model_.config();
        std::vector<int> numbers(config.layers.size(), 1);
        const int k = std::max(number_, own_number());
        for (size_t l = 0; l < numbers.size(); ++l)
            if (!config.layers[l].dense()) numbers[l] = std::min(k, config.layers[l].experts());
        const double full = try_policy(by_layer(numbers)).loss;
        const std::vector<double> sizes = count_parameters(config).per_expert;
        std::vector<std::vector<double>> rises(numbers.size());  // [k - 1 ... 1] of one layer alone
        for (size_t l = 0; l < numbers.size(); ++l) {
            std::vector<int> alone = numbers;
            while (!config.layers[l].dense() && alone[l] > 1) {
                --alone[l];
                rises[l].push_back(try_policy(by_layer(alone)).loss - full);
            }
        }
        const std::vector<Step> order = order_of(rises, sizes);
        size_t allowed = 0, refused = order.size() + 1;  // steps taken
        const auto taken = [&](size_t steps) {
            std::vector<int> some = numbers;
            for (size_t i = 0; i < steps; ++i) --some[static_cast<size_t>(order[i].layer)];
            return try_policy(by_layer(some)).allowed;
        };
        while (allowed + 1 < refused) {
            const size_t middle = allowed + (refused - allowed) / 2;
            (taken(middle) ? allowed : refused) = middle;
        }
    }

    static std::vector<Step> order_of(const std::vector<std::vector<double>>& rises,
                                      const std::vector<double>& sizes) {
        std::vector<Step> order;
        std::vector<size_t> at(rises.size(), 0);
        for (;;) {
            Step best;
            bool any = false;
            for (size_t l = 0; l < rises.size(); ++l) {
                if (at[l] == rises[l].size()) continue;
                const double before = at[l] == 0 ? 0 : rises[l][at[l] - 1];
                const Step step{static_cast<int>(l), rises[l][at[l]] - before, sizes[l]};
                if (!any || step.loss * best.saved < best.loss * step.saved) best = step;
                any = true;
            }
            if (!any) return order;
            order.push_back(best);
            ++at[static_cast<size_t>(best.layer)];
        }
    }

    /// The cheapest allowed one that the other half allows too; `model` itself always is.
    void confirm() {
        std::vector<TunedPolicy> allowed;
        for (const TunedPolicy& t : result_.tried)
            if (t.allowed) allowed.push_back(t);
        std::stable_sort(allowed.begin(), allowed.end(),
                         [](const auto& a, const auto& b) { return a.activated < b.activated; });
        for (const TunedPolicy& t : allowed) {
            EvaluateOptions evaluate = options_.evaluate;
            evaluate.policies = {RoutingPolicy{}, RoutingPolicy::parse(t.policy)};
            result_.confirmed = evaluate_perplexity(model_, confirm_, executor_, evaluate);
            result_.chosen = t.policy;
            const auto& policies = result_.confirmed.policies;
            if (policies[1].all.loss - policies[0].all.loss <=
                std::log1p(std::max(0.0, options_.max_perplexity)))
                return;
            ++result_.rejected;
        }
    }

    const Model& model_;
    Executor& executor_;
    const TuneOptions& options_;
    std::vector<Document> search_, confirm_;
    int most_ = 0;    ///< experts of a layer
    int number_ = 1;  ///< the last top-k tried
    double limit_ = INFINITY;
    TuneResult result_;
};

}  // namespace

TuneCost tune_cost(const Model& model, const std::vector<Document>& documents,
                   const TuneOptions& options) {
    SerialExecutor none;
    return Tuning(model, documents, none, options).cost();
}

TuneResult tune_policy(const Model& model, const std::vector<Document>& documents,
                       Executor& executor, const TuneOptions& options) {
    if (!(options.max_perplexity > -1 && std::isfinite(options.max_perplexity)))
        throw Error("tune", "an allowed rise of " + std::to_string(options.max_perplexity) +
                                ", expected a share above -1");
    if (options.steps < 0 || options.steps > 30)
        throw Error("tune", std::to_string(options.steps) + " steps, expected 0 to 30");
    return Tuning(model, documents, executor, options).run();
}

std::string to_json(const TuneResult& result) {
    using nlohmann::ordered_json;
    ordered_json tried = ordered_json::array();
    for (const TunedPolicy& t : result.tried)
        tried.push_back({{"policy", t.policy},
                         {"loss", t.loss},
                         {"experts", t.experts},
                         {"activated", t.activated},
                         {"allowed", t.allowed}});
    return ordered_json{{"chosen", result.chosen},
                        {"rejected", result.rejected},
                        {"confirmed", ordered_json::parse(to_json(result.confirmed))},
                        {"tried", std::move(tried)}}
        .dump();
}

}  // namespace muster
