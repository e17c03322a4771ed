// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "muster/core/error.h"
#include "muster/evaluate/pass_recorder.h"
#include "muster/evaluate/units.h"
#include "muster/generate/token_losses.h"

namespace muster {
namespace {

using Clock = std::chrono::steady_clock;

/// A block of a document: what the bootstrap draws, or parts of it.
struct Unit {
    size_t document = 0;
    double loss = 0;
    double tokens = 0;
};

/// The documents as the model reads them.
struct Corpus {
    std::vector<const Document*> documents;
    std::vector<std::vector<int32_t>> tokens;
    int64_t scored = 0;  ///< tokens that get a loss

    /// Whether a document is of the domain; null: every one is.
    bool within(size_t document, const std::string* domain) const {
        return domain == nullptr || documents[document]->domain == *domain;
    }
    /// Whether the domain's documents are so few that the bootstrap draws blocks of them.
    bool blocks(const std::string* domain) const {
        size_t count = 0;
        for (size_t d = 0; d < documents.size(); ++d) count += within(d, domain) ? 1 : 0;
        return count < kFewDocuments;
    }
};

/// Pairs that the bootstrap draws.
struct Series {
    std::vector<double> losses, tokens;
};

/// All tokens' losses under one policy, cut into units.
struct Scored {
    std::vector<Unit> units;
    std::vector<double> document_experts;  ///< per document, summed over tokens and MoE layers
    std::vector<double> layer_experts;     ///< [L] summed over tokens
    int64_t least = std::numeric_limits<int64_t>::max(), most = 0;  ///< experts of one token
};

Corpus tokenize(const Model& model, const std::vector<Document>& documents, int64_t max_tokens) {
    Corpus corpus;
    for (const Document& d : documents) {
        if (max_tokens > 0 && corpus.scored >= max_tokens) break;
        std::vector<int32_t> ids = model.tokenizer().encode(d.text);
        if (ids.size() < 2) continue;
        if (max_tokens > 0) {
            const auto left = static_cast<size_t>(max_tokens - corpus.scored) + 1;
            if (ids.size() > left) ids.resize(left);
        }
        corpus.scored += static_cast<int64_t>(ids.size()) - 1;
        corpus.documents.push_back(&d);
        corpus.tokens.push_back(std::move(ids));
    }
    if (corpus.documents.empty())
        throw Error("evaluation", "there is no text of at least two tokens to score");
    return corpus;
}

void add_document(size_t document, const TokenLosses& losses, Scored& out) {
    const size_t n = losses.loss.size();
    for (size_t begin = 0; begin < n; begin += kBlockTokens) {
        const size_t end = std::min(n, begin + kBlockTokens);
        Unit unit{document, 0, static_cast<double>(end - begin)};
        for (size_t i = begin; i < end; ++i) unit.loss += losses.loss[i];
        out.units.push_back(unit);
    }
    const auto layers = static_cast<size_t>(losses.layers);
    int64_t sum = 0;
    for (size_t t = 0; t < n; ++t) {
        int64_t token = 0;
        for (size_t l = 0; l < layers; ++l) {
            const int32_t count = losses.experts[t * layers + l];
            out.layer_experts[l] += count;
            token += count;
        }
        out.least = std::min(out.least, token);
        out.most = std::max(out.most, token);
        sum += token;
    }
    out.document_experts.push_back(static_cast<double>(sum));
}

/// One evaluation of one policy.
class Evaluation {
  public:
    Evaluation(const Model& model, const Corpus& corpus, const EvaluateOptions& options)
        : model_(model), corpus_(corpus), options_(options) {
        for (const FeedForwardConfig& ff : model.config().layers) moe_layers_ += !ff.dense();
    }

    Scored score(ForwardContext& context, KvCache& cache, RequestRouting& routing,
                 int64_t done_before) const {
        Scored out;
        out.layer_experts.resize(model_.config().layers.size());
        PassRecorder recorder(model_.config().num_layers(), options_.sinks);
        const bool recorded = done_before == 0 && !options_.sinks.empty();
        int64_t done = done_before;
        const auto total = corpus_.scored * static_cast<int64_t>(options_.policies.size());
        LossOptions loss{.window = options_.window,
                         .stride = options_.stride,
                         .pass = {},
                         .sink = recorded ? &recorder : nullptr};
        if (options_.progress)
            loss.progress = [&](std::string_view what, int64_t of_text, int64_t) {
                return options_.progress(what, done + of_text, total);
            };
        for (size_t d = 0; d < corpus_.documents.size(); ++d) {
            if (recorded) recorder.begin(*corpus_.documents[d], corpus_.tokens[d]);
            const TokenLosses losses =
                token_losses(context, cache, routing, corpus_.tokens[d], loss);
            add_document(d, losses, out);
            done += static_cast<int64_t>(losses.loss.size());
        }
        return out;
    }

    /// Of the text of a domain; null: all.
    LossSummary summarize(const Scored& scored, const std::string* domain) const {
        LossSummary s;
        const Series drawn = series(scored, nullptr, domain);
        const double loss = std::accumulate(drawn.losses.begin(), drawn.losses.end(), 0.0);
        double experts = 0;
        s.tokens =
            static_cast<int64_t>(std::accumulate(drawn.tokens.begin(), drawn.tokens.end(), 0.0));
        for (size_t d = 0; d < corpus_.documents.size(); ++d) {
            if (!corpus_.within(d, domain)) continue;
            s.bytes += bytes_of(d);
            experts += scored.document_experts[d];
        }
        const auto n = static_cast<double>(s.tokens);
        s.loss = loss / n;
        s.perplexity = std::exp(s.loss);
        s.bits_per_byte = s.bytes > 0 ? loss / std::log(2.0) / static_cast<double>(s.bytes) : 0;
        s.loss_interval = bootstrap_ratio(drawn.losses, drawn.tokens, options_.confidence);
        s.experts = moe_layers_ > 0 ? experts / n / moe_layers_ : 0;
        return s;
    }

    Interval difference(const Scored& a, const Scored& base, const std::string* domain) const {
        const Series drawn = series(a, &base, domain);
        return bootstrap_ratio(drawn.losses, drawn.tokens, options_.confidence);
    }

    PolicyResult result(const RequestRouting& routing, const Scored& scored, const Scored& base,
                        const std::vector<std::string>& domains) const {
        PolicyResult r;
        r.policy = routing.policy().to_string();
        r.all = summarize(scored, nullptr);
        r.difference = difference(scored, base, nullptr);
        for (const std::string& domain : domains) {
            r.domains.push_back({domain, summarize(scored, &domain)});
            r.domain_differences.emplace_back(domain, difference(scored, base, &domain));
        }
        r.experts = scored.layer_experts;
        for (double& e : r.experts) e /= static_cast<double>(r.all.tokens);
        r.least_activations = scored.least;
        r.most_activations = scored.most;
        r.activated = activated_parameters(model_.config(), routing, r.experts);
        return r;
    }

  private:
    /// Losses of a domain's documents or blocks, less those of `base`, if any.
    Series series(const Scored& scored, const Scored* base, const std::string* domain) const {
        Series out;
        const bool blocks = corpus_.blocks(domain);
        size_t last = corpus_.documents.size();
        for (size_t i = 0; i < scored.units.size(); ++i) {
            const Unit& u = scored.units[i];
            if (!corpus_.within(u.document, domain)) continue;
            if (blocks || u.document != last) {
                out.losses.push_back(0);
                out.tokens.push_back(0);
            }
            last = u.document;
            out.losses.back() += u.loss - (base != nullptr ? base->units[i].loss : 0);
            out.tokens.back() += u.tokens;
        }
        return out;
    }

    /// Of the text that has losses: all of it but for the first token without a begin token.
    int64_t bytes_of(size_t d) const {
        int64_t bytes = 0;
        const std::vector<int32_t>& ids = corpus_.tokens[d];
        for (size_t i = 1; i < ids.size(); ++i)
            bytes += static_cast<int64_t>(model_.tokenizer().token_bytes(ids[i]).size());
        return bytes;
    }

    const Model& model_;
    const Corpus& corpus_;
    const EvaluateOptions& options_;
    int moe_layers_ = 0;
};

std::vector<std::string> domains_of(const Corpus& corpus) {
    std::map<std::string, int> names;
    for (const Document* d : corpus.documents)
        if (!d->domain.empty()) ++names[d->domain];
    std::vector<std::string> out;
    out.reserve(names.size());
    for (const auto& [name, count] : names) out.push_back(name);
    return out;
}

}  // namespace

EvaluationResult evaluate_perplexity(const Model& model, const std::vector<Document>& documents,
                                     Executor& executor, const EvaluateOptions& options) {
    if (options.policies.empty()) throw Error("evaluation", "no policy is given, expected one");
    std::vector<RequestRouting> routings;
    routings.reserve(options.policies.size());
    for (const RoutingPolicy& policy : options.policies)
        routings.push_back(evaluation_routing(model.config(), policy));
    const Corpus corpus = tokenize(model, documents, options.max_tokens);
    const int window = options.window > 0 ? options.window : model.config().context;
    KvCache cache(model.config(), window, options.kv);
    ForwardContext context(model, executor, std::min(options.max_rows, window), options.compute);
    const Evaluation evaluation(model, corpus, options);
    const std::vector<std::string> domains = domains_of(corpus);
    EvaluationResult out;
    Scored base;
    for (size_t p = 0; p < routings.size(); ++p) {
        const auto start = Clock::now();
        Scored scored =
            evaluation.score(context, cache, routings[p], corpus.scored * static_cast<int64_t>(p));
        const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
        if (p == 0) base = scored;
        out.policies.push_back(evaluation.result(routings[p], scored, base, domains));
        out.policies.back().seconds = seconds;
        out.policies.back().tokens_per_second = static_cast<double>(corpus.scored) / seconds;
    }
    out.documents = static_cast<int64_t>(corpus.documents.size());
    const bool blocks = corpus.blocks(nullptr);
    out.units = blocks ? static_cast<int64_t>(base.units.size()) : out.documents;
    out.unit = unit_name(blocks);
    out.threads = executor.workers();
    return out;
}

}  // namespace muster
