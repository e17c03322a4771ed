// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/pass_recorder.h"

#include <cmath>

namespace muster {

double score_entropy(std::span<const float> scores) noexcept {
    // H(s / S) = log S - sum(s log s) / S
    double sum = 0, products = 0;
    for (const float s : scores) {
        if (!(s > 0)) continue;
        sum += s;
        products += double(s) * std::log(double(s));
    }
    return sum > 0 ? std::max(0.0, std::log(sum) - products / sum) : 0;
}

PassRecorder::PassRecorder(int layers, std::span<TokenSink* const> sinks)
    : sinks_(sinks.begin(), sinks.end()), routes_(layers), entropy_(layers), token_(layers) {}

void PassRecorder::begin(const Document& document, std::span<const int32_t> tokens) {
    tokens_ = tokens;
    for (TokenSink* sink : sinks_) sink->document(document, tokens);
}

void PassRecorder::layer(const LayerTrace& trace) {
    RouteTable& kept = routes_[trace.layer];
    const RouteTable& routes = trace.routes;
    const int32_t before = kept.offsets.back();
    kept.num_experts = routes.num_experts;
    kept.experts.insert(kept.experts.end(), routes.experts.begin(), routes.experts.end());
    kept.weights.insert(kept.weights.end(), routes.weights.begin(), routes.weights.end());
    for (int t = 0; t < routes.tokens(); ++t) {
        kept.offsets.push_back(before + routes.offsets[t + 1]);
        const auto experts = static_cast<size_t>(trace.scores.cols);
        const bool known = trace.scores.data != nullptr;
        entropy_[trace.layer].push_back(
            known ? static_cast<float>(score_entropy({trace.scores.row(t), experts})) : 0.0f);
    }
}

void PassRecorder::scored(size_t first, int skipped, std::span<const float> losses) {
    for (size_t i = 0; i < losses.size(); ++i) {
        const size_t row = static_cast<size_t>(skipped) + i;
        for (size_t l = 0; l < routes_.size(); ++l) {
            const bool dense = routes_[l].tokens() == 0;
            token_[l] = dense ? LayerRoutes{}
                              : LayerRoutes{routes_[l].token_experts(static_cast<int>(row)),
                                            routes_[l].token_weights(static_cast<int>(row)),
                                            entropy_[l][row]};
        }
        const size_t position = first + row + 1;
        const ScoredToken token{position, tokens_[position], losses[i], token_};
        for (TokenSink* sink : sinks_) sink->token(token);
    }
    for (size_t l = 0; l < routes_.size(); ++l) {
        routes_[l].clear(routes_[l].num_experts);
        entropy_[l].clear();
    }
}

}  // namespace muster
