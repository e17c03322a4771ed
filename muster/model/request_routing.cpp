// SPDX-License-Identifier: Apache-2.0
#include "muster/model/request_routing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <utility>

#include "muster/core/error.h"
#include "muster/routing/activation_plan.h"

namespace muster {
namespace {

constexpr int kEarly[] = {8, 16};  // more positions at which a context is chosen
constexpr size_t kControlState = 3;

const ActivationPlan& plan_of(const ModelConfig& config, const RoutingPolicy& policy) {
    const auto found = config.plans.find(policy.plan);
    if (found == config.plans.end())
        throw Error("routing", "plan '" + policy.plan +
                                   "' is not known here, expected the name of a plan that was "
                                   "given to this model");
    return *found->second;
}

/// The plan's budgets of all layers; none without a plan.
std::vector<int> planned_budgets(const ModelConfig& config, const RoutingPolicy& policy) {
    if (policy.selection != Selection::plan) return {};
    std::vector<int> most;
    most.reserve(config.layers.size());
    for (const FeedForwardConfig& ff : config.layers) most.push_back(most_experts(ff.router));
    return plan_of(config, policy)
        .budgets(policy.use.value_or(PlanUse::both), most, policy.deal.value_or(0));
}

/// The plan's budget as a top-k, and its impacts.
ResolvedRouter resolve_planned(const ModelConfig& config, const RoutingPolicy& policy, int l,
                               int budget) {
    const ActivationPlan& plan = plan_of(config, policy);
    const PlanUse use = policy.use.value_or(PlanUse::both);
    RoutingPolicy top_k = policy;
    top_k.selection = Selection::top_k;
    top_k.values = {static_cast<double>(budget)};
    ResolvedRouter router = resolve(top_k, config.layers[l].router, l, config.num_layers());
    if (budget > most_experts(router))
        throw Error("routing", "plan '" + policy.plan + "' gives layer " + std::to_string(l) + " " +
                                   std::to_string(budget) +
                                   " experts per token, expected at most " +
                                   std::to_string(most_experts(router)) +
                                   ", which is what groups, bans and max leave");
    router.boost =
        plan.boosts(l, use, policy.lambda.value_or(plan.lambda), -1, policy.deal.value_or(0));
    return router;
}

/// The user's policy laid on top of the model's own.
ResolvedRouter resolve_layer(const ModelConfig& config, const RoutingPolicy& policy, int l) {
    const RouterSpec& spec = config.layers[l].router;
    const int layers = config.num_layers();
    if (policy.selection != Selection::model && policy.selection != Selection::speed)
        return resolve(policy, spec, l, layers);
    ResolvedRouter own = resolve(config.policy, spec, l, layers);
    // A speed gives up experts of the model's own selection.
    if (policy.selection == Selection::speed) return resolve(policy, own.spec, l, layers);
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

void refuse_dense(const char* key, const std::vector<std::pair<int, int>>& experts, int dense) {
    for (const auto& [layer, expert] : experts)
        if (layer == dense)
            throw Error("routing", fmt::format("{}={}.{}: layer {} is dense, expected a layer with "
                                               "several experts",
                                               key, layer, expert, layer));
}

/// What a token can get at least and at most.
struct Bounds {
    double low = 0, high = 0;
    int experts = 1;
};

Bounds bounds_of(const ResolvedRouter& r) {
    const int forced = static_cast<int>(r.force.size()), high = most_experts(r);
    return {static_cast<double>(std::clamp(std::max(r.spec.min, forced), 1, high)),
            static_cast<double>(high), r.spec.num_experts};
}

/// Over the layers: the means of the bounds, the most experts.
Bounds bounds_of(const std::vector<ResolvedRouter>& routers, const std::vector<int>& layers) {
    Bounds all;
    for (const int l : layers) {
        const Bounds b = bounds_of(routers[l]);
        all.low += b.low / static_cast<double>(layers.size());
        all.high += b.high / static_cast<double>(layers.size());
        all.experts = std::max(all.experts, b.experts);
    }
    return all;
}

/// The number of experts for each of the layers, alike but for their bounds, whose mean is
/// `target`.
std::vector<double> shared_out(double target, const std::vector<ResolvedRouter>& routers,
                               const std::vector<int>& layers) {
    const auto numbers = [&](double wanted) {
        std::vector<double> out;
        for (const int l : layers) {
            const Bounds b = bounds_of(routers[l]);
            out.push_back(std::clamp(wanted, b.low, b.high));
        }
        return out;
    };
    double below = 0, above = 0;
    for (const int l : layers) above = std::max(above, bounds_of(routers[l]).high);
    const std::vector<double> alike(layers.size(), target);
    if (numbers(target) == alike) return alike;
    for (int i = 0; i < 60; ++i) {
        const double middle = (below + above) / 2;
        const std::vector<double> tried = numbers(middle);
        const double sum = std::accumulate(tried.begin(), tried.end(), 0.0);
        (sum < target * static_cast<double>(layers.size()) ? below : above) = middle;
    }
    return numbers(above);
}

/// What the model's own top-p is, and what the trainer saw come of it, as means over the layers; p
/// is 0 where its own selection is another.
struct OwnTopP {
    double p = 0, mean_experts = 0;
};

OwnTopP own_top_p(const ModelConfig& config, const std::vector<int>& layers) {
    OwnTopP own;
    for (const int l : layers) {
        const ResolvedRouter router =
            resolve(config.policy, config.layers[l].router, l, config.num_layers());
        if (router.spec.selection != Selection::top_p) return {};
        own.p += router.p / static_cast<double>(layers.size());
        if (!config.mean_experts.empty())
            own.mean_experts += config.mean_experts[l] / static_cast<double>(layers.size());
    }
    return own;
}

}  // namespace

RequestRouting::RequestRouting(const ModelConfig& config, const RoutingPolicy& policy)
    : policy_(policy) {
    const bool own = policy.selection == Selection::model;
    const size_t values = (own ? config.policy : policy).values.size();
    const std::vector<int> budgets = planned_budgets(config, policy);
    control_of_.assign(config.layers.size(), -1);
    std::vector<int> held;
    bool equal = values <= 1;
    for (int l = 0; l < config.num_layers(); ++l) {
        ResolvedRouter router;
        if (config.layers[l].dense()) {
            refuse_dense("ban", policy.ban, l);
            refuse_dense("force", policy.force, l);
        } else {
            router = budgets.empty() ? resolve_layer(config, policy, l)
                                     : resolve_planned(config, policy, l, budgets[l]);
        }
        layers_.push_back(std::move(router));
        const RouterSpec& spec = layers_[l].spec;
        if (spec.selection != Selection::mean && spec.selection != Selection::speed) continue;
        held.push_back(l);
        equal = equal && spec.value == layers_[held.front()].spec.value;
    }
    if (policy.selection == Selection::plan) follow_plan(config);
    if (!held.empty()) {
        if (layers_[held.front()].spec.selection == Selection::speed) {
            make_speed(config, held);
        } else if (equal) {
            add_control(config, held);
        } else {
            for (const int l : held) add_control(config, {l});
        }
    }
    const size_t windows =
        static_cast<size_t>(std::max(config.context, 1)) / kWindow + 2 + std::size(kEarly);
    history_.reserve(windows * state_size());
    begin_at(0);
    apply();
}

void RequestRouting::follow_plan(const ModelConfig& config) {
    const ActivationPlan& plan = plan_of(config, policy_);
    const PlanUse use = policy_.use.value_or(PlanUse::both);
    if (plan.clusters.empty() || !takes_impacts(use) || use == PlanUse::global) return;
    context_.emplace(plan.clusters);
    auto& global = boosts_.emplace_back();
    for (const ResolvedRouter& router : layers_) global.push_back(router.boost);
    for (int c = 0; c < static_cast<int>(plan.clusters.size()); ++c) {
        auto& of = boosts_.emplace_back();
        for (int l = 0; l < config.num_layers(); ++l)
            of.push_back(plan.boosts(l, use, policy_.lambda.value_or(plan.lambda), c,
                                     policy_.deal.value_or(0)));
    }
}

void RequestRouting::add_control(const ModelConfig& config, const std::vector<int>& layers) {
    const Bounds bounds = bounds_of(layers_, layers);
    const OwnTopP own = own_top_p(config, layers);
    const bool known = own.p > 0 && own.p < 1 && !config.mean_experts.empty();
    const MeanController::Settings settings{.target = layers_[layers.front()].spec.value,
                                            .low = bounds.low,
                                            .high = bounds.high,
                                            .num_experts = bounds.experts,
                                            .known_mean = known ? own.mean_experts : 0,
                                            .known_p = known ? own.p : 0.5};
    constexpr double kRounding = 1e-9;
    if (settings.target < bounds.low - kRounding || settings.target > bounds.high + kRounding)
        throw Error("routing",
                    fmt::format("mean {:.6g}, expected {:.6g} to {:.6g}, which min, max, "
                                "forced and banned experts leave on average",
                                settings.target, bounds.low, bounds.high));
    const bool moves = settings.target > bounds.low && settings.target < bounds.high;
    for (const int l : layers) control_of_[l] = static_cast<int>(controls_.size());
    controls_.push_back({.controller = MeanController(settings),
                         .layers = layers,
                         .starts_counted = moves && !known,
                         .counted = moves && !known,
                         .numbers = shared_out(settings.target, layers_, layers)});
}

void RequestRouting::Control::restart_window() noexcept {
    sum = 0;
    by_grid.fill(0);
}

void RequestRouting::Control::restart() noexcept {
    controller.restart();
    counted = starts_counted;
    restart_window();
}

void RequestRouting::Control::take() noexcept {
    for (size_t i = 0; i < pending.size(); ++i) by_grid[i] += std::exchange(pending[i], 0);
}

void RequestRouting::Control::end_window(int rows) noexcept {
    const auto counts = static_cast<double>(layers.size()) * rows;
    if (counted) {
        OverGrid<double> means;
        for (size_t i = 0; i < means.size(); ++i)
            means[i] = static_cast<double>(by_grid[i]) / counts;
        controller.begin(sum / counts, means);
    } else {
        controller.update(sum / counts);
    }
    counted = false;
    restart_window();
}

/// The cost of a token is taken as the parameters it reads: decoding waits for memory.
void RequestRouting::make_speed(const ModelConfig& config, const std::vector<int>& layers) {
    const Bounds bounds = bounds_of(layers_, layers);
    const ParameterCounts counts = count_parameters(config);
    double experts = 0;
    for (const int l : layers) experts += counts.per_expert[l];
    const double fixed =
        static_cast<double>(counts.per_token_fixed + std::max(counts.head, counts.embedding));
    const OwnTopP own = own_top_p(config, layers);
    speed_.emplace(
        SpeedController::Settings{.tokens_per_second = layers_[layers.front()].spec.value,
                                  .fixed = fixed / std::max(experts, 1.0),
                                  .low = bounds.low,
                                  .high = bounds.high,
                                  .num_experts = bounds.experts,
                                  .start_p = own.p > 0 ? own.p : 1});
}

bool RequestRouting::needs_whole_batch() const noexcept {
    return std::any_of(layers_.begin(), layers_.end(), [](const ResolvedRouter& r) {
        return r.spec.selection == Selection::expert_choice;
    });
}

bool RequestRouting::random() const noexcept {
    return std::any_of(layers_.begin(), layers_.end(), [](const ResolvedRouter& r) {
        return r.spec.selection == Selection::random;
    });
}

void RequestRouting::apply() {
    for (const Control& control : controls_) {
        for (size_t i = 0; i < control.layers.size(); ++i) {
            ResolvedRouter& router = layers_[control.layers[i]];
            router.p = control.controller.p();
            router.counted = control.counted ? control.numbers[i] : 0;
        }
    }
    if (context_) {
        const auto& boosts = boosts_[static_cast<size_t>(int64_t{context_->cluster()} + 1)];
        for (size_t l = 0; l < layers_.size(); ++l) layers_[l].boost = boosts[l];
    }
    if (!speed_) return;
    for (ResolvedRouter& router : layers_)
        if (router.spec.selection == Selection::speed) router.p = speed_->p();
}

/// How often the state moves in a sequence of so many positions.
int64_t RequestRouting::moves_before(int64_t position) const noexcept {
    if (!context_ || position < kEarly[0]) return position / kWindow;
    return position / kWindow + (position < kEarly[1] ? 1 : 2);
}

/// The last position, up to this one, at which the state moves or the sequence begins.
int64_t RequestRouting::last_move(int64_t position) const noexcept {
    if (position >= kWindow || !context_) return position / kWindow * kWindow;
    return position < kEarly[0] ? 0 : position < kEarly[1] ? kEarly[0] : kEarly[1];
}

int RequestRouting::rows_until_update(int64_t position) const noexcept {
    if (!controlled()) return std::numeric_limits<int>::max();
    if (context_)
        for (const int early : kEarly)
            if (position < early) return early - static_cast<int>(position);
    return kWindow - static_cast<int>(position % kWindow);
}

size_t RequestRouting::state_size() const noexcept {
    return kControlState * controls_.size() + (context_ ? context_->state_size() : 0);
}

void RequestRouting::append_state(std::vector<double>& state) const {
    for (const Control& control : controls_) {
        state.push_back(control.controller.log_odds());
        state.push_back(control.controller.debt());
        state.push_back(control.counted ? 1 : 0);
    }
    if (context_) context_->append_state(state);
}

void RequestRouting::restore_state(std::span<const double> state) {
    for (Control& control : controls_) {
        control.controller.restore(state[0], state[1]);
        control.counted = control.starts_counted && state[2] != 0;
        control.restart_window();
        state = state.subspan(kControlState);
    }
    if (context_) context_->restore(state);
    window_rows_ = 0;
    apply();
}

/// The state as it is becomes that before `position`, of which nothing earlier is known.
void RequestRouting::begin_at(int64_t position) {
    begin_ = position_ = position;
    window_rows_ = 0;
    history_.clear();
    for (Control& control : controls_) control.restart_window();
    if (context_) context_->restart_window();
    append_state(history_);
}

void RequestRouting::begin_pass() noexcept {
    for (Control& control : controls_) control.pending.fill(0);
    if (context_) context_->drop();
}

void RequestRouting::note_route(int layer, std::span<const int32_t> experts,
                                const OverGrid<int32_t>& by_grid) noexcept {
    if (context_) context_->note(layer, experts);
    if (layers_[layer].counted == 0) return;
    OverGrid<int64_t>& pending = controls_[control_of_[layer]].pending;
    for (size_t i = 0; i < pending.size(); ++i) pending[i] += by_grid[i];
}

void RequestRouting::observe(int64_t position, std::span<const int32_t> counts) {
    MUSTER_ASSERT(counts.size() == layers_.size());
    if (!controlled()) return;
    if (position != position_) begin_at(position);
    for (Control& control : controls_)
        for (const int l : control.layers) control.sum += counts[l];
    ++window_rows_;
    ++position_;
}

void RequestRouting::end_pass() {
    if (!controlled()) return;
    for (Control& control : controls_) control.take();
    if (context_) context_->take();
    const auto known = static_cast<int64_t>(history_.size() / state_size());
    const int64_t ended = moves_before(position_) - moves_before(begin_) + 1 - known;
    if (ended == 0) return;
    for (Control& control : controls_) control.end_window(window_rows_);
    if (context_) context_->end_window(window_rows_);
    window_rows_ = 0;
    for (int64_t i = 0; i < ended; ++i) append_state(history_);
    apply();
}

void RequestRouting::observe_batch(std::span<const double> experts_per_layer) {
    MUSTER_ASSERT(experts_per_layer.size() == layers_.size());
    for (Control& control : controls_) {
        double sum = 0;
        for (const int l : control.layers) sum += experts_per_layer[l];
        control.controller.update(sum / static_cast<double>(control.layers.size()));
        control.counted = false;
    }
    apply();
    begin_at(0);
}

void RequestRouting::restore_window(size_t window) {
    const size_t size = state_size();
    restore_state(std::span(history_).subspan(window * size, size));
    history_.resize(size * (window + 1));
}

void RequestRouting::restart() {
    for (Control& control : controls_) control.restart();
    if (context_) context_->restart();
    begin_at(0);
    apply();
}

int RequestRouting::resume(int position) {
    if (!controlled() || position == position_) return position;
    if (position > position_) {
        begin_at(position);
    } else if (position < begin_) {
        restore_window(0);
        begin_at(position);
    } else {
        const int64_t window = moves_before(position) - moves_before(begin_);
        restore_window(static_cast<size_t>(window));
        position_ = window == 0 ? begin_ : last_move(position);
    }
    return static_cast<int>(position_);
}

void RequestRouting::pace(std::span<const int32_t> experts, double seconds) {
    MUSTER_ASSERT(experts.size() == layers_.size());
    if (!speed_) return;
    double sum = 0;
    int layers = 0;
    for (size_t l = 0; l < layers_.size(); ++l) {
        if (layers_[l].spec.selection != Selection::speed) continue;
        sum += experts[l];
        ++layers;
    }
    if (speed_->update(sum / layers, seconds)) apply();
}

std::vector<double> RequestRouting::controller_state() const {
    if (!controlled()) return {};
    std::vector<double> state{static_cast<double>(begin_), static_cast<double>(position_),
                              static_cast<double>(window_rows_)};
    append_state(state);
    for (const Control& control : controls_) {
        state.push_back(control.sum);
        state.insert(state.end(), control.by_grid.begin(), control.by_grid.end());
    }
    if (context_) context_->append_window(state);
    state.insert(state.end(), history_.begin(), history_.end());
    return state;
}

void RequestRouting::restore_controllers(std::span<const double> state) {
    constexpr size_t kHead = 3;
    const size_t size = state_size();
    const size_t open =
        (1 + kGridPoints) * controls_.size() + (context_ ? context_->window_size() : 0);
    if (!controlled() && state.empty()) return;
    const auto fail = [&] {
        throw Error("routing", "a saved controller state of " + std::to_string(state.size()) +
                                   " values does not belong to policy `" + policy_.to_string() +
                                   "`, expected one that was saved under it");
    };
    const bool numbers = std::all_of(state.begin(), state.end(), [](double x) {
        return std::isfinite(x) && std::abs(x) < 1e15;
    });
    if (!controlled() || !numbers || state.size() < kHead + size + open || state[0] < 0 ||
        state[1] < state[0] || state[2] < 0 || state[2] > kWindow)
        fail();
    const auto begin = static_cast<int64_t>(state[0]), position = static_cast<int64_t>(state[1]);
    const auto windows = static_cast<size_t>(moves_before(position) - moves_before(begin) + 1);
    if (state.size() / size < windows || state.size() != kHead + open + size * (windows + 1))
        fail();
    begin_ = begin;
    position_ = position;
    restore_state(state.subspan(kHead, size));
    window_rows_ = static_cast<int>(state[2]);
    std::span<const double> window = state.subspan(kHead + size, open);
    for (Control& control : controls_) {
        control.sum = window[0];
        for (int i = 0; i < kGridPoints; ++i) control.by_grid[i] = std::llround(window[1 + i]);
        window = window.subspan(1 + kGridPoints);
    }
    if (context_) context_->restore_window(window);
    const auto history = state.subspan(kHead + size + open);
    history_.assign(history.begin(), history.end());
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

double activated_parameters(const ModelConfig& config, const RequestRouting& routing,
                            std::vector<double> experts) {
    const ParameterCounts counts = count_parameters(config);
    double idle = 0;
    for (int l = 0; l < config.num_layers(); ++l) {
        if (config.layers[l].dense()) experts[static_cast<size_t>(l)] = 1;
        if (!routing.layer(l).shared) idle += counts.shared[static_cast<size_t>(l)];
    }
    return counts.activated(experts) - idle;
}

}  // namespace muster
