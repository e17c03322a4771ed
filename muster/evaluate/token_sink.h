// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "muster/evaluate/documents.h"

namespace muster {

/// What one token called up in one MoE layer.
struct LayerRoutes {
    std::span<const int32_t> experts;  ///< strongest first; none in a dense layer
    std::span<const float> weights;    ///< combine weights of the same
    /// Of the router's scores divided by their sum, in nats; 0 in a dense layer and where nothing
    /// scores above 0.
    float entropy = 0;
};

/// One scored token.
struct ScoredToken {
    size_t position = 0;  ///< in the document's tokens, at least 1
    int32_t id = 0;
    float loss = 0;                       ///< -log p of the token, in nats
    std::span<const LayerRoutes> layers;  ///< [L] of the row that predicted it
};

/// Sees the scored tokens of an evaluation in reading order, each once. What it is given holds
/// during the call only. Called from the calling thread.
class TokenSink {
  public:
    virtual ~TokenSink() = default;
    /// The tokens that follow are this document's. `tokens` begins with the begin token where the
    /// vocabulary has one.
    virtual void document(const Document& document, std::span<const int32_t> tokens) = 0;
    virtual void token(const ScoredToken& token) = 0;
};

}  // namespace muster
