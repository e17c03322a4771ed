// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "muster/core/progress.h"
#include "muster/model/forward.h"
#include "muster/model/importance_sums.h"

namespace muster {

/// Adds up squares of what passes multiply with each weight matrix of blocks ("blk."), per expert,
/// and of the head where logits are computed. Experts of equal shapes that are tensors of their own
/// (Hugging Face's) count under the name of the stacked tensor that they are in other files.
class ImportanceCollector final : public ActivationSink {
  public:
    /// `lend_rows`: in each pass an expert that was given no row so far computes the so many rows
    /// whose router logits prefer it most, whose results go nowhere; 0: none. Model and executor
    /// outlive it. Throws Error when the model's weights are arranged in panels.
    ImportanceCollector(const Model& model, Executor& executor, int lend_rows);

    /// Adds what was collected before, on the same model. Throws Error.
    void go_on_from(const ImportanceSums& sums);

    void product(const WeightMatrix& w, MatrixView<const float> x) override;
    void experts(const ExpertActivations& activations) override;

    ImportanceSums& sums() noexcept { return sums_; }

  private:
    struct Place {
        const std::byte* begin = nullptr;
        const std::byte* end = nullptr;
        ImportanceSums::Entry* entry = nullptr;  ///< null: not wanted
        int64_t matrices = 1;
        int64_t first = 0;  ///< of the entry's, for the tensor's own first
    };
    struct Target {
        ImportanceSums::Entry* entry = nullptr;
        int64_t matrix = 0;
    };
    Target find(const WeightMatrix& w) const;
    bool used(const Expert& expert) const;
    void add_rows(const ExpertActivations& a, bool lent);
    void add_hidden(const ExpertActivations& a, int e, int row, bool lent);
    void lend(const ExpertActivations& a);
    bool plan_lending(const ExpertActivations& a);

    Executor& executor_;
    const int lend_rows_;
    ImportanceSums sums_;
    std::vector<Place> places_;  ///< by address
    std::vector<float> hidden_;
    // Of lending.
    RouteTable routes_;
    MoeWorkspace workspace_;
    MoeSaved saved_;
    Buffer<float> output_;
    std::vector<std::vector<int>> by_token_;
    std::vector<int> order_;
};

struct ImportanceOptions {
    int window = 512;         ///< tokens of a chunk, the begin token among them
    int64_t from_chunk = 0;   ///< chunks to leave out
    int64_t most_chunks = 0;  ///< 0: all
    RoutingPolicy policy;     ///< `model`: the checkpoint's default
    int lend_rows = 32;       ///< see ImportanceCollector
    bool process_head = false;
    Compute compute = Compute::f32;  ///< or bf16
    /// Called after each chunk; returning false ends with what there is.
    std::function<bool(const ImportanceSums&, int64_t done, int64_t total)> on_chunk;
};

/// Runs chunks of the tokens of a text, each a sequence of its own, and adds what they activate to
/// `sums`, which may hold what was collected before. Returns the number of chunks of the text,
/// those left out included. Throws Error when the text has no chunk, or as ForwardContext::forward
/// does.
int64_t collect_importance(const Model& model, Executor& executor, std::span<const int32_t> tokens,
                           const ImportanceOptions& options, ImportanceSums& sums);

}  // namespace muster
