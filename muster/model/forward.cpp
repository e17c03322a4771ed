// SPDX-License-Identifier: Apache-2.0
#include "muster/model/forward.h"

#include <algorithm>

#include "muster/core/error.h"
#include "muster/model/forward_impl.h"

namespace muster {

ForwardContext::Impl::Impl(const Model& m, Executor& e, int rows, Compute c)
    : model(m),
      config(m.config()),
      executor(e),
      max_rows(rows),
      compute(c),
      query_width(config.heads * kv_shape(config).key_dim),
      kv_width(config.kv_heads * kv_shape(config).key_dim) {
    MUSTER_ASSERT(rows >= 1);
    size_t most_experts = 1;
    for (const FeedForwardConfig& ff : config.layers)
        most_experts = std::max(most_experts, ff.widths.size());
    const size_t n = rows, d = config.d_model;
    x.reserve(n * d);
    normed.reserve(n * d);
    query.reserve(n * query_width);
    key.reserve(n * kv_width);
    if (config.latent.used()) {
        latent.query_down.reserve(n * config.latent.query_rank);
        latent.query.reserve(n * config.heads * config.head_dim);
        latent.values.reserve(n * config.heads * config.latent.value_dim);
    } else {
        value.reserve(n * kv_width);
    }
    attended.reserve(n * config.heads * kv_shape(config).value_dim);
    router_logits.reserve(n * most_experts);
    hidden.reserve(n * d);
    experts.reserve(n * config.num_layers());
}

ForwardContext::ForwardContext(const Model& model, Executor& executor, int max_rows,
                               Compute compute)
    : impl_(std::make_unique<Impl>(model, executor, max_rows, compute)) {
    if (compute != Compute::int8 && model.panel_bytes() > 0)
        throw Error("model", "weights are arranged for integers, expected Compute::int8");
}
ForwardContext::~ForwardContext() = default;
ForwardContext::ForwardContext(ForwardContext&&) noexcept = default;

const Model& ForwardContext::model() const noexcept { return impl_->model; }
Executor& ForwardContext::executor() const noexcept { return impl_->executor; }
int ForwardContext::max_rows() const noexcept { return impl_->max_rows; }
int ForwardContext::wanted() const noexcept { return static_cast<int>(impl_->batch.wanted.size()); }

int ForwardContext::rows() const noexcept { return impl_->batch.size(); }

void ForwardContext::forward(std::span<const BatchRow> rows, const PassOptions& options) {
    Impl& s = *impl_;
    MUSTER_ASSERT(rows.size() <= static_cast<size_t>(s.max_rows));
    MUSTER_ASSERT(options.fixed_routes.empty() ||
                  options.fixed_routes.size() == s.config.layers.size());
    MUSTER_ASSERT(options.activations == nullptr || s.compute != Compute::int8);
    s.activations = options.activations;
    s.batch.assign(rows, s.config);
    if (rows.empty()) return;
    s.experts.assign(rows.size() * s.config.layers.size(), 0);
    if (options.fixed_routes.empty()) {
        for (const BatchRow& row : rows) MUSTER_ASSERT(row.routing != nullptr);
        for (RequestRouting* routing : s.batch.routings) routing->begin_pass();
    }
    s.enter(options.start);
    s.run_layers(options);
    s.finish();
    // Nothing throws from here on: the caches take their tokens only now.
    for (const BatchRow& row : rows) row.cache->append(row.token);
    if (options.fixed_routes.empty()) s.observe();
}

void ForwardContext::branch(std::span<const BranchRow> rows, const PassOptions& options) {
    Impl& s = *impl_;
    MUSTER_ASSERT(rows.size() <= static_cast<size_t>(s.max_rows) && options.fixed_routes.empty());
    s.activations = options.activations;
    s.batch.assign(rows, s.config);
    if (rows.empty()) return;
    s.experts.assign(rows.size() * s.config.layers.size(), 0);
    s.enter(options.start);
    s.run_layers(options);
    s.finish();
}

MatrixView<float> ForwardContext::logits(int first, int count) {
    Impl& s = *impl_;
    MUSTER_ASSERT(first >= 0 && count >= 0 && first + count <= wanted());
    const int64_t vocab = s.config.vocab, d = s.config.d_model;
    s.logits.reserve(static_cast<size_t>(count) * vocab);
    const MatrixView<float> out(s.logits.data(), count, vocab);
    if (count == 0) return out;
    const MatrixView<float> in(s.hidden.data() + first * d, count, d);
    s.product(in, s.model.weights().head, out, s.compute);
    if (s.config.logit_scale != 1)
        for (int64_t i = 0; i < out.rows * out.cols; ++i) out.data[i] *= s.config.logit_scale;
    return out;
}

std::span<const int32_t> ForwardContext::experts_of(int row) const noexcept {
    const size_t layers = impl_->config.layers.size();
    return {impl_->experts.data() + row * layers, layers};
}

}  // namespace muster
