// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace muster {

/// The outcome of routing T tokens over E experts in one layer: compressed sparse rows by token.
/// Within a token, experts stand in order of selection (strongest first), each at most once.
struct RouteTable {
    int num_experts = 0;
    std::vector<int32_t> offsets{0};  ///< [T + 1], offsets[0] == 0, ascending
    std::vector<int32_t> experts;     ///< [A], each in [0, num_experts)
    std::vector<float> weights;       ///< [A], combine weights, finite

    int tokens() const noexcept { return static_cast<int>(offsets.size()) - 1; }
    int activations() const noexcept { return static_cast<int>(experts.size()); }
    std::span<const int32_t> token_experts(int t) const noexcept {
        return {experts.data() + offsets[t], static_cast<size_t>(offsets[t + 1] - offsets[t])};
    }
    std::span<const float> token_weights(int t) const noexcept {
        return {weights.data() + offsets[t], static_cast<size_t>(offsets[t + 1] - offsets[t])};
    }
    /// Empties it for `experts` experts; keeps the memory.
    void clear(int experts_count);
};

/// The same activations sorted by expert (stable by token): what the expert kernels walk through.
struct DispatchPlan {
    std::vector<int32_t> expert_offsets;  ///< [E + 1]: rows of expert e are [e, e + 1)
    std::vector<int32_t> tokens;          ///< [A], row -> token
    std::vector<float> weights;           ///< [A], row -> combine weight
    std::vector<int32_t> row_of;          ///< [A], activation in the route table's order -> row

    int num_experts() const noexcept { return static_cast<int>(expert_offsets.size()) - 1; }
    int rows() const noexcept { return static_cast<int>(tokens.size()); }
    int expert_rows(int e) const noexcept { return expert_offsets[e + 1] - expert_offsets[e]; }
};

/// One counting sort, O(A + E); reuses the memory of `plan`.
void make_dispatch_plan(const RouteTable& routes, DispatchPlan& plan);

}  // namespace muster
