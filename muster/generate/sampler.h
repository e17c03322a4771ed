// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "muster/core/random.h"

namespace muster {

/// Filters are applied in this order: temperature, top-k, top-p (of what top-k left, renormalised),
/// min-p (share of the best token's probability).
struct SamplerOptions {
    double temperature = 0.8;  ///< 0: always the best token
    int top_k = 40;            ///< 0: off
    double top_p = 0.95;       ///< 1: off
    double min_p = 0.05;       ///< 0: off
    uint64_t seed = 0;

    /// Throws Error naming the value that cannot work.
    void check() const;
};

struct Sampled {
    int32_t token = 0;
    double log_probability = 0;  ///< of the token under the model itself (temperature 1, no filter)
};

/// Chooses tokens; deterministic for a seed and a sequence of logits. Ties go to the lower id.
/// Allocates nothing after the first call. Not thread-safe.
class Sampler {
  public:
    explicit Sampler(const SamplerOptions& options);

    /// logits: [vocab], not empty, finite (-inf is allowed: never chosen).
    Sampled sample(std::span<const float> logits);

  private:
    struct Candidate {
        float logit;
        int32_t token;
    };
    size_t filter(std::span<const float> logits);

    SamplerOptions options_;
    Random random_;
    std::vector<Candidate> candidates_;
    std::vector<double> probabilities_;
};

}  // namespace muster
