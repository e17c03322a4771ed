// SPDX-License-Identifier: Apache-2.0
// Attention written once over Vec; included only by attention_<isa>.cpp after its vec_<isa>.h.
// Everything has internal linkage.
//
// A block goes through the positions in tiles of kAttentionTile. Per tile: keys are transposed to
// [head_dim][tile] (or, for few queries, read as they lie), scores [queries][tile], online softmax,
// output [queries][padded head_dim] += weights * values. Both products are small matrix products of
// 4 rows by a few vectors whose accumulators stay in registers. Positions behind a query's own get
// weight zero and lie within rows already written; none behind the last query's is read.
#pragma once

#include "muster/kernels/attention_kernels.h"
#include "muster/kernels/softmax_exp_impl.h"

namespace muster {
namespace {

using F = Vec::F;
constexpr int kLanes = Vec::kLanes;
constexpr int kChunk = kLanes == 16 ? 4 : 2;  // vectors per tile row: 4 * kChunk accumulators
constexpr int kFewQueries = 4;                // from here on transposing keys pays

struct Scratch {
    float* keys;     ///< [padded][tile]
    float* scores;   ///< [queries][tile]
    float* outputs;  ///< [queries][padded]
    float* top;      ///< [queries] running maximum
    float* sum;      ///< [queries] running sum of exponentials
    float* shrink;   ///< [queries] factor for what was summed before this tile
    int64_t padded;
    int64_t queries;
};

Scratch scratch_of(const AttentionBlock& b) noexcept {
    Scratch s;
    s.padded = (b.head_dim + 15) / 16 * 16;
    s.queries = b.rows * b.group;
    s.keys = b.scratch;
    s.scores = s.keys + s.padded * kAttentionTile;
    s.outputs = s.scores + s.queries * kAttentionTile;
    s.top = s.outputs + s.queries * s.padded;
    s.sum = s.top + s.queries;
    s.shrink = s.sum + s.queries;
    return s;
}

const float* query(const AttentionBlock& b, int64_t i) noexcept {
    return b.q + i / b.group * b.q_stride + i % b.group * b.head_dim;
}

/// keys [head_dim][tile] of `count` positions; the other columns are zero.
void transpose_keys(const AttentionBlock& b, int64_t first, int64_t count, float* out) noexcept {
    for (int64_t j = 0; j < kAttentionTile; j += kLanes) {
        for (int64_t d = 0; d < b.head_dim; d += kLanes) {
            F r[kLanes];
            for (int i = 0; i < kLanes; ++i) {
                const float* k = b.kv.keys + (first + j + i) * b.kv.stride + d;
                r[i] = j + i < count ? Vec::load_part(k, b.head_dim - d) : Vec::zero();
            }
            Vec::transpose(r);
            for (int i = 0; i < kLanes; ++i) Vec::store(out + (d + i) * kAttentionTile + j, r[i]);
        }
    }
}

/// scores of kRows queries from `i` over columns [j, j + kChunk * kLanes).
template <int kRows>
void score_tile(const AttentionBlock& b, const Scratch& s, int64_t i, int64_t j) noexcept {
    F acc[kRows][kChunk];
    const float* q[kRows];
    for (int r = 0; r < kRows; ++r) {
        q[r] = query(b, i + r);
        for (int c = 0; c < kChunk; ++c) acc[r][c] = Vec::zero();
    }
    for (int64_t d = 0; d < b.head_dim; ++d) {
        F k[kChunk];
        for (int c = 0; c < kChunk; ++c)
            k[c] = Vec::load(s.keys + d * kAttentionTile + j + c * kLanes);
        for (int r = 0; r < kRows; ++r) {
            const F x = Vec::broadcast(q[r] + d);
            for (int c = 0; c < kChunk; ++c) acc[r][c] = Vec::fma(x, k[c], acc[r][c]);
        }
    }
    const F scale = Vec::set1(b.scale);
    for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < kChunk; ++c)
            Vec::store(s.scores + (i + r) * kAttentionTile + j + c * kLanes,
                       Vec::mul(acc[r][c], scale));
}

/// Scores of one query by dot products with the keys as they lie; four positions at a time.
void score_row(const AttentionBlock& b, const Scratch& s, int64_t i, int64_t first,
               int64_t count) noexcept {
    const float* q = query(b, i);
    float* out = s.scores + i * kAttentionTile;
    for (int64_t j = 0; j < count; j += 4) {
        const int64_t n = count - j < 4 ? count - j : 4;
        F acc[4] = {Vec::zero(), Vec::zero(), Vec::zero(), Vec::zero()};
        const float* k = b.kv.keys + (first + j) * b.kv.stride;
        for (int64_t d = 0; d < b.head_dim; d += kLanes) {
            const F x = Vec::load_part(q + d, b.head_dim - d);
            for (int64_t r = 0; r < n; ++r)
                acc[r] =
                    Vec::fma(x, Vec::load_part(k + r * b.kv.stride + d, b.head_dim - d), acc[r]);
        }
        for (int64_t r = 0; r < n; ++r) out[j + r] = Vec::sum(acc[r]) * b.scale;
    }
}

/// Turns the scores of a query over `count` >= 1 positions into weights relative to the new
/// maximum; the rest of the tile becomes zero.
void soften(const Scratch& s, int64_t i, int64_t count) noexcept {
    float* x = s.scores + i * kAttentionTile;
    const float none = -__builtin_inff();
    for (int64_t j = count; j < kAttentionTile; ++j) x[j] = none;
    F m = Vec::load(x);
    for (int64_t j = kLanes; j < kAttentionTile; j += kLanes) m = Vec::max(m, Vec::load(x + j));
    const float tile_top = largest(m);
    const float top = tile_top > s.top[i] ? tile_top : s.top[i];
    s.shrink[i] = s.top[i] == top ? 1.0f : __builtin_expf(s.top[i] - top);
    s.top[i] = top;
    const F shift = Vec::set1(top);
    F sum = Vec::zero();
    for (int64_t j = 0; j < kAttentionTile; j += kLanes) {
        const F e = exp_below_zero(Vec::sub(Vec::load(x + j), shift));
        Vec::store(x + j, e);
        sum = Vec::add(sum, e);
    }
    s.sum[i] = s.sum[i] * s.shrink[i] + Vec::sum(sum);
}

/// outputs [kRows, kVectors * kLanes) = outputs * shrink + weights * values of `count` positions.
template <int kRows, int kVectors, bool kPart>
void output_tile(const AttentionBlock& b, const Scratch& s, int64_t i, int64_t d, int64_t first,
                 int64_t count) noexcept {
    F acc[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
        const F shrink = Vec::set1(s.shrink[i + r]);
        for (int c = 0; c < kVectors; ++c)
            acc[r][c] =
                Vec::mul(shrink, Vec::load(s.outputs + (i + r) * s.padded + d + c * kLanes));
    }
    for (int64_t j = 0; j < count; ++j) {
        const float* values = b.kv.values + (first + j) * b.kv.stride + d;
        F v[kVectors];
        for (int c = 0; c < kVectors; ++c)
            v[c] = kPart ? Vec::load_part(values, b.head_dim - d) : Vec::load(values + c * kLanes);
        for (int r = 0; r < kRows; ++r) {
            const F w = Vec::broadcast(s.scores + (i + r) * kAttentionTile + j);
            for (int c = 0; c < kVectors; ++c) acc[r][c] = Vec::fma(w, v[c], acc[r][c]);
        }
    }
    for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < kVectors; ++c)
            Vec::store(s.outputs + (i + r) * s.padded + d + c * kLanes, acc[r][c]);
}

template <int kRows>
void output_rows(const AttentionBlock& b, const Scratch& s, int64_t i, int64_t first,
                 int64_t count) noexcept {
    int64_t d = 0;
    for (; d + kChunk * kLanes <= b.head_dim; d += kChunk * kLanes)
        output_tile<kRows, kChunk, false>(b, s, i, d, first, count);
    for (; d + kLanes <= b.head_dim; d += kLanes)
        output_tile<kRows, 1, false>(b, s, i, d, first, count);
    if (d < b.head_dim) output_tile<kRows, 1, true>(b, s, i, d, first, count);
}

/// All scores of one tile of positions.
void score(const AttentionBlock& b, const Scratch& s, int64_t first, int64_t count) noexcept {
    if (s.queries < kFewQueries) {
        for (int64_t i = 0; i < s.queries; ++i) score_row(b, s, i, first, count);
        return;
    }
    transpose_keys(b, first, count, s.keys);
    for (int64_t j = 0; j < count; j += kChunk * kLanes) {
        int64_t i = 0;
        for (; i + 4 <= s.queries; i += 4) score_tile<4>(b, s, i, j);
        for (; i < s.queries; ++i) score_tile<1>(b, s, i, j);
    }
}

/// Softmax and output of one tile of `count` positions. Query i sees what lies at or before its own
/// position; the first that sees nothing of this tile and all before it are skipped.
void add_values(const AttentionBlock& b, const Scratch& s, int64_t first, int64_t count) noexcept {
    const auto seen = [&](int64_t i) {
        const int64_t n = b.position + i / b.group + 1 - first;
        return n < count ? n : count;
    };
    int64_t i = 0;
    while (seen(i) <= 0) ++i;  // the last query sees at least one position of every tile
    for (int64_t k = i; k < s.queries; ++k) soften(s, k, seen(k));
    for (; i + 4 <= s.queries; i += 4) output_rows<4>(b, s, i, first, seen(i + 3));
    for (; i < s.queries; ++i) output_rows<1>(b, s, i, first, seen(i));
}

void attend(const AttentionBlock& b) noexcept {
    const Scratch s = scratch_of(b);
    const int64_t length = b.position + b.rows;
    for (int64_t i = 0; i < s.queries * s.padded; ++i) s.outputs[i] = 0;
    for (int64_t i = 0; i < s.queries; ++i) {
        s.top[i] = -__builtin_inff();
        s.sum[i] = 0;
    }
    for (int64_t first = 0; first < length; first += kAttentionTile) {
        const int64_t left = length - first;
        const int64_t count = left < kAttentionTile ? left : kAttentionTile;
        score(b, s, first, count);
        add_values(b, s, first, count);
    }
    for (int64_t i = 0; i < s.queries; ++i) {
        const F factor = Vec::set1(1.0f / s.sum[i]);
        float* y = b.y + i / b.group * b.y_stride + i % b.group * b.head_dim;
        for (int64_t d = 0; d < b.head_dim; d += kLanes)
            Vec::store_part(y + d, Vec::mul(Vec::load(s.outputs + i * s.padded + d), factor),
                            b.head_dim - d);
    }
}

}  // namespace
}  // namespace muster
