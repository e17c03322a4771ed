// SPDX-License-Identifier: Apache-2.0
#include "muster/report/atlas_page.h"

namespace muster {
namespace {

AtlasPlan::Layer layer_of(const LayerEvidence& evidence, int baseline) {
    AtlasPlan::Layer layer{double(evidence.budget), double(baseline), {}};
    for (const ExpertEvidence& e : evidence.experts)
        layer.impacts.push_back(e.tokens > 0 ? std::optional(e.impact) : std::nullopt);
    return layer;
}

}  // namespace

AtlasPlan atlas_plan(const ActivationPlan& plan, std::string name) {
    AtlasPlan out{std::move(name), {}, {}};
    for (size_t l = 0; l < plan.layers.size(); ++l) {
        const LayerEvidence& evidence = plan.layers[l];
        if (evidence.experts.empty()) {
            out.layers.emplace_back();
            continue;
        }
        out.layers.emplace_back(layer_of(evidence, plan.experts_per_token));
        for (size_t e = 0; e < evidence.experts.size(); ++e) {
            const ExpertEvidence& expert = evidence.experts[e];
            if (expert.dormant)
                out.dormant.push_back({static_cast<int>(l), static_cast<int>(e), expert.impact.mean,
                                       expert.gate_rank, expert.tokens});
        }
    }
    return out;
}

}  // namespace muster
