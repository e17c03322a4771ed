// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "muster/core/random.h"
#include "muster/core/tensor_view.h"
#include "muster/routing/controller.h"
#include "muster/routing/policy.h"
#include "muster/routing/route_table.h"

namespace muster {

/// What a checkpoint says about one layer's router: the meaning of policy `model` and the defaults
/// of every axis a policy leaves open.
struct RouterSpec {
    int num_experts = 1;
    Score score = Score::softmax;
    Selection selection = Selection::top_k;
    double value = 1;  ///< k, p or t of the selection
    Weighting weight = Weighting::raw;
    float scale = 1;                  ///< multiplies every combine weight
    float renorm_floor = 6.1035e-5f;  ///< sums below are raised to it before dividing
    int min = 1;
    int max = 0;     ///< 0: num_experts (after resolve() never 0)
    int groups = 1;  ///< experts are split into this many equal, consecutive groups
    int groups_used = 1;
    int group_top =
        2;  ///< a group's score is the sum of its so many best biased scores (1: maximum)
    float capacity_factor = 1;  ///< expert choice: capacity = ceil(T * value * factor / E)
};

/// Learned router parameters, all optional, not owned; each [E] when present.
struct RouterParameters {
    std::span<const float> selection_bias;  ///< added to the scores for selection only
    std::span<const float> thresholds;      ///< for Selection::threshold, in units of the score
    std::span<const int32_t> hash_table;    ///< [vocabulary * k] expert ids, for Selection::hash
};

/// A policy made concrete for one layer: everything `route` needs, checked.
struct ResolvedRouter {
    RouterSpec spec;       ///< with the policy's choices filled in; selection is never `model`
    std::vector<int> ban;  ///< experts of this layer
    std::vector<int> force;
    bool shared = true;
    std::vector<float> boost;  ///< [E] added to the scores for selection only; or none
    /// The current p of `mean` (its MeanController::p(), set before each call) and of `top_p` (the
    /// policy's value).
    double p = 0.4;
    /// `mean` while its p is not known: a token gets this number itself, its whole part and, at as
    /// large a share of positions as its fraction is, one expert more. 0: p is known.
    double counted = 0;
};

/// Fills the policy's choices into `spec` for `layer` of `layers`; docs/routing.md says which bound
/// wins where both name one. Throws Error when they cannot work: k above E, as many values as
/// neither 1 nor layers, p outside (0, 1], all experts banned …, or when `spec` makes no sense.
ResolvedRouter resolve(const RoutingPolicy& policy, const RouterSpec& spec, int layer, int layers);

/// The most experts that a token can get: what `max`, bans and groups leave; of a checkpoint's
/// router, what its groups leave.
int most_experts(const ResolvedRouter& router) noexcept;
int most_experts(const RouterSpec& spec) noexcept;

/// Batch context some selections need; may be left empty otherwise.
struct RouteContext {
    std::span<const int32_t> token_ids;  ///< [T], for hash
    std::span<const int64_t> positions;  ///< [T], for random (its stream is (seed, layer,
                                         ///< position)) and for a counted mean
    int layer = 0;
    uint64_t seed = 0;
    std::span<const uint64_t> seeds;  ///< [T] in place of the one, where rows have their own
};

/// Scratch memory of `route`, reused from call to call: nothing is allocated once it is warm. One
/// per thread that routes.
struct RouteScratch {
    std::vector<float> scores;  ///< [T, E] after a call: the scores, without selection bias
    /// [T] after a call, of tokens under a counted mean: the experts that each p of the grid would
    /// have given them.
    std::vector<OverGrid<int32_t>> by_grid;
    std::vector<float> work;
    std::vector<int32_t> order;
};

/// Routes T tokens: scores, selection under the budget, weights; fills `table` (cleared first).
/// logits: [T, E] f32. Ties go to the lower expert index. T = 0 gives an empty table.
/// Throws Error when a logit is NaN or infinite (naming token and expert), and when parameters or
/// context lack what the selection needs; the table's content is then unspecified.
/// Results have the same bits on every instruction set and follow a permutation of the experts.
void route(MatrixView<const float> logits, const ResolvedRouter& router,
           const RouterParameters& parameters, const RouteContext& context, RouteScratch& scratch,
           RouteTable& table);

/// The same with a router of its own for each token: routers[t] for row t. Selections that need
/// whole batches (expert choice) are refused with an Error.
void route_rows(MatrixView<const float> logits, std::span<const ResolvedRouter* const> routers,
                const RouterParameters& parameters, const RouteContext& context,
                RouteScratch& scratch, RouteTable& table);

/// Scores of one token's logits [E] -> scores [E]; the first axis alone.
void score_logits(Score score, std::span<const float> logits, std::span<float> scores) noexcept;

}  // namespace muster
