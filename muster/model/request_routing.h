// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "muster/model/config.h"
#include "muster/routing/controller.h"
#include "muster/routing/policy.h"
#include "muster/routing/router.h"

namespace muster {

/// A routing policy made concrete for a model: what one request (or one evaluation) routes by, and
/// the state of the controllers that a `mean:` policy moves. Rows of one batch may point to
/// different ones. Copies are independent. Not thread-safe.
class RequestRouting {
  public:
    /// `policy` `model` means the model's own default policy; its other keys are laid on top.
    /// Throws Error when the policy cannot work on this model.
    RequestRouting(const ModelConfig& config, const RoutingPolicy& policy);
    explicit RequestRouting(const ModelConfig& config) : RequestRouting(config, RoutingPolicy{}) {}

    /// As given.
    const RoutingPolicy& policy() const noexcept { return policy_; }
    /// The router of layer `l`; of a dense layer, one expert that always works.
    const ResolvedRouter& layer(int l) const noexcept { return layers_[l]; }
    int num_layers() const noexcept { return static_cast<int>(layers_.size()); }
    /// Whether a layer selects among the tokens of a whole batch (expert choice): such a policy
    /// evaluates texts but cannot generate.
    bool needs_whole_batch() const noexcept;

    /// Reports the mean experts per token of each layer [L] (dense layers: anything) over the rows
    /// just computed; moves the p of `mean:` layers. Forward passes call it.
    void observe(std::span<const double> experts_per_layer);

    /// Whether observe() changes anything.
    bool controlled() const noexcept { return !controls_.empty(); }
    /// p and integral of each controller, and back; empty without `mean:`. restore() throws Error
    /// on another number of values.
    std::vector<double> controller_state() const;
    void restore_controllers(std::span<const double> state);

  private:
    /// One controller holds the mean over its layers: all layers when the policy has one value, a
    /// layer each when it has several.
    struct Control {
        MeanController controller;
        double target;
        std::vector<int> layers;
    };
    void set_p(const Control& control);

    RoutingPolicy policy_;
    std::vector<ResolvedRouter> layers_;
    std::vector<Control> controls_;
};

/// Experts per token of layer `l` under `routing`: exact where the selection takes a fixed number,
/// else config.mean_experts, which holds for the model's own policy; -1 when unknown; 1 for a dense
/// layer.
double expected_experts(const ModelConfig& config, const RequestRouting& routing, int l);

}  // namespace muster
