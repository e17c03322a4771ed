// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "muster/core/executor.h"
#include "muster/core/progress.h"
#include "muster/core/stats.h"
#include "muster/evaluate/documents.h"
#include "muster/evaluate/token_sink.h"
#include "muster/kernels/matmul.h"
#include "muster/model/model.h"
#include "muster/routing/policy.h"

namespace muster {

struct EvaluateOptions {
    std::vector<RoutingPolicy> policies{{}};  ///< the first is the baseline of the differences
    int window = 0;                           ///< tokens; 0: the model's context length
    int stride = 0;                           ///< 0: half a window
    int64_t max_tokens = 0;  ///< stop taking documents after so many tokens; 0: all
    int max_rows = 256;
    Compute compute = Compute::f32;
    DType kv = DType::f32;  ///< of keys and values
    double confidence = 0.95;
    Progress progress;              ///< in tokens over all policies; returning false throws Error
    std::vector<TokenSink*> sinks;  ///< see every token under the first policy
};

/// Loss over a set of tokens.
struct LossSummary {
    int64_t tokens = 0;
    int64_t bytes = 0;      ///< of text
    double loss = 0;        ///< mean nats per token
    double perplexity = 0;  ///< exp(loss)
    double bits_per_byte = 0;
    Interval loss_interval;
    double experts = 0;  ///< routed experts per token, mean over MoE layers
};

struct DomainResult {
    std::string domain;
    LossSummary all;
};

struct PolicyResult {
    std::string policy;
    LossSummary all;
    std::vector<DomainResult> domains;  ///< sorted by name; empty without labels
    std::vector<double> experts;        ///< [L] routed experts per token (dense layers 0)
    /// The fewest and the most routed experts that one token got, all layers together.
    int64_t least_activations = 0, most_activations = 0;
    double activated = 0;  ///< activated parameters per token (DESIGN's measure)
    double tokens_per_second = 0;
    double seconds = 0;
    /// Loss minus the first policy's, per token, paired by unit; zero for the first.
    Interval difference;
    std::vector<std::pair<std::string, Interval>> domain_differences;
};

struct EvaluationResult {
    int64_t documents = 0;
    int64_t units = 0;  ///< what the bootstrap over all text draws
    std::string unit;   ///< "documents", or "blocks of 256 tokens" when documents are few
    int threads = 0;
    std::vector<PolicyResult> policies;
};

/// Scores the documents under every policy. Each document is scored by itself, with the begin token
/// in front when the vocabulary has one. A policy that needs whole batches (expert choice) sees one
/// pass of max_rows tokens at a time. Intervals are percentile bootstraps over documents,
/// or over blocks of them where the text or domain has few, and infinite where there is one. Throws
/// Error when there is nothing to score or a policy cannot work on the model.
EvaluationResult evaluate_perplexity(const Model& model, const std::vector<Document>& documents,
                                     Executor& executor, const EvaluateOptions& options);

std::string to_json(const EvaluationResult& result);

}  // namespace muster
