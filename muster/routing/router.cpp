// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/router.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "muster/core/error.h"

namespace muster {

ResolvedRouter resolve(const RoutingPolicy& policy, const RouterSpec& spec, int layer, int layers) {
    ResolvedRouter r{.spec = spec, .ban = {}, .force = {}, .shared = policy.shared.value_or(true)};
    if (policy.selection != Selection::model) {
        r.spec.selection = policy.selection;
        const size_t n = policy.values.size();
        if (n > 1 && n != static_cast<size_t>(layers))
            throw Error("routing", "as many values as neither 1 nor layers");
        if (n > 0) r.spec.value = policy.values[n == 1 ? 0 : layer];
    }
    if (policy.score) r.spec.score = *policy.score;
    if (policy.weight) r.spec.weight = *policy.weight;
    if (policy.scale) r.spec.scale = static_cast<float>(*policy.scale);
    if (policy.min) r.spec.min = *policy.min;
    if (policy.max) r.spec.max = *policy.max;
    if (policy.groups) r.spec.groups_used = *policy.groups;
    return r;
}

void score_logits(Score score, std::span<const float> logits, std::span<float> scores) noexcept {
    if (score != Score::softmax) {
        for (size_t i = 0; i < logits.size(); ++i)
            scores[i] = score == Score::relu ? std::max(logits[i], 0.0f)
                                             : 1.0f / (1.0f + std::exp(-logits[i]));
        return;
    }
    const float top = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (size_t i = 0; i < logits.size(); ++i) sum += scores[i] = std::exp(logits[i] - top);
    for (float& s : scores) s = static_cast<float>(s / sum);
}

void route(MatrixView<const float> logits, const ResolvedRouter& router, const RouterParameters&,
           const RouteContext&, RouteScratch& scratch, RouteTable& table) {
    const int experts = static_cast<int>(logits.cols);
    const RouterSpec& spec = router.spec;
    table.clear(experts);
    scratch.scores.resize(logits.rows * logits.cols);
    scratch.order.resize(experts);
    for (int64_t t = 0; t < logits.rows; ++t) {
        float* s = scratch.scores.data() + t * experts;
        const float* x = logits.row(t);
        for (int e = 0; e < experts; ++e)
            if (!std::isfinite(x[e])) throw Error("routing", "a router logit is not finite");
        score_logits(spec.score, {x, static_cast<size_t>(experts)},
                     {s, static_cast<size_t>(experts)});
        std::iota(scratch.order.begin(), scratch.order.end(), 0);
        std::stable_sort(scratch.order.begin(), scratch.order.end(),
                         [&](int a, int b) { return s[a] > s[b]; });
        int n = static_cast<int>(spec.value);
        if (spec.selection != Selection::top_k) {
            double mass = 0;
            for (n = 0; n < experts && mass < spec.value;) mass += s[scratch.order[n++]];
        }
        n = std::clamp(n, spec.min, spec.max > 0 ? std::min(spec.max, experts) : experts);
        double sum = 0;
        for (int i = 0; i < n; ++i) sum += s[scratch.order[i]];
        const double divisor =
            spec.weight == Weighting::renorm ? std::max<double>(sum, spec.renorm_floor) : 1.0;
        for (int i = 0; i < n; ++i) {
            table.experts.push_back(scratch.order[i]);
            table.weights.push_back(static_cast<float>(s[scratch.order[i]] / divisor * spec.scale));
        }
        table.offsets.push_back(table.activations());
    }
}

}  // namespace muster
