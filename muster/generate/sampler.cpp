// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "muster/core/error.h"
#include "muster/kernels/softmax.h"

namespace muster {
namespace {

void expect(bool good, const char* name, double value, const char* expected) {
    if (!good)
        throw Error("sampler",
                    std::string(name) + " is " + std::to_string(value) + ", expected " + expected);
}

/// The best first; equal logits by id.
struct Better {
    template <typename C>
    bool operator()(const C& a, const C& b) const noexcept {
        return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
    }
};

}  // namespace

void SamplerOptions::check() const {
    expect(temperature >= 0 && std::isfinite(temperature), "temperature", temperature,
           "a number of at least 0");
    expect(top_k >= 0, "top-k", top_k, "at least 0");
    expect(top_p > 0 && top_p <= 1, "top-p", top_p, "above 0 and at most 1");
    expect(min_p >= 0 && min_p <= 1, "min-p", min_p, "from 0 to 1");
}

Sampler::Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {
    options.check();
}

size_t Sampler::filter(std::span<const float> logits) {
    const double inverse = 1 / options_.temperature;
    const double best = *std::max_element(logits.begin(), logits.end());
    // Probabilities relative to the best one, not yet divided by their sum.
    const auto weight = [&](float logit) { return std::exp((logit - best) * inverse); };
    candidates_.resize(logits.size());
    for (size_t i = 0; i < logits.size(); ++i)
        candidates_[i] = {logits[i], static_cast<int32_t>(i)};
    const auto first = candidates_.begin();
    size_t count = logits.size();
    double total = 0;
    if (options_.top_k > 0) {
        count = std::min<size_t>(count, options_.top_k);
        std::partial_sort(first, first + static_cast<std::ptrdiff_t>(count), candidates_.end(),
                          Better{});
        for (size_t i = 0; i < count; ++i) total += weight(candidates_[i].logit);
    } else if (options_.top_p < 1) {
        // All below the floor together weigh at most 1 - top_p: the prefix ends before them.
        for (const float logit : logits) total += weight(logit);
        const double floor = (1 - options_.top_p) * total / static_cast<double>(count);
        const auto end = std::remove_if(
            first, candidates_.end(), [&](const Candidate& c) { return weight(c.logit) < floor; });
        count = static_cast<size_t>(end - first);
        std::sort(first, end, Better{});
    }
    probabilities_.resize(logits.size());
    double mass = 0;
    size_t kept = 0;
    for (size_t i = 0; i < count; ++i) {
        if (options_.top_p < 1 && kept > 0 && mass >= options_.top_p * total) break;
        const double p = weight(candidates_[i].logit);
        mass += p;
        if (p < options_.min_p) continue;
        candidates_[kept] = candidates_[i];
        probabilities_[kept++] = p;
    }
    return kept;
}

Sampled Sampler::sample(std::span<const float> logits) {
    MUSTER_ASSERT(!logits.empty());
    const double norm = log_sum_exp(logits);
    const auto chosen = [&](int32_t token) { return Sampled{token, logits[token] - norm}; };
    if (options_.temperature == 0) {
        const auto best = std::max_element(logits.begin(), logits.end());
        return chosen(static_cast<int32_t>(best - logits.begin()));
    }
    const size_t count = filter(logits);
    double total = 0;
    for (size_t i = 0; i < count; ++i) total += probabilities_[i];
    double at = random_.uniform() * total;
    size_t last = 0;
    for (size_t i = 0; i < count; ++i) {
        if (probabilities_[i] <= 0) continue;
        last = i;
        at -= probabilities_[i];
        if (at < 0) break;
    }
    return chosen(candidates_[last].token);
}

}  // namespace muster
