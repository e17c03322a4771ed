// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "muster/core/stats.h"
#include "muster/evaluate/expert_atlas.h"
#include "muster/evaluate/perplexity.h"
#include "muster/routing/activation_plan.h"

namespace muster {

/// What a page shows of an activation plan.
struct AtlasPlan {
    struct Layer {
        double budget = 0;    ///< experts per token under the plan
        double baseline = 0;  ///< and before
        /// [E] nats that the tokens of the calibration lose without the expert; none: no evidence.
        /// Empty: nothing was measured in this layer.
        std::vector<std::optional<Interval>> impacts;
    };
    /// Experts of high impact that the gate ranks low.
    struct Dormant {
        int layer = 0, expert = 0;
        double impact = 0;  ///< nats
        double rank = 0;    ///< mean rank in the gate's order, 1 the strongest
        int64_t tokens = 0;
    };
    std::string name;
    std::vector<std::optional<Layer>> layers;  ///< [L]; dense layers none
    std::vector<Dormant> dormant;
};

/// What a page shows of `plan`, which was checked against the model; `name`: for people.
AtlasPlan atlas_plan(const ActivationPlan& plan, std::string name);

/// What goes into an atlas. Nothing is owned.
struct AtlasPage {
    const ExpertAtlas& atlas;
    const EvaluationResult* evaluation = nullptr;  ///< of the same texts; two policies make a chart
    const AtlasPlan* plan = nullptr;
    std::string version;  ///< of the program that writes it
};

/// One HTML document that needs nothing else: no network, no other file. Its size grows by about
/// 4 bytes and half a byte to a byte per MoE layer for each token. Texts are escaped. Throws Error
/// when the atlas has no tokens.
std::string atlas_html(const AtlasPage& page);

/// The page's data as JSON (format `muster-atlas`, version 1, docs/file-formats.md).
std::string atlas_json(const AtlasPage& page);

}  // namespace muster
