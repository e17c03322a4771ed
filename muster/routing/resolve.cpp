// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include "muster/core/error.h"
#include "muster/routing/policy_names.h"
#include "muster/routing/router.h"

namespace muster {
namespace {

void require(bool holds, const std::string& what, const std::string& expected) {
    if (!holds) throw Error("routing", what + ", expected " + expected);
}

std::string text(double x) {
    char digits[32];
    return {digits, std::to_chars(std::begin(digits), std::end(digits), x).ptr};
}

/// What the checkpoint says must make sense by itself: it may come from a file.
void check_spec(const RouterSpec& spec) {
    const auto at_least_one = [](const char* name, int x) {
        require(x >= 1, name + std::string(" ") + std::to_string(x), "at least 1");
    };
    at_least_one("number of experts", spec.num_experts);
    at_least_one("min", spec.min);
    at_least_one("groups", spec.groups);
    at_least_one("group_top", spec.group_top);
    require(spec.selection != Selection::model, "router selection 'model'", "a concrete selection");
    require(
        spec.num_experts % spec.groups == 0,
        std::to_string(spec.num_experts) + " experts in " + std::to_string(spec.groups) + " groups",
        "groups of equal size");
    require(spec.groups_used >= 1 && spec.groups_used <= spec.groups,
            std::to_string(spec.groups_used) + " groups used of " + std::to_string(spec.groups),
            "at least 1 and no more than there are");
    require(spec.scale > 0 && spec.scale <= 1e6f, "weight scale " + text(spec.scale),
            "above 0 and at most 1000000");
    require(std::isfinite(spec.renorm_floor) && spec.renorm_floor >= 0,
            "renorm floor " + text(spec.renorm_floor), "a finite number of at least 0");
    require(std::isfinite(spec.capacity_factor) && spec.capacity_factor > 0,
            "capacity factor " + text(spec.capacity_factor), "a positive number");
}

void take_selection(const RoutingPolicy& policy, int layer, int layers, ResolvedRouter& router) {
    if (policy.selection == Selection::model) return;
    const Selection own = router.spec.selection;
    const double own_value = router.spec.value;
    router.spec.selection = policy.selection;
    const size_t count = policy.values.size();
    if (name_of(kSelectionNames, policy.selection).kind == ValueKind::none) return;
    require(count == 1 || count == static_cast<size_t>(layers),
            "policy with " + std::to_string(count) + " values",
            "one, or one for each of the " + std::to_string(layers) + " layers");
    router.spec.value = policy.values[count == 1 ? 0 : layer];
    // A k that the policy names is itself the budget; the checkpoint's bounds do not cut it.
    if (policy.selection == Selection::top_k || policy.selection == Selection::random)
        router.spec.min = 1, router.spec.max = 0;
    // Experts are given up, not added to a number that the checkpoint was trained with.
    if (policy.selection == Selection::speed && own == Selection::top_k)
        router.spec.min = 1, router.spec.max = static_cast<int>(own_value);
}

/// The policy's bound wins over the checkpoint's other one, where they cross.
void take_bounds(const RoutingPolicy& policy, RouterSpec& spec) {
    if (spec.max <= 0 || spec.max > spec.num_experts) spec.max = spec.num_experts;
    if (policy.max) spec.max = std::min(*policy.max, spec.num_experts);
    if (policy.min) spec.min = *policy.min;
    require(spec.min <= spec.num_experts, "min=" + std::to_string(spec.min),
            "at most " + std::to_string(spec.num_experts) + ", the number of experts");
    if (policy.min && !policy.max) spec.max = std::max(spec.max, spec.min);
    if (policy.max && !policy.min) spec.min = std::min(spec.min, spec.max);
    require(spec.min <= spec.max, "min=" + std::to_string(spec.min),
            "at most max, which is " + std::to_string(spec.max));
}

std::vector<int> experts_of_layer(const char* key, const std::vector<std::pair<int, int>>& list,
                                  int layer, int layers, int experts) {
    std::vector<int> chosen;
    for (const auto& [l, e] : list) {
        const std::string part =
            key + std::string("=") + std::to_string(l) + "." + std::to_string(e);
        require(l >= 0 && l < layers, part, "a layer below " + std::to_string(layers));
        if (l != layer) continue;
        require(e >= 0 && e < experts, part, "an expert below " + std::to_string(experts));
        chosen.push_back(e);
    }
    std::sort(chosen.begin(), chosen.end());
    chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
    return chosen;
}

void check_value(const RouterSpec& spec) {
    const double x = spec.value;
    const std::string what =
        std::string(name_of(kSelectionNames, spec.selection).name) + " " + text(x);
    const std::string experts = std::to_string(spec.num_experts);
    switch (spec.selection) {
        case Selection::top_k:
        case Selection::random:
        case Selection::hash:
            require(x >= 1 && x <= spec.num_experts && x == std::floor(x), what,
                    "a whole number from 1 to " + experts + ", the number of experts");
            break;
        case Selection::top_p:
            require(x > 0 && x <= 1, what, "above 0 and at most 1");
            break;
        case Selection::relative:
            require(x >= 0 && x <= 1, what, "from 0 to 1");
            break;
        case Selection::expert_choice:
            require(x > 0 && x <= spec.num_experts, what,
                    "above 0 and at most " + experts + ", the number of experts");
            break;
        default:
            break;
    }
}

void check_lists(const ResolvedRouter& router, int layer) {
    const std::string here = " in layer " + std::to_string(layer);
    require(router.ban.size() < static_cast<size_t>(router.spec.num_experts),
            "every expert banned" + here, "at least one left");
    require(router.force.size() <= static_cast<size_t>(router.spec.max),
            std::to_string(router.force.size()) + " experts forced" + here,
            "at most max, which is " + std::to_string(router.spec.max));
    for (const int e : router.force)
        require(!std::binary_search(router.ban.begin(), router.ban.end(), e),
                "expert " + std::to_string(e) + here + " both banned and forced", "one of them");
    require(router.spec.selection != Selection::expert_choice || router.force.empty(),
            "forced experts" + here + " under expert-choice", "none, experts choose");
}

}  // namespace

int most_experts(const RouterSpec& spec) noexcept {
    return spec.num_experts / spec.groups * spec.groups_used;
}

int most_experts(const ResolvedRouter& router) noexcept {
    const RouterSpec& spec = router.spec;
    const int allowed = spec.num_experts - static_cast<int>(router.ban.size());
    const int most = std::min({spec.max, most_experts(spec), allowed});
    return std::max(most, static_cast<int>(router.force.size()));
}

ResolvedRouter resolve(const RoutingPolicy& policy, const RouterSpec& spec, int layer, int layers) {
    require(layer >= 0 && layer < layers, "layer " + std::to_string(layer),
            "one below " + std::to_string(layers));
    check_spec(spec);
    ResolvedRouter router;
    router.spec = spec;
    take_selection(policy, layer, layers, router);
    if (policy.score) router.spec.score = *policy.score;
    if (policy.weight) router.spec.weight = *policy.weight;
    if (policy.scale) router.spec.scale = static_cast<float>(*policy.scale);
    if (policy.groups) {
        require(*policy.groups >= 1 && *policy.groups <= spec.groups,
                "groups=" + std::to_string(*policy.groups),
                "from 1 to " + std::to_string(spec.groups) + ", the groups of this router");
        router.spec.groups_used = *policy.groups;
    }
    take_bounds(policy, router.spec);
    check_value(router.spec);
    router.ban = experts_of_layer("ban", policy.ban, layer, layers, spec.num_experts);
    router.force = experts_of_layer("force", policy.force, layer, layers, spec.num_experts);
    check_lists(router, layer);
    if (router.spec.selection == Selection::mean)
        require(router.spec.value >= router.spec.min && router.spec.value <= most_experts(router),
                "mean " + text(router.spec.value),
                "a mean from min to max experts, here " + std::to_string(router.spec.min) + " to " +
                    std::to_string(most_experts(router)));
    router.shared = policy.shared.value_or(true);
    if (router.spec.selection == Selection::top_p) router.p = router.spec.value;
    return router;
}

}  // namespace muster
