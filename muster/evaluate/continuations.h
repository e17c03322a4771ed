// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/model/forward.h"

namespace muster {

/// Texts that may continue one context, as tokens.
struct EncodedContinuations {
    std::vector<std::vector<int32_t>> tokens;  ///< [C] context and continuation
    std::vector<int> first;                    ///< [C] where the continuation begins, >= 1
    int dropped = 0;                           ///< tokens of the context that had no room
};

/// Context and continuation are encoded together and cut where the context's own tokens end, as
/// lm-evaluation-harness does; white space at the end of the context belongs to the continuation.
/// Where the context's last tokens merge with the continuation's first, the continuation begins
/// with the merged ones. Contexts that do not fit `window` tokens lose tokens after the begin
/// token, equally for all continuations. Throws Error under `where` when a continuation has no
/// token, nothing stands before it, or it does not fit.
EncodedContinuations encode_continuations(const Tokenizer& tokenizer, std::string_view context,
                                          std::span<const std::string> continuations, int window,
                                          const std::string& where);

/// What the model makes of one continuation.
struct ContinuationScore {
    double log_probability = 0;  ///< of its tokens, in nats
    int tokens = 0;
    bool greedy = true;  ///< each token is the likeliest at its place
};

struct ContinuationScores {
    std::vector<ContinuationScore> each;  ///< [C]
    std::vector<double> experts;  ///< [L] routed experts of the rows that predicted scored tokens
    int64_t tokens = 0;           ///< scored, over all continuations
};

/// Scores continuations of one context after another under one policy. What continuations have in
/// common is computed once, and so is what a context has in common with the last one, but for
/// policies with a controller: there each context begins anew. Not thread-safe.
class ContinuationScorer {
  public:
    /// The cache's content is replaced; it holds the longest continuation. Both outlive the scorer.
    ContinuationScorer(ForwardContext& context, KvCache& cache, const RequestRouting& routing);

    /// Throws Error as ForwardContext::forward does.
    ContinuationScores score(const EncodedContinuations& encoded);

  private:
    void pass(const EncodedContinuations& encoded, std::span<const int> which, int begin, int end,
              RequestRouting& routing, ContinuationScores& out);
    void take(const EncodedContinuations& encoded, std::span<const int> which, int first_row,
              int unwanted, ContinuationScores& out);

    ForwardContext& context_;
    KvCache& cache_;
    const RequestRouting& routing_;
    std::vector<BatchRow> rows_;
};

}  // namespace muster
