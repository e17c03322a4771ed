// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/router.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "muster/core/error.h"
#include "muster/routing/scores.h"
#include "muster/routing/selection.h"
#include "muster/routing/weighting.h"

namespace muster {
namespace {

[[noreturn]] void fail(const std::string& what) { throw Error("routing", what); }

void check_parameters(const RouterParameters& parameters, const RouterSpec& spec, int64_t experts) {
    if (experts != spec.num_experts)
        fail("logits of " + std::to_string(experts) + " experts, expected " +
             std::to_string(spec.num_experts) + " as the router has");
    const auto check_size = [&](const char* name, size_t size) {
        if (size != static_cast<size_t>(experts))
            fail(std::string(name) + " of " + std::to_string(size) + " values, expected " +
                 std::to_string(experts) + ", one per expert");
    };
    const auto check_finite = [](const char* name, std::span<const float> values) {
        if (const int e = first_not_finite(values); e >= 0)
            fail(std::string(name) + " of expert " + std::to_string(e) +
                 " is NaN or infinite, expected a finite number");
    };
    if (!parameters.selection_bias.empty()) {
        check_size("a selection bias", parameters.selection_bias.size());
        check_finite("the selection bias", parameters.selection_bias);
    }
    if (spec.selection == Selection::threshold) {
        check_size("learned thresholds", parameters.thresholds.size());
        check_finite("the threshold", parameters.thresholds);
    }
}

void check_hash(const RouterParameters& parameters, const RouterSpec& spec,
                const RouteContext& context, int64_t tokens) {
    const size_t k = static_cast<size_t>(spec.value);
    const auto table = parameters.hash_table;
    if (table.empty() || table.size() % k != 0)
        fail("a hash table of " + std::to_string(table.size()) + " entries, expected " +
             std::to_string(k) + " per token id");
    const size_t vocabulary = table.size() / k;
    for (int64_t t = 0; t < tokens; ++t) {
        const int32_t id = context.token_ids[t];
        if (id < 0 || static_cast<size_t>(id) >= vocabulary)
            fail("token id " + std::to_string(id) + ", expected one below " +
                 std::to_string(vocabulary) + ", the size of the hash table");
        for (const int32_t e : table.subspan(id * k, k))
            if (e < 0 || e >= spec.num_experts)
                fail("the hash table names expert " + std::to_string(e) + " for token id " +
                     std::to_string(id) + ", expected one below " +
                     std::to_string(spec.num_experts));
    }
}

void check_context(const RouterParameters& parameters, const ResolvedRouter& router,
                   const RouteContext& context, int64_t tokens) {
    const RouterSpec& spec = router.spec;
    const auto check_size = [tokens](const char* what, size_t size) {
        if (size != static_cast<size_t>(tokens))
            fail(std::to_string(size) + std::string(" ") + what + ", expected " +
                 std::to_string(tokens) + ", one per token");
    };
    if (spec.selection == Selection::random)
        check_size("positions for random selection", context.positions.size());
    if (router.counted > 0) check_size("positions for a counted mean", context.positions.size());
    if (spec.selection == Selection::hash) {
        check_size("token ids for hash selection", context.token_ids.size());
        check_hash(parameters, spec, context, tokens);
    }
}

/// Checks token t's logits and fills its row of scratch.scores.
std::span<const float> score_token(MatrixView<const float> logits, int64_t t, Score score,
                                   RouteScratch& scratch) {
    const size_t experts = static_cast<size_t>(logits.cols);
    const std::span<const float> row(logits.row(t), experts);
    if (const int e = first_not_finite(row); e >= 0)
        fail("the router logit of token " + std::to_string(t) + ", expert " + std::to_string(e) +
             " is " + (std::isnan(row[e]) ? "NaN" : "infinite") + ", expected a finite number");
    const std::span<float> scores(scratch.scores.data() + t * experts, experts);
    score_logits(score, row, scores);
    return scores;
}

/// Scores, selection and weights of token t, appended to `table`.
void route_token(MatrixView<const float> logits, int64_t t, const ResolvedRouter& router,
                 const RouterParameters& parameters, const RouteContext& context,
                 RouteScratch& scratch, RouteTable& table) {
    const auto scores = score_token(logits, t, router.spec.score, scratch);
    const int count = select_experts({scores, router, parameters, context, t}, scratch);
    const std::span<const int32_t> experts(scratch.order.data(), count);
    table.experts.insert(table.experts.end(), experts.begin(), experts.end());
    const size_t first = table.weights.size();
    table.weights.resize(first + count);
    weigh_experts(router.spec, {logits.row(t), scores.size()}, scores, experts,
                  std::span(table.weights).subspan(first));
    table.offsets.push_back(table.activations());
}

void start(MatrixView<const float> logits, RouteScratch& scratch, RouteTable& table) {
    table.clear(static_cast<int>(logits.cols));
    scratch.scores.resize(logits.rows * logits.cols);
    scratch.work.resize(3 * logits.cols);
    scratch.order.resize(logits.cols);
    scratch.by_grid.resize(logits.rows);
}

void route_expert_choice(MatrixView<const float> logits, const ResolvedRouter& router,
                         RouteScratch& scratch, RouteTable& table) {
    for (int64_t t = 0; t < logits.rows; ++t) score_token(logits, t, router.spec.score, scratch);
    choose_tokens(static_cast<int>(logits.rows), router, scratch, table);
    table.weights.resize(table.experts.size());
    const size_t experts = static_cast<size_t>(logits.cols);
    for (int t = 0; t < table.tokens(); ++t) {
        const auto chosen = table.token_experts(t);
        weigh_experts(router.spec, {logits.row(t), experts},
                      {scratch.scores.data() + t * experts, experts}, chosen,
                      {table.weights.data() + table.offsets[t], chosen.size()});
    }
}

}  // namespace

void route(MatrixView<const float> logits, const ResolvedRouter& router,
           const RouterParameters& parameters, const RouteContext& context, RouteScratch& scratch,
           RouteTable& table) {
    check_parameters(parameters, router.spec, logits.cols);
    check_context(parameters, router, context, logits.rows);
    start(logits, scratch, table);
    if (router.spec.selection == Selection::expert_choice)
        return route_expert_choice(logits, router, scratch, table);
    for (int64_t t = 0; t < logits.rows; ++t)
        route_token(logits, t, router, parameters, context, scratch, table);
}

void route_rows(MatrixView<const float> logits, std::span<const ResolvedRouter* const> routers,
                const RouterParameters& parameters, const RouteContext& context,
                RouteScratch& scratch, RouteTable& table) {
    if (routers.size() != static_cast<size_t>(logits.rows))
        fail(std::to_string(routers.size()) + " routers, expected " + std::to_string(logits.rows) +
             ", one per token");
    start(logits, scratch, table);
    const ResolvedRouter* checked = nullptr;
    for (int64_t t = 0; t < logits.rows; ++t) {
        const ResolvedRouter& router = *routers[t];
        if (&router != checked) {
            if (router.spec.selection == Selection::expert_choice)
                fail("expert-choice needs a whole batch, expected a selection by token");
            check_parameters(parameters, router.spec, logits.cols);
            check_context(parameters, router, context, logits.rows);
            checked = &router;
        }
        route_token(logits, t, router, parameters, context, scratch, table);
    }
}

}  // namespace muster
