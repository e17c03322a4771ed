// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "muster/core/executor.h"
#include "muster/core/progress.h"
#include "muster/core/stats.h"
#include "muster/evaluate/documents.h"
#include "muster/kernels/matmul.h"
#include "muster/model/model.h"
#include "muster/routing/policy.h"

namespace muster {

struct ExitLensOptions {
    std::vector<RoutingPolicy> policies{{}};
    int window = 0;          ///< tokens; 0: the model's context length
    int stride = 0;          ///< 0: half a window
    int64_t max_tokens = 0;  ///< stop taking documents after so many tokens; 0: all
    int max_rows = 256;
    Compute compute = Compute::f32;
    DType kv = DType::f32;  ///< of keys and values
    double confidence = 0.95;
    Progress progress;  ///< in tokens over all policies; returning false throws Error
};

/// One layer under the logit lens. Shares are of all tokens.
struct ExitLayer {
    double settles = 0;      ///< share of tokens whose exit layer this is
    double agrees = 0;       ///< share whose argmax here is the final one
    double right = 0;        ///< share whose argmax here is the text's next token
    double experts = 0;      ///< routed experts of the layer per token (dense layers 0)
    double spent_after = 0;  ///< of these, by tokens whose exit layer is an earlier one
    double group_total = 0;  ///< all routed experts of a token that settles here, mean; 0: none
    double group_after = 0;  ///< of these, in later layers
};

struct ExitLensPolicy {
    std::string policy;
    std::vector<ExitLayer> layers;  ///< [L]
    Interval exit_layer;            ///< mean; layers count from 0
    Interval total;                 ///< routed experts per token, summed over layers
    Interval after;                 ///< of these, in layers after the exit layer
    Interval share_after;           ///< after / total; zero where no expert is routed
    double lost = 0;                ///< share of tokens right after some layer and wrong at the end
    double seconds = 0;
};

struct ExitLensResult {
    int64_t tokens = 0;
    int64_t documents = 0;
    int64_t units = 0;  ///< what the bootstrap draws
    std::string unit;   ///< "documents", or "blocks of 256 tokens" when documents are few
    int threads = 0;
    std::vector<ExitLensPolicy> policies;
};

/// Reads the residual stream after each layer with the final norm and the head (the logit lens,
/// nostalgebraist 2020) and finds each token's exit layer: the first one from which on the argmax
/// is that of the last layer. Experts in later layers changed nothing in what is written greedily:
/// the network overthinks (Kaya, Hong, Dumitras 2019). Every token of a text but the last is
/// looked at once, in windows as token_losses() has them. Intervals are bootstraps over documents
/// or blocks of them. Throws Error when there is no text or a policy cannot work.
ExitLensResult exit_lens(const Model& model, const std::vector<Document>& documents,
                         Executor& executor, const ExitLensOptions& options);

std::string to_json(const ExitLensResult& result);

}  // namespace muster
