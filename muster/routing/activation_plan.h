// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/core/stats.h"
#include "muster/routing/policy.h"

namespace muster {

/// What calibration found about one expert of a layer.
struct ExpertEvidence {
    /// Counterfactual impact (arXiv 2604.14246): mean rise of the loss, in nats, over the hard
    /// tokens that use the expert, when it is taken from them; or, where they are measured at the
    /// boundary, over those between whose last and first left out it stands. Zeros without
    /// evidence.
    Interval impact;
    int64_t tokens = 0;    ///< the hard tokens measured; 0: no evidence
    double gate_rank = 0;  ///< mean rank of its router score over all tokens, 1: the highest
    bool dormant = false;  ///< high impact, seldom ranked high by the gate
};

/// Mean change of the loss, in nats per token, with another number of experts in one layer.
struct NumberEvidence {
    int experts = 0;
    Interval change;
};

/// What calibration found about one layer. A dense layer has no experts and a budget of 0.
struct LayerEvidence {
    int budget = 0;  ///< experts per token
    /// Mean absolute change of the loss, in nats, when the layer's output is perturbed, over hard
    /// and easy tokens, and their ratio. All zeros: the layer was not measured.
    Interval hard, easy, contrast;
    std::vector<ExpertEvidence> experts;  ///< [E]
    std::vector<NumberEvidence> numbers;  ///< where budgets are by loss
};

/// Impacts measured on contexts alike: `centre` is the mean share of a window's activations that
/// each expert got.
struct ContextCluster {
    int64_t windows = 0;
    std::vector<std::vector<float>> centre;    ///< [L][E]
    std::vector<std::vector<float>> impact;    ///< [L][E] nats
    std::vector<std::vector<int64_t>> tokens;  ///< [L][E] 0: no evidence
};

/// How many experts each layer calls and which it prefers, at a constant total: what
/// counterfactual calibration makes and policy `plan:NAME` applies. A value.
struct ActivationPlan {
    static constexpr double kMostLambda = 1e6;

    uint64_t model = 0;         ///< Model::hash()
    uint64_t text = 0;          ///< of the calibration tokens
    int experts_per_token = 0;  ///< of the baseline top-k:k; budgets sum to k a MoE layer
    double lambda = 0.1;        ///< weight of the normalised impact beside the score
    std::vector<LayerEvidence> layers;
    std::vector<ContextCluster> clusters;
    std::string settings;  ///< of the calibration, a JSON object

    /// Throws Error, naming `where`, when budgets do not sum to the baseline's or a number makes no
    /// sense; `experts` [L]: the model's, 1 for a dense layer.
    void check(std::span<const int> experts, std::string_view where = "plan") const;

    /// Budgets [L] under `use`. `most` [L]: how many experts a token can get in each layer, which
    /// those dealt at random keep to; `deal`: which of the random deals.
    std::vector<int> budgets(PlanUse use, std::span<const int> most, int deal = 0) const;
    /// What is added to the scores of layer `l` for selection: lambda times the impacts, normalised
    /// to [0, 1] over the layer's experts with evidence; 0 for the others, and for all where they
    /// are equal. Empty where `use` takes no impacts. `cluster` < 0: the one table for all
    /// contexts; else the cluster's impacts, drawn towards the one table's where it has few tokens.
    std::vector<float> boosts(int l, PlanUse use, double weight, int cluster = -1,
                              int deal = 0) const;

    /// JSON, format `muster-activation-plan`, version 1 (docs/file-formats.md).
    std::string to_json() const;
    /// Throws Error naming `where`.
    static ActivationPlan from_json(std::string_view text, std::string_view where);
};

ActivationPlan read_plan(const std::filesystem::path& path);
void write_plan(const std::filesystem::path& path, const ActivationPlan& plan);

}  // namespace muster
