// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "muster/core/executor.h"
#include "muster/kernels/matmul.h"
#include "muster/model/kv_cache.h"
#include "muster/model/model.h"
#include "muster/model/request_routing.h"
#include "muster/model/trace.h"

namespace muster {

/// One token of a forward pass. It is appended to `cache` at the next position; the rows of one
/// cache stand in the order of its tokens. Caches and routings outlive the call. A controlled
/// routing belongs to one cache, and its rows do not cross RequestRouting::rows_until_update().
struct BatchRow {
    int32_t token = 0;
    KvCache* cache = nullptr;
    RequestRouting* routing = nullptr;  ///< unused under fixed routes, not null otherwise
    bool wanted = false;  ///< keep its final hidden state, so that logits() may follow
};

/// Where a pass begins that skips the layers before: stream [rows, d] enters `layer`.
struct StreamStart {
    int layer = 0;
    MatrixView<const float> stream = {};  ///< no data: begin with the embedding
};

/// One position of a sequence, for branch().
struct BranchRow {
    KvCache* cache = nullptr;
    int64_t position = 0;  ///< below cache->length(): there stands its token
    RequestRouting* routing = nullptr;
};

/// What a pass does beside the ordinary. Nothing is owned.
struct PassOptions {
    StreamStart start = {};
    TraceSink* trace = nullptr;
    Intervention* intervention = nullptr;
    ActivationSink* activations = nullptr;
    ResidualSink* residual = nullptr;
    /// [L] routes to take instead of routing: a row at position t takes entry t of its layer's
    /// table (dense layers: ignored). Empty: route.
    std::span<const RouteTable> fixed_routes = {};
};

/// Scratch memory and threads of forward passes over one model: allocated for `max_rows` rows and
/// the most activations that a pass had, so that steady work allocates nothing, whatever the
/// policies. One pass at a time; not thread-safe. Model and executor outlive it.
class ForwardContext {
  public:
    /// max_rows: most rows of one pass (prefill is cut into passes of this size). Throws Error for
    /// a model in panels (LoadOptions::panels) unless `compute` is int8.
    ForwardContext(const Model& model, Executor& executor, int max_rows = 256,
                   Compute compute = Compute::f32);
    ~ForwardContext();
    ForwardContext(ForwardContext&&) noexcept;

    const Model& model() const noexcept;
    Executor& executor() const noexcept;
    int max_rows() const noexcept;

    /// Runs 0 to max_rows rows through all layers. Results do not depend on the number of workers.
    /// Throws Error, with all caches as they were before, when a token is outside the vocabulary, a
    /// cache is full, or a router logit is not finite.
    void forward(std::span<const BatchRow> rows, const PassOptions& options = {});

    /// Computes rows (at most max_rows) again from `options.start` on, each apart from the others:
    /// it sees what its cache holds before its position, and itself. All are wanted; caches and
    /// routings stay as they are. For counterfactual measurements. Errors as of forward().
    void branch(std::span<const BranchRow> rows, const PassOptions& options);

    /// Logits [count, vocab] of the wanted rows first, first + 1, … of the last pass, in row order.
    /// The view holds until the next call. Evaluate a few dozen rows at a time: memory is
    /// count * vocab.
    MatrixView<float> logits(int first, int count);
    /// How many rows of the last pass were wanted.
    int wanted() const noexcept;

    /// How many experts row `row` of the last pass was routed to: [L] (dense layers 0).
    std::span<const int32_t> experts_of(int row) const noexcept;
    /// Rows of the last pass.
    int rows() const noexcept;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace muster
