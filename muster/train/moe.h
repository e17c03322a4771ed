// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <memory>
#include <vector>

#include "muster/experts/moe.h"
#include "muster/routing/losses.h"
#include "muster/routing/policy.h"
#include "muster/routing/router.h"
#include "muster/routing/statistics.h"

namespace muster::train {

struct MoEOptions {
    int64_t d_model = 0;
    std::vector<int> widths;  ///< [E] width of each expert
    int shared_width = 0;  ///< summed width of the shared experts, which see every token; 0: none
    Activation activation = Activation::silu;
    bool gated = true;
    RouterSpec router;         ///< num_experts is taken from widths
    RoutingPolicy policy;      ///< on top of the spec; `model` leaves it as it is
    RouterLossWeights losses;  ///< auxiliary losses, see auxiliary_loss()
    Compute compute = Compute::f32;
    int layer = 0;  ///< its place among `layers`, for policies with values per layer
    int layers = 1;
    uint64_t seed = 0;  ///< for random selection
    /// Selection bias, thresholds, hash table; what they point to outlives the module. Constants:
    /// nothing is learned here.
    RouterParameters parameters;
};

/// A mixture-of-experts feed-forward layer for any network: y = sum over the selected experts of
/// weight * expert(x), plus the shared experts. Selection is not differentiated, combine weights
/// are. Input [..., d_model], output the same shape. On f32 CPU tensors it runs the engine's
/// routing and kernels (compute bf16: operands rounded to bf16, f32 sums and master weights); on
/// anything else LibTorch operations with the same result up to rounding. Not thread-safe.
///
/// Parameters: router [E, d]; gate, up [sum of widths, d], the experts' rows one after the other;
/// down, flat, the experts' [d, width] matrices one after the other; shared_gate, shared_up,
/// shared_down when there are shared experts.
class MoEImpl : public torch::nn::Module {
  public:
    explicit MoEImpl(MoEOptions options);

    /// `token_ids` [T] int32 is needed by hash selection only.
    at::Tensor forward(const at::Tensor& input, const at::Tensor& token_ids = {});

    /// The weighted auxiliary losses of the last forward, a scalar to be added to the loss.
    const at::Tensor& auxiliary_loss() const { return auxiliary_loss_; }
    const RouterLosses& router_losses() const { return losses_; }
    /// What the last forward routed where.
    const RouteTable& routes() const { return routes_; }
    /// Loads summed since reset_statistics().
    const LoadStatistics& statistics() const { return statistics_; }
    void reset_statistics() { statistics_ = {}; }
    void restore_statistics(LoadStatistics statistics) { statistics_ = std::move(statistics); }

    const MoEOptions& options() const { return options_; }
    /// Routes by `policy` from now on (evaluation under another policy); throws Error when it
    /// cannot work.
    void set_policy(const RoutingPolicy& policy);
    /// The router as it stands; `spec.value` may be moved by a controller between batches.
    ResolvedRouter& resolved() { return resolved_; }

    /// Numbers the batch of the next forward, which random selection draws from.
    void set_batch(int64_t number) { batch_ = number; }

    /// One expert's matrices, as views of the parameters: gate (empty when plain), up [ff, d], down
    /// [d, ff].
    at::Tensor expert_gate(int e) const;
    at::Tensor expert_up(int e) const;
    at::Tensor expert_down(int e) const;

    at::Tensor router, gate, up, down, shared_gate, shared_up, shared_down;

  private:
    at::Tensor combine_weights(const at::Tensor& logits) const;
    at::Tensor experts_by_loop(const at::Tensor& x, const at::Tensor& weights) const;
    at::Tensor shared_experts(const at::Tensor& x) const;

    MoEOptions options_;
    ResolvedRouter resolved_;
    std::vector<int64_t> row_offsets_;  ///< [E + 1] first row of each expert in gate and up
    RouteTable routes_;
    RouteScratch scratch_;
    LoadStatistics statistics_;
    RouterLosses losses_;
    at::Tensor auxiliary_loss_;
    int64_t batch_ = 0;
};
TORCH_MODULE(MoE);

/// Gradients through the engine's expert kernels: y [T, d] of x [T, d], weights [A], and the
/// stacked parameters of MoEImpl.
at::Tensor moe_experts(const at::Tensor& x, const at::Tensor& weights, const at::Tensor& gate,
                       const at::Tensor& up, const at::Tensor& down, const MoEOptions& options,
                       const RouteTable& routes);

}  // namespace muster::train
