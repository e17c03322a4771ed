// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/selection.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "muster/core/random.h"
#include "muster/routing/controller.h"

namespace muster {
namespace {

constexpr float kOut = -std::numeric_limits<float>::infinity();

bool contains(std::span<const int> list, int e) noexcept {
    return std::find(list.begin(), list.end(), e) != list.end();
}

/// Uniform numbers in [0, 1), one per expert, a function of seed, layer and position alone.
void random_keys(const RouteContext& context, int64_t token, std::span<float> keys) noexcept {
    const uint64_t seed = context.seeds.empty() ? context.seed : context.seeds[token];
    const uint64_t layer = mix64(seed) + static_cast<uint64_t>(context.layer);
    const uint64_t stream = mix64(mix64(layer) + static_cast<uint64_t>(context.positions[token]));
    for (size_t e = 0; e < keys.size(); ++e)
        keys[e] = static_cast<float>(mix64(stream + e) >> 40) * 0x1p-24f;
}

/// Keys of the experts outside the `groups_used` best groups become kOut; forced ones stay. A
/// group's score is the sum of its `group_top` best keys (DeepSeek-V2: 1, DeepSeek-V3: 2).
void mask_groups(const ResolvedRouter& router, std::span<float> keys, std::span<float> group_scores,
                 int32_t* order) noexcept {
    const int groups = router.spec.groups;
    const int size = static_cast<int>(keys.size()) / groups;
    const int top = std::min(router.spec.group_top, size);
    for (int g = 0; g < groups; ++g) {
        const auto members = keys.subspan(g * size, size);
        best_first(members, top, order);
        float sum = members[order[0]];
        for (int i = 1; i < top; ++i)
            if (members[order[i]] > kOut) sum += members[order[i]];
        group_scores[g] = std::min(sum, std::numeric_limits<float>::max());
    }
    best_first(group_scores.first(groups), router.spec.groups_used, order);
    for (int i = 0; i < router.spec.groups_used; ++i) group_scores[order[i]] = -kOut;
    for (int g = 0; g < groups; ++g) {
        if (group_scores[g] == -kOut) continue;
        for (int e = g * size; e < (g + 1) * size; ++e)
            if (!contains(router.force, e)) keys[e] = kOut;
    }
}

struct Candidates {
    std::span<const float> keys;
    int count;  ///< keys above kOut
};

Candidates make_keys(const TokenView& token, RouteScratch& scratch) noexcept {
    const ResolvedRouter& router = token.router;
    const int n = static_cast<int>(token.scores.size());
    const bool random = router.spec.selection == Selection::random;
    const auto bias = token.parameters.selection_bias;
    const bool grouped = router.spec.groups_used < router.spec.groups;
    const std::vector<float>& boost = router.boost;
    if (!random && bias.empty() && boost.empty() && router.ban.empty() && !grouped)
        return {token.scores, n};

    const std::span<float> keys(scratch.work.data(), n);
    if (random) {
        random_keys(token.context, token.token, keys);
    } else if (bias.empty()) {
        std::copy(token.scores.begin(), token.scores.end(), keys.begin());
    } else {
        for (int e = 0; e < n; ++e) keys[e] = token.scores[e] + bias[e];
    }
    if (!random && !boost.empty())
        for (int e = 0; e < n; ++e) keys[e] += boost[e];
    for (const int e : router.ban) keys[e] = kOut;
    if (grouped)
        mask_groups(router, keys, {scratch.work.data() + n, keys.size()}, scratch.order.data());
    return {keys, static_cast<int>(n - std::count(keys.begin(), keys.end(), kOut))};
}

/// The experts that a set selection (relative, threshold, hash) picks keep their keys in `picked`,
/// the others get kOut. Returns the number of picked ones.
int pick_set(const TokenView& token, std::span<const float> keys, std::span<float> picked) {
    const RouterSpec& spec = token.router.spec;
    const int n = static_cast<int>(keys.size());
    const auto keep_if = [&](auto&& condition) {
        int count = 0;
        for (int e = 0; e < n; ++e) {
            const bool keep = keys[e] > kOut && condition(e);
            picked[e] = keep ? keys[e] : kOut;
            count += keep;
        }
        return count;
    };
    const auto scores = token.scores;
    switch (spec.selection) {
        case Selection::relative: {
            float best = 0;
            for (int e = 0; e < n; ++e)
                if (keys[e] > kOut) best = std::max(best, scores[e]);
            return keep_if([&, least = spec.value * best](int e) { return scores[e] >= least; });
        }
        case Selection::threshold:
            return keep_if(
                [&, t = token.parameters.thresholds](int e) { return scores[e] > t[e]; });
        default: {
            const int k = static_cast<int>(spec.value);
            const int32_t id = token.context.token_ids[token.token];
            const auto row = token.parameters.hash_table.subspan(static_cast<size_t>(id) * k, k);
            return keep_if(
                [row](int e) { return std::find(row.begin(), row.end(), e) != row.end(); });
        }
    }
}

/// Ranks `picked` experts first, then fills up to `low` with the best of the others, and sorts what
/// that mixed.
int select_set(const TokenView& token, std::span<const float> keys, int low, int high,
               RouteScratch& scratch) {
    const size_t n = keys.size();
    const std::span<float> picked(scratch.work.data() + n, n);
    int32_t* order = scratch.order.data();
    const int count = std::min(pick_set(token, keys, picked), high);
    if (count >= low) {
        best_first(picked, count, order);
        return count;
    }
    // All picked ones are in: raise them above the rest, then put the keys' order back.
    const std::span<float> raised(scratch.work.data() + 2 * n, n);
    for (size_t e = 0; e < n; ++e) raised[e] = picked[e] > kOut ? -kOut : keys[e];
    best_first(raised, low, order);
    std::sort(order, order + low, [keys](int32_t a, int32_t b) {
        return keys[a] > keys[b] || (keys[a] == keys[b] && a < b);
    });
    return low;
}

/// Puts the forced experts among the `count` selected ones, each at the place of its key; the
/// weakest that are not forced leave until at most `limit` remain.
int place_forced(std::span<const int> force, std::span<const float> keys, int count, int limit,
                 int32_t* order) noexcept {
    for (const int f : force) {
        if (std::find(order, order + count, f) != order + count) continue;
        if (count >= limit) {
            int weakest = count - 1;
            while (contains(force, order[weakest])) --weakest;
            std::copy(order + weakest + 1, order + count, order + weakest);
            --count;
        }
        int place = count;
        for (; place > 0; --place) {
            const int32_t other = order[place - 1];
            if (keys[other] > keys[f] || (keys[other] == keys[f] && other < f)) break;
            order[place] = other;
        }
        order[place] = f;
        ++count;
    }
    return count;
}

/// Whether the number of experts is what counts, be it fixed or held: forced experts replace, not
/// add.
bool keeps_number(Selection s) noexcept {
    return s == Selection::top_k || s == Selection::random || s == Selection::hash ||
           s == Selection::mean || s == Selection::speed;
}

/// How many experts a counted mean gives: over positions from any on they add up to its multiple,
/// to within one; layers take turns.
int counted_number(const TokenView& token) noexcept {
    const double value = token.router.counted;
    const auto at = static_cast<double>(token.context.positions[token.token] + token.context.layer);
    return static_cast<int>(std::floor((at + 1) * value) - std::floor(at * value));
}

}  // namespace

int select_experts(const TokenView& token, RouteScratch& scratch) {
    const ResolvedRouter& router = token.router;
    const RouterSpec& spec = router.spec;
    const auto [keys, available] = make_keys(token, scratch);
    const int low = std::min(spec.min, available);
    const int high = std::min(spec.max, available);
    const int forced = static_cast<int>(router.force.size());
    int32_t* order = scratch.order.data();
    int count = 0;
    switch (spec.selection) {
        case Selection::top_k:
        case Selection::random:
            count = std::clamp(static_cast<int>(spec.value), low, high);
            best_first(keys, count, order);
            break;
        case Selection::top_p:
            count = shortest_prefix(token.scores, keys, {.share = router.p}, low, high, order);
            break;
        case Selection::mean:
            if (router.counted > 0) {
                count = std::clamp(counted_number(token), low, high);
                prefixes_over_grid(token.scores, keys, kEvenShare, std::max(low, forced), high,
                                   order, scratch.by_grid[token.token]);
                break;
            }
            [[fallthrough]];
        case Selection::speed:
            count = shortest_prefix(token.scores, keys, {router.p, kEvenShare}, low, high, order);
            break;
        default:
            count = select_set(token, keys, low, high, scratch);
    }
    if (router.force.empty()) return count;
    const int limit = keeps_number(spec.selection) ? count : high;
    return place_forced(router.force, keys, count, std::max(limit, forced), order);
}

}  // namespace muster
