// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace muster {

/// How router logits become scores. sqrt_softplus: sqrt(log(1 + e^x)). cosine: the logits already
/// are scaled cosine similarities; the score is their sigmoid (DynMoE, arXiv 2405.14297).
enum class Score : uint8_t { softmax, sigmoid, sqrt_softplus, relu, cosine };

/// Which experts a token gets. `model`: what the checkpoint says.
enum class Selection : uint8_t {
    model,
    top_k,          ///< the k best
    top_p,          ///< shortest prefix whose normalised scores reach p, crossing expert kept
    relative,       ///< score >= t * best score
    threshold,      ///< score > learned threshold of the expert (none above: the best one)
    expert_choice,  ///< each expert takes its capacity best tokens (arXiv 2202.09368); whole
                    ///< batches
    hash,           ///< fixed by token id (hash layers, arXiv 2106.04426)
    random,         ///< k experts at random, deterministic for a seed and position
    mean,           ///< top-p whose p is held by a PI controller at a mean number of experts
    speed,          ///< the same held at a number of tokens per second while text is written
    plan,           ///< top-k with the layer's budget and impacts of an ActivationPlan
};

/// What of a plan a policy applies; all but `both` are controls.
enum class PlanUse : uint8_t {
    both,            ///< budgets and impacts, the latter of the context at hand where it has them
    global,          ///< the same with the impacts over all contexts
    layers,          ///< its budgets, the gate's choice
    experts,         ///< its impacts, the baseline's budgets
    random_layers,   ///< its budgets, dealt to the layers at random
    random_experts,  ///< the baseline's budgets, impacts dealt to a layer's experts at random
    random,          ///< both of them
};

constexpr bool is_random(PlanUse use) noexcept { return use >= PlanUse::random_layers; }

constexpr bool takes_impacts(PlanUse use) noexcept {
    return use != PlanUse::layers && use != PlanUse::random_layers;
}

/// How the selected experts are combined. `raw`: the scores; `renorm`: scores divided by their sum
/// over the selected; `softmax`: softmax of the selected logits; `uniform`: 1 / selected.
enum class Weighting : uint8_t { raw, renorm, softmax, uniform };

/// A routing policy: a value, parsed from and printed to one textual form
/// `selection[:value[/value…]][,key=value]…`, e.g. `model`, `top-k:4`, `top-k:8/8/6/4`,
/// `top-p:0.6,max=8`, `relative:0.2,min=4`, `mean:5`, `speed:20`, `plan:FILE`. What is not set is
/// the checkpoint's. See docs/routing.md for the grammar. Thread safety: a value.
struct RoutingPolicy {
    Selection selection = Selection::model;
    std::vector<double> values;    ///< one for all layers, or one per layer; empty for model, hash
    std::string plan;              ///< the name of the selection `plan`
    std::optional<PlanUse> use;    ///< key `use`, of `plan`
    std::optional<double> lambda;  ///< key `lambda`, of `plan`: in place of the plan's own
    std::optional<int> deal;       ///< key `deal`: which of the random deals of a control (0)
    std::optional<Score> score;    ///< key `score`
    std::optional<Weighting> weight;  ///< key `weight`: raw, renorm, softmax, uniform
    std::optional<double> scale;      ///< key `weight=scale:x`, which may stand beside a `weight`:
                                      ///< multiplies the combine weights
    std::optional<int> min;           ///< key `min`: at least so many experts per token
    std::optional<int> max;           ///< key `max`: at most so many
    std::optional<int> groups;        ///< key `groups`: only experts of the so many best groups
    std::vector<std::pair<int, int>> ban;    ///< key `ban=LAYER.EXPERT`, may repeat
    std::vector<std::pair<int, int>> force;  ///< key `force=LAYER.EXPERT`, may repeat
    std::optional<bool> shared;              ///< key `shared=on|off`: run the shared experts

    /// Throws Error naming the bad part and what was expected.
    static RoutingPolicy parse(std::string_view text);
    /// The canonical text; parse(to_string()) gives an equal policy.
    std::string to_string() const;
    bool operator==(const RoutingPolicy&) const = default;
};

}  // namespace muster
