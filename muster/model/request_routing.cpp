// SPDX-License-Identifier: Apache-2.0
#include "muster/model/request_routing.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "muster/core/error.h"

namespace muster {
namespace {

const ActivationPlan& plan_of(const ModelConfig& config, const RoutingPolicy& policy) {
    const auto found = config.plans.find(policy.plan);
    if (found == config.plans.end())
        throw Error("routing", "plan '" + policy.plan +
                                   "' is not known here, expected the name of a plan that was "
                                   "given to this model");
    return *found->second;
}

/// The plan's budget as a top-k, and its impacts.
ResolvedRouter resolve_planned(const ModelConfig& config, const RoutingPolicy& policy, int l) {
    const ActivationPlan& plan = plan_of(config, policy);
    const PlanUse use = policy.use.value_or(PlanUse::both);
    RoutingPolicy top_k = policy;
    top_k.selection = Selection::top_k;
    top_k.values = {static_cast<double>(plan.budgets(use)[l])};
    ResolvedRouter router = resolve(top_k, config.layers[l].router, l, config.num_layers());
    router.boost = plan.boosts(l, use, policy.lambda.value_or(plan.lambda));
    return router;
}

/// The user's policy laid on top of the model's own.
ResolvedRouter resolve_layer(const ModelConfig& config, const RoutingPolicy& policy, int l) {
    const RouterSpec& spec = config.layers[l].router;
    const int layers = config.num_layers();
    if (policy.selection == Selection::plan) return resolve_planned(config, policy, l);
    if (policy.selection != Selection::model) return resolve(policy, spec, l, layers);
    ResolvedRouter own = resolve(config.policy, spec, l, layers);
    ResolvedRouter router = resolve(policy, own.spec, l, layers);
    router.ban.insert(router.ban.end(), own.ban.begin(), own.ban.end());
    router.force.insert(router.force.end(), own.force.begin(), own.force.end());
    for (std::vector<int>* list : {&router.ban, &router.force}) {
        std::sort(list->begin(), list->end());
        list->erase(std::unique(list->begin(), list->end()), list->end());
    }
    for (const int e : router.force) {
        if (std::binary_search(router.ban.begin(), router.ban.end(), e))
            throw Error("routing", "expert " + std::to_string(e) + " of layer " +
                                       std::to_string(l) +
                                       " is both banned and forced, by the policy and the model's "
                                       "own, expected one of them");
    }
    if (router.ban.size() >= static_cast<size_t>(spec.num_experts))
        throw Error("routing", "every expert of layer " + std::to_string(l) +
                                   " is banned, expected at least one left");
    if (!policy.shared) router.shared = own.shared;
    return router;
}

}  // namespace

RequestRouting::RequestRouting(const ModelConfig& config, const RoutingPolicy& policy)
    : policy_(policy) {
    const bool own = policy.selection == Selection::model;
    const size_t values = (own ? config.policy : policy).values.size();
    for (int l = 0; l < config.num_layers(); ++l) {
        ResolvedRouter router;
        if (!config.layers[l].dense()) router = resolve_layer(config, policy, l);
        if (router.spec.selection == Selection::mean) {
            // Layers share a controller, unless the policy gives each a mean of its own.
            if (controls_.empty() || values > 1 || router.spec.value != controls_[0].target) {
                const MeanController::Settings settings{.target = router.spec.value,
                                                        .num_experts = router.spec.num_experts};
                controls_.push_back({MeanController(settings), router.spec.value, {}});
            }
            controls_.back().layers.push_back(l);
        }
        layers_.push_back(std::move(router));
    }
    for (const Control& control : controls_) set_p(control);
}

bool RequestRouting::needs_whole_batch() const noexcept {
    return std::any_of(layers_.begin(), layers_.end(), [](const ResolvedRouter& r) {
        return r.spec.selection == Selection::expert_choice;
    });
}

void RequestRouting::set_p(const Control& control) {
    for (const int l : control.layers) layers_[l].p = control.controller.p();
}

void RequestRouting::observe(std::span<const double> experts_per_layer) {
    MUSTER_ASSERT(experts_per_layer.size() == layers_.size());
    for (Control& control : controls_) {
        double sum = 0;
        for (const int l : control.layers) sum += experts_per_layer[l];
        control.controller.update(sum / static_cast<double>(control.layers.size()));
        set_p(control);
    }
}

std::vector<double> RequestRouting::controller_state() const {
    std::vector<double> state;
    for (const Control& control : controls_) {
        state.push_back(control.controller.p());
        state.push_back(control.controller.integral_state());
    }
    return state;
}

double expected_experts(const ModelConfig& config, const RequestRouting& routing, int l) {
    if (config.layers[l].dense()) return 1;
    const RouterSpec& spec = routing.layer(l).spec;
    switch (spec.selection) {
        case Selection::top_k:
        case Selection::random:
        case Selection::mean: {
            const int most = spec.max > 0 ? spec.max : spec.num_experts;
            return std::clamp<double>(spec.value, std::min(spec.min, most), most);
        }
        default:
            return config.mean_experts.empty() ? -1 : config.mean_experts[l];
    }
}

void RequestRouting::restore_controllers(std::span<const double> state) {
    if (state.size() != 2 * controls_.size())
        throw Error("routing", "a saved controller state of " + std::to_string(state.size()) +
                                   " values, expected " + std::to_string(2 * controls_.size()));
    for (size_t i = 0; i < controls_.size(); ++i) {
        controls_[i].controller.restore(state[2 * i], state[2 * i + 1]);
        set_p(controls_[i]);
    }
}

}  // namespace muster
