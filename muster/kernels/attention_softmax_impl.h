// SPDX-License-Identifier: Apache-2.0
// The tile that attention works on, and the online softmax over it; included only after a
// vec_<isa>.h. Everything has internal linkage.
#pragma once

#include "muster/core/dtype.h"
#include "muster/kernels/attention_kernels.h"
#include "muster/kernels/attention_rows_impl.h"
#include "muster/kernels/softmax_exp_impl.h"

namespace muster {
namespace {

using F = Vec::F;

struct Span {
    int64_t begin = 0;
    int64_t end = 0;
};

/// Rows of values, wherever they lie.
struct Values {
    const std::byte* rows;
    int64_t stride;
};

/// Scratch memory and the tile of positions in work. The constructor clears the block's part.
struct Tile {
    explicit Tile(const AttentionBlock& b) noexcept
        : padded_keys(attention_padded(b.head_dim)),
          padded_values(attention_padded(b.value_dim)),
          keys(b.scratch),
          values(keys + padded_keys * kAttentionTile),
          scores(values + padded_values * kAttentionTile),
          shrink(scores + b.queries() * kAttentionTile) {
        for (int64_t i = 0; i < b.queries() * padded_values; ++i) b.part.outputs[i] = 0;
        for (int64_t i = 0; i < b.queries(); ++i) {
            b.part.top[i] = -__builtin_inff();
            b.part.sum[i] = 0;
        }
    }
    /// The tile at `position`, and which queries see something of it.
    void move_to(const AttentionBlock& b, int64_t position) noexcept {
        first = position;
        count = b.end - first < kAttentionTile ? b.end - first : int64_t{kAttentionTile};
        queries = {0, b.queries()};
        while (queries.begin < queries.end && b.last_seen(queries.begin) < first) ++queries.begin;
        while (queries.end > queries.begin && b.first_seen(queries.end - 1) >= first + count)
            --queries.end;
    }

    int64_t padded_keys, padded_values;
    float* keys;    ///< [padded head_dim][tile]
    float* values;  ///< [tile][padded value_dim]
    float* scores;  ///< [queries][tile], then weights
    float* shrink;  ///< [queries] factor for what was summed before this tile
    int64_t first = 0;
    int64_t count = 0;
    Span queries;
};

/// Columns of the tile that query i sees.
Span seen_by(const AttentionBlock& b, const Tile& s, int64_t i) noexcept {
    const int64_t begin = b.first_seen(i) - s.first, end = b.last_seen(i) + 1 - s.first;
    return {begin > 0 ? begin : 0, end < s.count ? end : s.count};
}

/// cap * tanh(x / cap) of a whole row of scores; tanh(z) = 1 - 2 / (e^2z + 1), |z| cut at 20, where
/// it is 1 in f32.
void cap_scores(float* x, float cap) noexcept {
    const F twice = Vec::set1(2 / cap), c = Vec::set1(cap), one = Vec::set1(1), two = Vec::set1(2);
    for (int64_t j = 0; j < kAttentionTile; j += kLanes) {
        const F z =
            Vec::min(Vec::set1(40), Vec::max(Vec::set1(-40), Vec::mul(Vec::load(x + j), twice)));
        const F t = Vec::sub(one, Vec::div(two, Vec::add(exp_in_range(z), one)));
        Vec::store(x + j, Vec::mul(c, t));
    }
}

/// Turns the scores of a query that sees something of the tile into weights relative to the new
/// maximum; what it does not see becomes zero.
void soften(const AttentionBlock& b, const Tile& s, int64_t i) noexcept {
    float* x = s.scores + i * kAttentionTile;
    const float none = -__builtin_inff();
    const Span seen = seen_by(b, s, i);
    if (b.softcap > 0) cap_scores(x, b.softcap);
    for (int64_t j = 0; j < seen.begin; ++j) x[j] = none;
    for (int64_t j = seen.end; j < kAttentionTile; ++j) x[j] = none;
    F m = Vec::load(x);
    for (int64_t j = kLanes; j < kAttentionTile; j += kLanes) m = Vec::max(m, Vec::load(x + j));
    const float tile_top = Vec::largest(m);
    const float top = tile_top > b.part.top[i] ? tile_top : b.part.top[i];
    s.shrink[i] = b.part.top[i] == top ? 1.0f : __builtin_expf(b.part.top[i] - top);
    b.part.top[i] = top;
    const F shift = Vec::set1(top);
    F sum = Vec::zero();
    for (int64_t j = 0; j < kAttentionTile; j += kLanes) {
        const F e = exp_below_zero(Vec::sub(Vec::load(x + j), shift));
        Vec::store(x + j, e);
        sum = Vec::add(sum, e);
    }
    b.part.sum[i] = b.part.sum[i] * s.shrink[i] + Vec::sum(sum);
}

}  // namespace
}  // namespace muster
