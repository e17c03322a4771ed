// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <numeric>

#include "muster/routing/exact_sum.h"
#include "muster/routing/lanes.h"
#include "muster/routing/scores.h"
#include "muster/routing/selection.h"

namespace muster {
namespace {

using namespace lanes;

constexpr float kOut = -std::numeric_limits<float>::infinity();
constexpr int kInsertion = 32;  ///< longer prefixes are cheaper to sort

/// A short list, kept sorted while the keys pass by in order of their index, so that a later equal
/// key never overtakes an earlier one.
struct BestList {
    float* keys;
    int32_t* indices;
    int size;

    void insert(float key, int32_t index) noexcept {
        int i = size - 1;  // the weakest falls out
        for (; i > 0 && keys[i - 1] < key; --i) {
            keys[i] = keys[i - 1];
            indices[i] = indices[i - 1];
        }
        keys[i] = key;
        indices[i] = index;
    }
};

void insertion_best(std::span<const float> keys, int count, int32_t* order) noexcept {
    float top[kInsertion];
    BestList list{top, order, 0};
    int i = 0;
    for (; i < count; ++i) {
        ++list.size;
        list.insert(keys[i], i);
    }
    const int n = static_cast<int>(keys.size());
    const float* weakest = top + count - 1;
    for (; i + kLanes <= n; i += kLanes) {
        if (!any(load(keys.data() + i) > *weakest)) continue;
        for (int j = i; j < i + kLanes; ++j)
            if (keys[j] > *weakest) list.insert(keys[j], j);
    }
    for (; i < n; ++i)
        if (keys[i] > *weakest) list.insert(keys[i], i);
}

}  // namespace

void best_first(std::span<const float> keys, int count, int32_t* order) noexcept {
    if (count <= 0) return;
    if (count <= kInsertion) return insertion_best(keys, count, order);
    const auto before = [keys](int32_t a, int32_t b) {
        return keys[a] > keys[b] || (keys[a] == keys[b] && a < b);
    };
    int32_t* const end = order + keys.size();
    std::iota(order, end, 0);
    if (order + count < end) std::nth_element(order, order + count, end, before);
    std::sort(order, order + count, before);
}

int shortest_prefix(std::span<const float> scores, std::span<const float> keys, double share,
                    int low, int high, int32_t* order) noexcept {
    const int n = static_cast<int>(scores.size());
    const ExactSum exact(row_max(scores), n);
    double total = 0;
    if (scores.data() == keys.data()) {
        total = exact.sum(scores.data(), n);
    } else {
        for (int e = 0; e < n; ++e)
            if (keys[e] > kOut) total += exact.term(scores[e]);
    }
    const double wanted = share * total;
    double mass = 0;
    int taken = 0;
    for (int ranked = std::max(low, 8);; ranked *= 4) {
        ranked = std::min(ranked, high);
        best_first(keys, ranked, order);
        while (taken < ranked) {
            mass += exact.term(scores[order[taken++]]);
            if (mass >= wanted) return std::max(taken, low);
        }
        if (ranked == high) return high;
    }
}

}  // namespace muster
