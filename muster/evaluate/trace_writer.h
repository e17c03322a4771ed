// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "muster/evaluate/token_sink.h"
#include "muster/model/model.h"

namespace muster {

/// Writes what was routed where as JSON lines while an evaluation runs (format `muster-trace`,
/// version 1, docs/file-formats.md): one line about the model, then one per scored token.
class TraceWriter final : public TokenSink {
  public:
    using Output = std::function<void(std::string_view)>;

    /// Writes the first line. `model` outlives it; what `write` throws passes through.
    TraceWriter(const Model& model, const RoutingPolicy& policy, Output write);
    void document(const Document& document, std::span<const int32_t> tokens) override;
    void token(const ScoredToken& token) override;
    int64_t tokens() const { return tokens_; }

  private:
    const Model& model_;
    Output write_;
    std::string line_, domain_;
    int64_t document_ = -1, tokens_ = 0;
};

}  // namespace muster
