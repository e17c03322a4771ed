// SPDX-License-Identifier: Apache-2.0
// The rows of one forward pass, sorted out. Internal to model/.
#pragma once

#include <span>
#include <vector>

#include "muster/model/forward.h"

namespace muster {

/// What the layers need to know about the rows: positions, sequences, runs, distinct routings.
struct BatchRows {
    /// Consecutive rows of one cache.
    struct Run {
        KvCache* cache = nullptr;
        int first = 0;
        int count = 0;
        int64_t position = 0;
    };
    std::vector<int32_t> tokens;
    std::vector<int64_t> positions;
    std::vector<int32_t> positions32;
    std::vector<int32_t> sequences;
    std::vector<int> wanted;  ///< rows whose final hidden state is kept
    std::vector<Run> runs;
    std::vector<RequestRouting*> routing;        ///< [T]
    std::vector<uint64_t> seeds;                 ///< [T] of random selection
    std::vector<RequestRouting*> routings;       ///< distinct ones
    std::vector<KvCache*> caches;                ///< by sequence number
    std::vector<const ResolvedRouter*> routers;  ///< [T] scratch of one layer

    int size() const noexcept { return static_cast<int>(tokens.size()); }
    RowInfo info() const noexcept { return {tokens, positions, sequences, routing}; }
    /// Keeps the memory. Throws Error when a token is outside the vocabulary or a cache is full.
    void assign(std::span<const BatchRow> rows, const ModelConfig& config);
    /// The same for rows that do not see each other: a run for each.
    void assign(std::span<const BranchRow> rows, const ModelConfig& config);
    bool branches = false;

  private:
    void clear();
    void add(int32_t token, int64_t position, int sequence, RequestRouting* of);
    std::vector<int64_t> next_;  ///< by sequence: the next position
    int sequence_of(KvCache* cache);
};

}  // namespace muster
