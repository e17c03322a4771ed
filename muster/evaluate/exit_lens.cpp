// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/exit_lens.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>

#include "muster/core/error.h"
#include "muster/evaluate/residual_lens.h"
#include "muster/evaluate/units.h"
#include "muster/generate/token_losses.h"
#include "muster/model/forward.h"

namespace muster {
namespace {

using Clock = std::chrono::steady_clock;

/// What the bootstrap draws: sums over its tokens.
struct Unit {
    double tokens = 0, exit = 0, total = 0, after = 0;
};

/// Sums over all tokens.
struct Sums {
    explicit Sums(size_t layers) : each(layers), settled(layers) {}
    std::vector<ExitLayer> each;
    std::vector<double> settled;  ///< tokens by exit layer
    double lost = 0;
    std::vector<Unit> units;
};

/// One token under the lens.
struct Token {
    std::vector<int32_t> likeliest;    ///< [L]
    std::span<const int32_t> experts;  ///< [L]
    int32_t next = 0;                  ///< of the text
};

void add(const Token& token, Sums& sums) {
    const int last = static_cast<int>(token.likeliest.size()) - 1;
    const int32_t final_token = token.likeliest[last];
    int exit = last;
    while (exit > 0 && token.likeliest[exit - 1] == final_token) --exit;
    double total = 0, after = 0;
    bool once_right = false;
    for (int l = 0; l <= last; ++l) {
        const bool right = token.likeliest[l] == token.next;
        once_right |= right;
        sums.each[l].agrees += token.likeliest[l] == final_token ? 1 : 0;
        sums.each[l].right += right ? 1 : 0;
        sums.each[l].experts += token.experts[l];
        total += token.experts[l];
        if (l <= exit) continue;
        sums.each[l].spent_after += token.experts[l];
        after += token.experts[l];
    }
    ++sums.settled[exit];
    sums.each[exit].group_total += total;
    sums.each[exit].group_after += after;
    if (once_right && final_token != token.next) ++sums.lost;
    Unit& unit = sums.units.back();
    ++unit.tokens;
    unit.exit += exit;
    unit.total += total;
    unit.after += after;
}

/// Runs texts through the model and looks at each token once.
class Reading {
  public:
    Reading(const Model& model, Executor& executor, const ExitLensOptions& options, int window)
        : cache_(model.config(), window, options.kv),
          context_(model, executor, std::min(options.max_rows, window), options.compute),
          lens_(model, executor, options.compute),
          window_(window),
          stride_(options.stride > 0 ? options.stride : std::max(1, window / 2)) {
        if (stride_ >= window_)
            throw Error("exit lens", "a stride of " + std::to_string(stride_) +
                                         " tokens, expected less than the window of " +
                                         std::to_string(window_));
    }

    /// `passed` is told after each pass how many tokens it looked at.
    void read(std::span<const int32_t> tokens, RequestRouting& routing, bool blocks, Sums& sums,
              const std::function<void(int64_t)>& passed) {
        routing.restart();
        sums.units.emplace_back();
        size_t seen = 1;  // token `seen` is the next to be predicted
        for (size_t begin = 0; seen < tokens.size(); begin += static_cast<size_t>(stride_)) {
            const size_t end = std::min(tokens.size(), begin + static_cast<size_t>(window_));
            cache_.truncate(0);
            for (size_t at = begin, stop = begin; at + 1 < end; at = stop) {
                const int most =
                    std::min(context_.max_rows(), routing.rows_until_update(cache_.length()));
                stop = std::min(end - 1, at + static_cast<size_t>(most));
                passed(pass(tokens, at, stop, seen, routing, blocks, sums));
            }
            seen = end;
        }
    }

  private:
    /// Rows [begin, end), of which those that predict tokens from `seen` on are looked at: returns
    /// how many.
    int64_t pass(std::span<const int32_t> tokens, size_t begin, size_t end, size_t seen,
                 RequestRouting& routing, bool blocks, Sums& sums) {
        const size_t skipped = std::clamp(seen - 1, begin, end) - begin;
        rows_.clear();
        for (size_t t = begin; t < end; ++t)
            rows_.push_back({tokens[t], &cache_, &routing, t - begin >= skipped});
        lens_.skip(static_cast<int>(skipped));
        context_.forward(rows_, {.residual = &lens_});
        const int layers = context_.model().config().num_layers();
        token_.likeliest.resize(static_cast<size_t>(layers));
        for (size_t row = skipped; row < end - begin; ++row) {
            if (blocks && sums.units.back().tokens >= kBlockTokens) sums.units.emplace_back();
            for (int l = 0; l < layers; ++l)
                token_.likeliest[l] = lens_.likeliest(l)[row - skipped];
            token_.experts = context_.experts_of(static_cast<int>(row));
            token_.next = tokens[begin + row + 1];
            add(token_, sums);
        }
        return static_cast<int64_t>(end - begin - skipped);
    }

    KvCache cache_;
    ForwardContext context_;
    ResidualLens lens_;
    int window_, stride_;
    std::vector<BatchRow> rows_;
    Token token_;
};

Interval ratio(const std::vector<Unit>& units, double Unit::*value, double Unit::*weight,
               double confidence) {
    std::vector<double> values, weights;
    double sum = 0;
    for (const Unit& u : units) {
        values.push_back(u.*value);
        weights.push_back(u.*weight);
        sum += u.*weight;
    }
    return sum > 0 ? bootstrap_ratio(values, weights, confidence) : Interval{};
}

ExitLensPolicy summary(const Sums& sums, double confidence) {
    ExitLensPolicy out;
    double n = 0;
    for (const double s : sums.settled) n += s;
    out.layers = sums.each;
    for (size_t l = 0; l < out.layers.size(); ++l) {
        ExitLayer& layer = out.layers[l];
        layer.settles = sums.settled[l] / n;
        for (double* sum : {&layer.agrees, &layer.right, &layer.experts, &layer.spent_after})
            *sum /= n;
        if (sums.settled[l] == 0) continue;
        layer.group_total /= sums.settled[l];
        layer.group_after /= sums.settled[l];
    }
    out.exit_layer = ratio(sums.units, &Unit::exit, &Unit::tokens, confidence);
    out.total = ratio(sums.units, &Unit::total, &Unit::tokens, confidence);
    out.after = ratio(sums.units, &Unit::after, &Unit::tokens, confidence);
    out.share_after = ratio(sums.units, &Unit::after, &Unit::total, confidence);
    out.lost = sums.lost / n;
    return out;
}

/// Texts of at least two tokens, at most `max_tokens` predictions in all.
std::vector<std::vector<int32_t>> encode(const Model& model, const std::vector<Document>& documents,
                                         int64_t max_tokens, int64_t& predictions) {
    std::vector<std::vector<int32_t>> out;
    predictions = 0;
    for (const Document& d : documents) {
        if (max_tokens > 0 && predictions >= max_tokens) break;
        std::vector<int32_t> ids = model.tokenizer().encode(d.text);
        if (ids.size() < 2) continue;
        if (max_tokens > 0)
            ids.resize(std::min(ids.size(), static_cast<size_t>(max_tokens - predictions) + 1));
        predictions += static_cast<int64_t>(ids.size()) - 1;
        out.push_back(std::move(ids));
    }
    if (out.empty()) throw Error("exit lens", "there is no text of at least two tokens");
    return out;
}

}  // namespace

ExitLensResult exit_lens(const Model& model, const std::vector<Document>& documents,
                         Executor& executor, const ExitLensOptions& options) {
    if (options.policies.empty()) throw Error("exit lens", "no policy is given, expected one");
    std::vector<RequestRouting> routings;
    routings.reserve(options.policies.size());
    for (const RoutingPolicy& policy : options.policies)
        routings.push_back(evaluation_routing(model.config(), policy));
    ExitLensResult out;
    const auto texts = encode(model, documents, options.max_tokens, out.tokens);
    const bool blocks = texts.size() < kFewDocuments;
    Reading reading(model, executor, options,
                    options.window > 0 ? options.window : model.config().context);
    int64_t done = 0;
    const auto total = out.tokens * static_cast<int64_t>(routings.size());
    for (RequestRouting& routing : routings) {
        const auto start = Clock::now();
        Sums sums(model.config().layers.size());
        const auto passed = [&](int64_t tokens) {
            done += tokens;
            if (options.progress && !options.progress("reading", done, total))
                throw Error("exit lens", "the evaluation was stopped");
        };
        for (const auto& ids : texts) reading.read(ids, routing, blocks, sums, passed);
        ExitLensPolicy policy = summary(sums, options.confidence);
        policy.policy = routing.policy().to_string();
        policy.seconds = std::chrono::duration<double>(Clock::now() - start).count();
        out.units = static_cast<int64_t>(sums.units.size());
        out.policies.push_back(std::move(policy));
    }
    out.documents = static_cast<int64_t>(texts.size());
    out.unit = unit_name(blocks);
    out.threads = executor.workers();
    return out;
}

std::string to_json(const ExitLensResult& result) {
    using nlohmann::ordered_json;
    const auto interval = [](const Interval& i) {
        return ordered_json{{"mean", i.mean}, {"low", i.low}, {"high", i.high}};
    };
    ordered_json policies = ordered_json::array();
    for (const ExitLensPolicy& p : result.policies) {
        ordered_json layers = ordered_json::array();
        for (const ExitLayer& l : p.layers)
            layers.push_back({{"settles", l.settles},
                              {"agrees", l.agrees},
                              {"right", l.right},
                              {"experts", l.experts},
                              {"spent_after", l.spent_after},
                              {"group_total", l.group_total},
                              {"group_after", l.group_after}});
        policies.push_back({{"policy", p.policy},
                            {"exit_layer", interval(p.exit_layer)},
                            {"experts_total", interval(p.total)},
                            {"experts_after", interval(p.after)},
                            {"share_after", interval(p.share_after)},
                            {"lost", p.lost},
                            {"layers", layers},
                            {"seconds", p.seconds}});
    }
    const ordered_json out{{"format", "muster-exit-lens"}, {"version", 1},
                           {"tokens", result.tokens},      {"documents", result.documents},
                           {"units", result.units},        {"unit", result.unit},
                           {"threads", result.threads},    {"policies", policies}};
    return out.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace muster
