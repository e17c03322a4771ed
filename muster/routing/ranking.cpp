// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <numeric>

#include "muster/routing/exact_sum.h"
#include "muster/routing/lanes.h"
#include "muster/routing/scores.h"
#include "muster/routing/selection.h"

// Ranking without branches that depend on the data: a bound that at least `count` keys reach leaves
// few survivors, and each survivor's rank is the number of keys before it. Counting all pairs beats
// sorting up to a few hundred keys, because a mispredicted branch costs as much as dozens of pairs.
namespace muster {
namespace {

using namespace lanes;

constexpr float kOut = -std::numeric_limits<float>::infinity();
constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr int kMostCounted = 256;
constexpr int kMostGroups = 8;  ///< vectors of group maxima

/// Keys and their indices, by rising index; room for whole vectors.
struct Survivors {
    float keys[kMostCounted + kLanes];
    int32_t indices[kMostCounted];
    int count = 0;
};

/// A key that at least 4 * groups keys reach: the least of as many groups' maxima. Keys in whole
/// vectors beyond n / 4 * 4 do not take part.
float reached_bound(std::span<const float> keys, int groups) noexcept {
    Lanes best[kMostGroups];
    const int vectors = static_cast<int>(keys.size()) / kLanes;
    for (int g = 0; g < groups; ++g) best[g] = load(keys.data() + g * kLanes);
    int g = 0;
    for (int v = groups; v < vectors; ++v) {
        const Lanes key = load(keys.data() + v * kLanes);
        best[g] = best[g] < key ? key : best[g];
        g = g + 1 < groups ? g + 1 : 0;
    }
    Lanes least = best[0];
    for (int i = 1; i < groups; ++i) least = best[i] < least ? best[i] : least;
    return std::min(std::min(least[0], least[1]), std::min(least[2], least[3]));
}

/// False when there are more than kMostCounted.
bool collect(std::span<const float> keys, float bound, Survivors& survivors) noexcept {
    int count = 0;
    const int n = static_cast<int>(keys.size());
    for (int begin = 0; begin < n; begin += kMostCounted / 2) {
        if (count > kMostCounted / 2) return false;
        const int end = std::min(begin + kMostCounted / 2, n);
        for (int i = begin; i < end; ++i) {
            survivors.keys[count] = keys[i];
            survivors.indices[count] = i;
            count += keys[i] >= bound;
        }
    }
    survivors.count = count;
    return true;
}

/// Writes the index of every survivor of rank below `count` to its place.
void place_by_rank(Survivors& survivors, int count, int32_t* order) noexcept {
    const int m = survivors.count;
    const float* keys = survivors.keys;
    std::fill_n(survivors.keys + m, kLanes, kOut);
    const LaneBits lane = {0, 1, 2, 3};
    for (int block = 0; block < m; block += kLanes) {
        const Lanes own = load(keys + block);
        LaneBits rank = {};  // comparisons give -1
        for (int j = 0; j < block; ++j) rank -= splat(keys[j]) >= own;
        for (int j = block; j < block + kLanes; ++j) {
            const Lanes other = splat(keys[j]);
            rank -= (other > own) | ((other == own) & (lane > j - block));
        }
        for (int j = block + kLanes; j < m; ++j) rank -= splat(keys[j]) > own;
        const int own_count = std::min(kLanes, m - block);
        for (int l = 0; l < own_count; ++l)
            if (rank[l] < count) order[rank[l]] = survivors.indices[block + l];
    }
}

/// Of a token's candidates: those whose key is above kOut.
class Mass {
  public:
    /// `even`: of Prefix.
    Mass(std::span<const float> scores, std::span<const float> keys, double even) noexcept;
    double all() const noexcept { return all_; }
    /// What a candidate of this score holds.
    double operator()(float score) const noexcept { return exact_.term(score) + each_; }

  private:
    ExactSum exact_;
    double each_ = 0, all_ = 0;
};

Mass::Mass(std::span<const float> scores, std::span<const float> keys, double even) noexcept
    : exact_(row_max(scores), static_cast<int>(scores.size())) {
    const int n = static_cast<int>(scores.size());
    double total = 0;
    int candidates = n;
    if (scores.data() == keys.data()) {
        total = exact_.sum(scores.data(), n);
    } else {
        candidates = 0;
        for (int e = 0; e < n; ++e) {
            if (keys[e] <= kOut) continue;
            total += exact_.term(scores[e]);
            ++candidates;
        }
    }
    // Where all scores are zero, the even mass is all there is.
    const double spread = even * (total > 0 ? total : 1);
    each_ = spread / std::max(candidates, 1);
    all_ = total + spread;
}

void sort_best(std::span<const float> keys, int count, int32_t* order) noexcept {
    const auto before = [keys](int32_t a, int32_t b) {
        return keys[a] > keys[b] || (keys[a] == keys[b] && a < b);
    };
    int32_t* const end = order + keys.size();
    std::iota(order, end, 0);
    if (order + count < end) std::nth_element(order, order + count, end, before);
    std::sort(order, order + count, before);
}

}  // namespace

void best_first(std::span<const float> keys, int count, int32_t* order) noexcept {
    if (count <= 0) return;
    const int n = static_cast<int>(keys.size());
    const int groups = (count + kLanes - 1) / kLanes;
    float bound = kLowest;  // keys of experts that are out rank last anyway
    if (groups <= kMostGroups && 4 * groups * kLanes <= 3 * n)
        bound = std::max(bound, reached_bound(keys, groups));
    Survivors survivors;
    if ((bound > kLowest || n <= kMostCounted) && collect(keys, bound, survivors)) {
        if (survivors.count < count) collect(keys, kOut, survivors);
        if (survivors.count >= count) return place_by_rank(survivors, count, order);
    }
    sort_best(keys, count, order);
}

int shortest_prefix(std::span<const float> scores, std::span<const float> keys,
                    const Prefix& prefix, int low, int high, int32_t* order) noexcept {
    const Mass mass_of(scores, keys, prefix.even);
    const double wanted = prefix.share * mass_of.all();
    double mass = 0;
    int taken = 0;
    for (int ranked = std::max(low, 8);; ranked *= 8) {
        ranked = std::min(ranked, high);
        best_first(keys, ranked, order);
        while (taken < ranked) {
            mass += mass_of(scores[order[taken++]]);
            if (mass >= wanted) return std::max(taken, low);
        }
        if (ranked == high) return high;
    }
}

void prefixes_over_grid(std::span<const float> scores, std::span<const float> keys, double even,
                        int low, int high, int32_t* order, OverGrid<int32_t>& counts) noexcept {
    const Mass mass_of(scores, keys, even);
    best_first(keys, high, order);
    counts.fill(high);
    double mass = 0;
    size_t i = 0;
    for (int n = 1; n <= high; ++n) {
        mass += mass_of(scores[order[n - 1]]);
        while (i < counts.size() && mass >= grid_p()[i] * mass_of.all())
            counts[i++] = std::max(n, low);
    }
}

}  // namespace muster
