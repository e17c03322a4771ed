// SPDX-License-Identifier: Apache-2.0
// Any bytes as an activation plan, as statistics of routing, or as a policy's text, give a value
// that comes back from its own text, or an Error.
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "fuzz_parts.h"
#include "muster/routing/activation_plan.h"
#include "muster/routing/policy.h"
#include "muster/routing/statistics.h"

namespace {

void read_plan(std::string_view text) {
    using muster::ActivationPlan;
    const ActivationPlan plan = ActivationPlan::from_json(text, "test");
    if (ActivationPlan::from_json(plan.to_json(), "test").to_json() != plan.to_json()) std::abort();
    std::vector<int> experts;
    for (const muster::LayerEvidence& layer : plan.layers)
        experts.push_back(std::max<int>(1, static_cast<int>(layer.experts.size())));
    plan.check(experts);
    int64_t total = 0;
    for (const auto use : {muster::PlanUse::both, muster::PlanUse::random}) {
        for (const int budget : plan.budgets(use, experts)) total += budget;
        for (size_t l = 0; l < plan.layers.size(); ++l)
            for (int c = -1; c < static_cast<int>(plan.clusters.size()); ++c)
                static_cast<void>(plan.boosts(static_cast<int>(l), use, 1, c));
    }
    if (total % 2 != 0) std::abort();  // the same under both
}

template <typename F>
void attempt(F f) {
    try {
        f();
    } catch (const muster::Error&) {
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    attempt([&] { read_plan(text); });
    attempt([&] { static_cast<void>(muster::statistics_from_json(text, "test")); });
    attempt([&] {
        const auto policy = muster::RoutingPolicy::parse(text);
        if (muster::RoutingPolicy::parse(policy.to_string()) != policy) std::abort();
    });
    return 0;
}
