// SPDX-License-Identifier: Apache-2.0
// Scratch memory and steps of a forward pass. Internal to model/.
#pragma once

#include <vector>

#include "muster/core/buffer.h"
#include "muster/experts/moe.h"
#include "muster/kernels/attention.h"
#include "muster/kernels/rope.h"
#include "muster/model/batch_rows.h"
#include "muster/model/forward.h"

namespace muster {

/// Of latent attention, empty without: beside `key` [T, kv_rank + turned], `query` [T, heads *
/// (kv_rank + turned)], the same in the latent's space, and `attended` [T, heads * kv_rank].
struct LatentBuffers {
    Buffer<float> query_down;  ///< [T, query_rank]
    Buffer<float> query;       ///< [T, heads * head_dim]
    Buffer<float> values;      ///< [T, heads * value_dim]
};

struct ForwardContext::Impl {
    Impl(const Model& model, Executor& executor, int max_rows, Compute compute);

    /// y (=|+=) in * w^T, seen by the pass's sink.
    void product(MatrixView<const float> in, const WeightMatrix& w, MatrixView<float> y,
                 Compute how, bool accumulate = false);
    /// The products of one input with several matrices, seen likewise.
    void products(MatrixView<const float> in, std::initializer_list<Product> all);
    /// y (=|+=) the experts' outputs, seen by the pass's sink; `logits` where a router chose.
    void run_experts(int l, const ExpertBank& bank, const RouteTable& chosen, MatrixView<float> y,
                     bool accumulate, MatrixView<const float> logits_of = {});

    /// Fills the stream, and what positions need.
    void enter(const StreamStart& start);
    void embed();
    void run_layers(const PassOptions& options);
    /// Puts keys and values of row t into its cache; those of branches wait for their turn.
    void store(int l, int t, const float* k, const float* v) noexcept;
    void attention_part(int l);
    /// The same for multi-head latent attention: forward_latent.cpp.
    void latent_attention_part(int l);
    void observe_latent(const LatentWeights& lw, MatrixView<const float> raw,
                        MatrixView<const float> k);
    /// `attended` from `query` and the caches, which hold the batch's keys and values.
    void attend(int l, const AttentionShape& shape);
    /// The same row by row, each with its own key and value in its cache for that time.
    void attend_branches(int l, const AttentionShape& shape);
    void feed_forward_part(int l, const PassOptions& options);
    /// Final norm of the wanted rows into `hidden`.
    void finish();
    /// Tells the routings of the batch how many experts their rows took.
    void observe();

    /// Routes the normed rows of layer l, with everything that watches or changes it.
    void route_layer(int l, const PassOptions& options, Intervention* touch);
    /// Fills `routes` for layer l; `router_logits` is filled.
    void choose_experts(int l, const PassOptions& options);
    void take_fixed_routes(int l, const RouteTable& fixed);
    /// One expert for every row, or for those whose router runs the shared experts.
    void fill_single(RouteTable& table, int l, bool shared_only) const;
    /// Weights of `single` by the gate of the shared experts, where there is one.
    void weigh_shared(int l);

    MatrixView<float> rows_of(Buffer<float>& buffer, int64_t cols) {
        return {buffer.data(), batch.size(), cols};
    }
    /// Runs f(first, count) over stretches of the batch's rows.
    template <typename F>
    void for_rows(int rows, F f) {
        constexpr int kRows = 16;  // a stretch: long against handing out a task
        const int tasks = (rows + kRows - 1) / kRows;
        const auto stretch = [&](int task, int) {
            const int first = task * kRows;
            f(first, rows - first < kRows ? rows - first : kRows);
        };
        if (tasks == 1) {
            stretch(0, 0);
        } else {
            executor.run(tasks, stretch);
        }
    }

    const Model& model;
    const ModelConfig& config;
    Executor& executor;
    const int max_rows;
    const Compute compute;
    const int query_width;  ///< of `query`
    const int kv_width;

    BatchRows batch;
    RopeTable rope_table;
    Buffer<float> x;       ///< [T, d] residual stream
    Buffer<float> normed;  ///< [T, d]
    Buffer<float> query;   ///< [T, heads * head_dim]
    Buffer<float> key, value;
    Buffer<float> attended;  ///< [T, heads * head_dim]
    LatentBuffers latent;
    Buffer<float> router_logits;  ///< [T, E]
    Buffer<float> output;  ///< [T, d] of the feed-forward part, where it is not added at once
    Buffer<float> hidden;  ///< [wanted, d]
    Buffer<float> logits;  ///< [count, vocab]
    std::vector<AttentionRun> runs;
    Buffer<std::byte> kept;  ///< a position of a cache, while a branch stands in its place
    AttentionWorkspace attention_workspace;
    MatmulWorkspace matmul_workspace;
    MoeWorkspace moe_workspace;
    ActivationSink* activations = nullptr;  ///< of the pass
    MoeSaved moe_saved;                     ///< for the sink
    RouteScratch route_scratch;
    RouteTable routes;
    RouteTable single;
    std::vector<int32_t> experts;  ///< [T, L]
};

}  // namespace muster
