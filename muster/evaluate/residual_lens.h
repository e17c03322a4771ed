// SPDX-License-Identifier: Apache-2.0
// Internal to evaluate/.
#pragma once

#include <span>
#include <vector>

#include "muster/core/buffer.h"
#include "muster/core/executor.h"
#include "muster/kernels/matmul.h"
#include "muster/model/model.h"
#include "muster/model/trace.h"

namespace muster {

/// The likeliest next token of each row after each layer: final norm and head on the residual
/// stream. Not thread-safe; model and executor outlive it.
class ResidualLens final : public ResidualSink {
  public:
    ResidualLens(const Model& model, Executor& executor, Compute compute);

    /// Rows before `row` of the next passes are not looked at.
    void skip(int row) { skipped_ = row; }
    void residual(int layer, const RowInfo& rows, MatrixView<const float> x) override;
    /// Of layer `layer` of the last pass: a token for each row that was not skipped. Ties go to the
    /// lower id.
    std::span<const int32_t> likeliest(int layer) const { return likeliest_[layer]; }

  private:
    const Model& model_;
    Executor& executor_;
    const Compute compute_;
    int skipped_ = 0;
    Buffer<float> normed_;  ///< [kRows, d]
    Buffer<float> logits_;  ///< [kRows, vocab]
    MatmulWorkspace workspace_;
    std::vector<std::vector<int32_t>> likeliest_;  ///< [L][rows]
};

}  // namespace muster
