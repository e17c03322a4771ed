// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "muster/core/executor.h"
#include "muster/evaluate/perplexity.h"

namespace muster {

struct TuneOptions {
    double max_perplexity = 0.01;  ///< allowed rise of the perplexity, as a share; > -1
    bool per_layer = true;         ///< also search numbers of experts for each layer
    int steps = 6;                 ///< halvings of p and t
    /// Window, kv, compute, max_rows, confidence, max_tokens (of either half) and progress;
    /// policies are ignored.
    EvaluateOptions evaluate;
};

/// A policy that was tried, on the half of the text that is searched on.
struct TunedPolicy {
    std::string policy;
    double loss = 0;       ///< nats per token
    double experts = 0;    ///< per token, mean over MoE layers
    double activated = 0;  ///< parameters per token
    bool allowed = false;
};

struct TuneResult {
    std::string chosen;          ///< the cheapest that is within the allowed loss on both halves
    EvaluationResult confirmed;  ///< on the other half: `model`, then the chosen policy
    std::vector<TunedPolicy> tried;  ///< in the order of trying; the first is `model`
    int rejected = 0;  ///< cheaper ones that the search allowed and the other half did not
};

/// Searches the cheapest policy, by activated parameters, whose perplexity exceeds that of the
/// checkpoint's own policy by at most the allowed share. Texts are cut into pieces, half of them,
/// at random, are searched on and the others confirm, so that what is reported was hardly chosen
/// for (`rejected` says how often it was). Tried: top-k, top-p and relative for all layers, then
/// top-k layer by layer: what each layer loses at each number is measured alone, layers give up
/// experts in the order of the least loss per parameter saved (as LExI, arXiv 2509.02753), and how
/// far along that order the loss stays allowed is found by halving. Throws Error when there is too
/// little text or every layer is dense.
TuneResult tune_policy(const Model& model, const std::vector<Document>& documents,
                       Executor& executor, const TuneOptions& options);

/// What tune_policy() will compute: at most so many policies (beside rejected ones) on so many
/// tokens each.
struct TuneCost {
    int policies = 0;
    int64_t tokens = 0;
};
TuneCost tune_cost(const Model& model, const std::vector<Document>& documents,
                   const TuneOptions& options);

std::string to_json(const TuneResult& result);

}  // namespace muster
