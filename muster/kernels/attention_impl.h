// SPDX-License-Identifier: Apache-2.0
// Attention in f32 written once over Vec; included only by attention_<isa>.cpp after its
// vec_<isa>.h. Everything has internal linkage.
//
// A block goes through its positions in tiles of kAttentionTile. Few queries: scores are dot
// products with the keys as they are stored, each key widened once, and values are widened on their
// way into the sums; memory is read once, in order, the other half of a tile fetched ahead. Many
// queries: keys are widened and transposed to [head_dim][tile], values to [tile][padded value_dim],
// and both products are small matrix products of 4 rows by a few vectors whose accumulators stay in
// registers. Positions that a query does not see get weight zero; they lie within rows already
// written.
#pragma once

#include "muster/kernels/attention_rows_impl.h"
#include "muster/kernels/attention_softmax_impl.h"

namespace muster {
namespace {

constexpr int64_t kFewQueries = 3;  // up to here keys are read as they lie

// ---- few queries

void prefetch_row(const std::byte* row, int64_t bytes) noexcept {
    for (int64_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(row) + i);
}

/// Scores of kQueries queries from `i` with kKeys keys from position t on.
template <typename Row, int kQueries, int kKeys>
void score_keys(const AttentionBlock& b, const Tile& s, int64_t i, int64_t t) noexcept {
    F acc[kQueries][kKeys];
    const std::byte* keys[kKeys];
    const float* q[kQueries];
    for (int k = 0; k < kKeys; ++k) keys[k] = b.key(t + k);
    for (int r = 0; r < kQueries; ++r) {
        q[r] = b.query(i + r);
        for (int k = 0; k < kKeys; ++k) acc[r][k] = Vec::zero();
    }
    int64_t d = 0;
    for (; d + kChunk * kLanes <= b.head_dim; d += kChunk * kLanes) {
        F x[kQueries][kChunk];
        for (int r = 0; r < kQueries; ++r)
            for (int c = 0; c < kChunk; ++c) x[r][c] = Vec::load(q[r] + d + c * kLanes);
        for (int k = 0; k < kKeys; ++k) {
            F y[kChunk];
            Row::load_chunk(keys[k], d, y);
            for (int c = 0; c < kChunk; ++c)
                for (int r = 0; r < kQueries; ++r) acc[r][k] = Vec::fma(x[r][c], y[c], acc[r][k]);
        }
    }
    for (; d < b.head_dim; d += kLanes) {
        const int64_t n = b.head_dim - d;
        for (int k = 0; k < kKeys; ++k) {
            const F y = Row::load_part(keys[k], d, n);
            for (int r = 0; r < kQueries; ++r)
                acc[r][k] = Vec::fma(Vec::load_part(q[r] + d, n), y, acc[r][k]);
        }
    }
    for (int r = 0; r < kQueries; ++r)
        for (int k = 0; k < kKeys; ++k)
            s.scores[(i + r) * kAttentionTile + t - s.first + k] = Vec::sum(acc[r][k]) * b.scale;
}

/// All scores of a tile; fetches its values ahead.
template <typename Row, int kQueries>
void score_few(const AttentionBlock& b, const Tile& s) noexcept {
    constexpr int kKeys = 4;
    const int64_t end = s.first + s.count;
    const bool apart = b.kv.values != b.kv.keys;
    int64_t t = s.first;
    for (; t + kKeys <= end; t += kKeys) {
        if (apart)
            for (int k = 0; k < kKeys; ++k) prefetch_row(b.value(t + k), s.value_bytes);
        score_keys<Row, kQueries, kKeys>(b, s, 0, t);
    }
    for (; t < end; ++t) score_keys<Row, kQueries, 1>(b, s, 0, t);
}

/// outputs [kRows, kVectors * kLanes) from d on = outputs * shrink + weights * values.
template <typename Row, int kRows, int kVectors, bool kPart>
void output_tile(const AttentionBlock& b, const Tile& s, const Values& v, int64_t i, int64_t d,
                 Span seen) noexcept {
    F acc[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
        const F shrink = Vec::set1(s.shrink[i + r]);
        for (int c = 0; c < kVectors; ++c)
            acc[r][c] = Vec::mul(
                shrink, Vec::load(b.part.outputs + (i + r) * s.padded_values + d + c * kLanes));
    }
    for (int64_t j = seen.begin; j < seen.end; ++j) {
        const std::byte* row = v.rows + j * v.stride;
        F x[kVectors];
        if constexpr (kVectors == kChunk) {
            Row::load_chunk(row, d, x);
        } else {
            x[0] = kPart ? Row::load_part(row, d, b.value_dim - d) : Row::load(row, d);
        }
        for (int r = 0; r < kRows; ++r) {
            const F w = Vec::broadcast(s.scores + (i + r) * kAttentionTile + j);
            for (int c = 0; c < kVectors; ++c) acc[r][c] = Vec::fma(w, x[c], acc[r][c]);
        }
    }
    for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < kVectors; ++c)
            Vec::store(b.part.outputs + (i + r) * s.padded_values + d + c * kLanes, acc[r][c]);
}

template <typename Row, int kRows>
void output_rows(const AttentionBlock& b, const Tile& s, const Values& v, int64_t i,
                 Span seen) noexcept {
    int64_t d = 0;
    for (; d + kChunk * kLanes <= b.value_dim; d += kChunk * kLanes)
        output_tile<Row, kRows, kChunk, false>(b, s, v, i, d, seen);
    for (; d + kLanes <= b.value_dim; d += kLanes)
        output_tile<Row, kRows, 1, false>(b, s, v, i, d, seen);
    if (d < b.value_dim) output_tile<Row, kRows, 1, true>(b, s, v, i, d, seen);
}

template <typename Row, int kQueries>
void attend_few(const AttentionBlock& b, Tile& s) noexcept {
    const int64_t key_bytes = row_bytes(b.kv.dtype, b.head_dim);
    for (int64_t first = b.begin; first < b.end; first += kAttentionTile) {
        s.move_to(b, first);
        score_few<Row, kQueries>(b, s);
        for (int64_t t = first + kAttentionTile; t < first + 2 * kAttentionTile && t < b.end; ++t)
            prefetch_row(b.key(t), key_bytes);
        for (int64_t i = s.queries.begin; i < s.queries.end; ++i) soften(b, s, i);
        const Values v{b.value(first), b.kv.value_stride};
        if (s.queries.begin == 0 && s.queries.end == kQueries)
            output_rows<Row, kQueries>(b, s, v, 0, {0, s.count});
        else
            for (int64_t i = s.queries.begin; i < s.queries.end; ++i)
                output_rows<Row, 1>(b, s, v, i, seen_by(b, s, i));
    }
}

// ---- many queries

/// keys [head_dim][tile] of a tile; columns behind its positions are zero.
template <typename Row>
void transpose_keys(const AttentionBlock& b, const Tile& s) noexcept {
    for (int64_t j = 0; j < kAttentionTile; j += kLanes) {
        for (int64_t d = 0; d < b.head_dim; d += kLanes) {
            F r[kLanes];
            for (int i = 0; i < kLanes; ++i)
                r[i] = j + i < s.count ? Row::load_part(b.key(s.first + j + i), d, b.head_dim - d)
                                       : Vec::zero();
            Vec::transpose(r);
            for (int i = 0; i < kLanes; ++i)
                Vec::store(s.keys + (d + i) * kAttentionTile + j, r[i]);
        }
    }
}

/// values [tile][padded value_dim] in f32.
template <typename Row>
void widen_values(const AttentionBlock& b, const Tile& s) noexcept {
    for (int64_t j = 0; j < s.count; ++j)
        for (int64_t d = 0; d < b.value_dim; d += kLanes)
            Vec::store(s.values + j * s.padded_values + d,
                       Row::load_part(b.value(s.first + j), d, b.value_dim - d));
}

/// scores of kRows queries from `i` over columns [j, j + kChunk * kLanes).
template <int kRows>
void score_tile(const AttentionBlock& b, const Tile& s, int64_t i, int64_t j) noexcept {
    F acc[kRows][kChunk];
    const float* q[kRows];
    for (int r = 0; r < kRows; ++r) {
        q[r] = b.query(i + r);
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

template <typename Row>
void attend_many(const AttentionBlock& b, Tile& s) noexcept {
    const bool copy = b.kv.dtype != DType::f32;
    for (int64_t first = b.begin; first < b.end; first += kAttentionTile) {
        s.move_to(b, first);
        transpose_keys<Row>(b, s);
        if (copy) widen_values<Row>(b, s);
        const Values v = copy ? Values{reinterpret_cast<const std::byte*>(s.values),
                                       s.padded_values * static_cast<int64_t>(sizeof(float))}
                              : Values{b.value(first), b.kv.value_stride};
        for (int64_t j = 0; j < s.count; j += kChunk * kLanes) {
            int64_t i = s.queries.begin;
            for (; i + 4 <= s.queries.end; i += 4) score_tile<4>(b, s, i, j);
            for (; i < s.queries.end; ++i) score_tile<1>(b, s, i, j);
        }
        for (int64_t i = s.queries.begin; i < s.queries.end; ++i) soften(b, s, i);
        int64_t i = s.queries.begin;
        for (; i + 4 <= s.queries.end; i += 4) {
            const Span seen{seen_by(b, s, i).begin, seen_by(b, s, i + 3).end};
            output_rows<RowF32, 4>(b, s, v, i, seen);
        }
        for (; i < s.queries.end; ++i) output_rows<RowF32, 1>(b, s, v, i, seen_by(b, s, i));
    }
}

template <typename Row>
void attend_in(const AttentionBlock& b) noexcept {
    Tile s(b);
    switch (b.queries()) {
        case 1:
            return attend_few<Row, 1>(b, s);
        case 2:
            return attend_few<Row, 2>(b, s);
        case kFewQueries:
            return attend_few<Row, kFewQueries>(b, s);
        default:
            return attend_many<Row>(b, s);
    }
}

void attend(const AttentionBlock& b) noexcept {
    switch (b.kv.dtype) {
        case DType::f32:
            return attend_in<RowF32>(b);
        case DType::f16:
            return attend_in<RowF16>(b);
        default:
            return attend_in<RowQ8>(b);
    }
}

}  // namespace
}  // namespace muster
