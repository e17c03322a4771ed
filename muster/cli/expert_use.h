// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "muster/model/config.h"
#include "muster/model/trace.h"

namespace muster::cli {

/// Counts which experts worked, by layer.
class ExpertUse final : public TraceSink {
  public:
    explicit ExpertUse(const ModelConfig& config);

    void layer(const LayerTrace& trace) override;
    void clear();

    /// Layer by layer: experts per token, how many of them worked at all, and the busiest with
    /// their shares of tokens. Says so when nothing was counted.
    std::string table() const;

  private:
    std::vector<std::vector<int64_t>> counts_;  ///< [L][E]; dense layers empty
    std::vector<int64_t> tokens_;               ///< [L]
};

}  // namespace muster::cli
