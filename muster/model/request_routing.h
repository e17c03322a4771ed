// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "muster/model/config.h"
#include "muster/routing/context_choice.h"
#include "muster/routing/controller.h"
#include "muster/routing/policy.h"
#include "muster/routing/router.h"

namespace muster {

/// A routing policy made concrete for a model: what one sequence routes by, and the state that
/// moves with it: the controllers of a `mean:` or `speed:` policy, the context that a plan with
/// clusters takes the sequence for. Rows of one batch may point to different ones. But for
/// `speed:`, the state advances after every 32 positions of the sequence, from what all layers did
/// at those positions, so that results depend neither on how the sequence is cut into passes nor
/// on what else is in them; whoever makes passes asks rows_until_update() and cuts there. Copies
/// are independent. Not thread-safe.
class RequestRouting {
  public:
    /// Positions between two moves. A context is chosen after 8 and 16 positions too: prompts may
    /// be short.
    static constexpr int kWindow = 32;

    /// `policy` `model` means the model's own default policy; its other keys are laid on top.
    /// Throws Error when the policy cannot work on this model.
    RequestRouting(const ModelConfig& config, const RoutingPolicy& policy);
    explicit RequestRouting(const ModelConfig& config) : RequestRouting(config, RoutingPolicy{}) {}

    /// Of Selection::random; 0 at first. Whoever keeps what was computed must know whether it
    /// counts.
    void set_seed(uint64_t seed) noexcept { seed_ = seed; }
    uint64_t seed() const noexcept { return seed_; }
    bool random() const noexcept;

    /// As given.
    const RoutingPolicy& policy() const noexcept { return policy_; }
    /// The router of layer `l`; of a dense layer, one expert that always works.
    const ResolvedRouter& layer(int l) const noexcept { return layers_[l]; }
    int num_layers() const noexcept { return static_cast<int>(layers_.size()); }
    /// Whether a layer selects among the tokens of a whole batch (expert choice): such a policy
    /// evaluates texts but cannot generate.
    bool needs_whole_batch() const noexcept;

    /// Whether the experts that rows take change what later ones do: `mean:` moves its p, a plan
    /// chooses among its contexts.
    bool controlled() const noexcept { return !controls_.empty() || context_.has_value(); }
    /// Whether note_route() is to be called for a layer.
    bool follows_routes(int l) const noexcept { return context_ || layers_[l].counted > 0; }
    /// The cluster of the plan by which it routes now; -1: its one table, or no plan.
    int context_cluster() const noexcept { return context_ ? context_->cluster() : -1; }
    /// Whether the clock moves it (`speed:`): such a policy generates but cannot evaluate.
    bool timed() const noexcept { return speed_.has_value(); }

    /// How many rows from `position` on may share a pass before the state moves.
    int rows_until_update(int64_t position) const noexcept;
    /// Forward passes report: that they begin; each row's experts in each MoE layer and its
    /// RouteScratch::by_grid, where it follows_routes(); when they are through, for every row in
    /// order, how many it took [L] (dense layers: anything); their end, which moves the state where
    /// a window is full (a pass that was not cut where it should be is one window). Positions that
    /// do not follow on each other begin a new window. None allocates within the model's context.
    void begin_pass() noexcept;
    void note_route(int layer, std::span<const int32_t> experts,
                    const OverGrid<int32_t>& by_grid) noexcept;
    void observe(int64_t position, std::span<const int32_t> counts);
    void end_pass();
    /// Reports the mean experts per token of each layer [L] over a batch of training, which is a
    /// window by itself.
    void observe_batch(std::span<const double> experts_per_layer);
    /// Goes back to the state before `position`, or before the last one not after it whose state is
    /// known: returns it. What follows there must be computed again.
    int resume(int position);
    /// Goes back to the state of a sequence that begins.
    void restart();

    /// Reports a token written: the experts [L] of its row and the seconds it took. For `speed:`.
    void pace(std::span<const int32_t> experts, double seconds);
    /// Null unless timed().
    const SpeedController* speed() const noexcept { return speed_ ? &*speed_ : nullptr; }

    /// The state at all positions known, and back; empty unless controlled().
    /// restore_controllers() throws Error when it is no state of this policy.
    std::vector<double> controller_state() const;
    void restore_controllers(std::span<const double> state);

  private:
    /// One controller holds the mean over its layers: all layers when the policy has one value, a
    /// layer each when it has several.
    struct Control {
        MeanController controller;
        std::vector<int> layers;
        /// p is not known before the first window has shown the router's scores; until then
        /// tokens get the target itself. Never where the checkpoint's own top-p is known, and at
        /// the bounds.
        bool starts_counted = false, counted = false;
        std::vector<double> numbers;  ///< that its layers take until then: the target as mean
        double sum = 0;               ///< experts of the window under way, over its rows and layers
        /// Sums over what counted tokens noted: not taken yet, of the window.
        OverGrid<int64_t> pending{}, by_grid{};

        void restart() noexcept;
        void restart_window() noexcept;
        void take() noexcept;
        void end_window(int rows) noexcept;
    };
    void add_control(const ModelConfig& config, const std::vector<int>& layers);
    void make_speed(const ModelConfig& config, const std::vector<int>& layers);
    void follow_plan(const ModelConfig& config);
    int64_t moves_before(int64_t position) const noexcept;
    int64_t last_move(int64_t position) const noexcept;
    /// Gives the layers what the state says.
    void apply();
    void begin_at(int64_t position);
    /// Of the state at one position, in numbers.
    size_t state_size() const noexcept;
    void append_state(std::vector<double>& state) const;
    void restore_state(std::span<const double> state);
    void restore_window(size_t window);

    RoutingPolicy policy_;
    uint64_t seed_ = 0;
    std::vector<ResolvedRouter> layers_;
    std::vector<Control> controls_;
    std::vector<int> control_of_;  ///< [L] in controls_; -1: none
    std::optional<SpeedController> speed_;
    std::optional<ContextChoice> context_;
    /// [clusters + 1][L] ResolvedRouter::boost under the one table and under each cluster.
    std::vector<std::vector<std::vector<float>>> boosts_;
    int64_t begin_ = 0;            ///< the first position observed
    int64_t position_ = 0;         ///< the next one
    int window_rows_ = 0;          ///< of the window under way
    std::vector<double> history_;  ///< [windows, state_size()] at begin_ and each window after it
};

/// Experts per token of layer `l` under `routing`: exact where the selection takes a fixed number,
/// else config.mean_experts, which holds for the model's own policy; -1 when unknown; 1 for a dense
/// layer.
double expected_experts(const ModelConfig& config, const RequestRouting& routing, int l);

/// Parameters activated per token under `routing` (DESIGN's measure), with so many routed experts
/// [L] per token: those of shared experts count where they run. A dense layer's one expert counts
/// whatever stands in its place.
double activated_parameters(const ModelConfig& config, const RequestRouting& routing,
                            std::vector<double> experts);

}  // namespace muster
