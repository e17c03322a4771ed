// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/residual_lens.h"

#include <algorithm>

#include "muster/kernels/norm.h"

namespace muster {
namespace {

constexpr int64_t kRows = 32;  // rows of logits at a time

}  // namespace

ResidualLens::ResidualLens(const Model& model, Executor& executor, Compute compute)
    : model_(model),
      executor_(executor),
      compute_(compute),
      likeliest_(model.weights().layers.size()) {
    normed_.reserve(static_cast<size_t>(kRows) * static_cast<size_t>(model.config().d_model));
    logits_.reserve(static_cast<size_t>(kRows) * static_cast<size_t>(model.config().vocab));
}

void ResidualLens::residual(int layer, const RowInfo&, MatrixView<const float> x) {
    const ModelConfig& config = model_.config();
    const int64_t vocab = config.vocab;
    std::vector<int32_t>& out = likeliest_[layer];
    out.resize(static_cast<size_t>(x.rows - skipped_));
    for (int64_t begin = skipped_; begin < x.rows; begin += kRows) {
        const int64_t n = std::min(kRows, x.rows - begin);
        const MatrixView<float> normed(normed_.data(), n, x.cols);
        const MatrixView<float> logits(logits_.data(), n, vocab);
        rms_norm(x.slice(begin, n), model_.weights().final_norm, config.norm_eps, normed);
        // A positive logit scale moves no maximum.
        matmul(normed, model_.weights().head, logits, executor_, compute_, false, &workspace_);
        executor_.run(static_cast<int>(n), [&](int i, int) {
            const float* row = logits.row(i);
            out[static_cast<size_t>(begin - skipped_ + i)] =
                static_cast<int32_t>(std::max_element(row, row + vocab) - row);
        });
    }
}

}  // namespace muster
