// SPDX-License-Identifier: Apache-2.0
// Attention in f32 written once over Vec; included only by attention_<isa>.cpp after its
// vec_<isa>.h. Everything has internal linkage.
//
// A block goes through its positions in tiles of kAttentionTile. Few queries: scores are dot
// products with the keys as they are stored, for 8, 4, 2 or 1 queries at a time; values are widened
// on their way into the sums of one or two queries, else once for all. Memory is read in order,
// which the processor foresees; a tile that is passed again lies in a cache. Many queries: keys are
// widened and transposed to [head_dim][tile], values to [tile][padded value_dim], and both products
// are small matrix products of 4 rows by a few vectors whose accumulators stay in registers.
// Positions that a query does not see get weight zero; they lie within rows already written.
#pragma once

#include <type_traits>

#include "muster/kernels/attention_rows_impl.h"
#include "muster/kernels/attention_softmax_impl.h"

namespace muster {
namespace {

constexpr int64_t kFewQueries = 8;  // up to here keys are read as they lie
constexpr int kWide = 8;            // vectors of a row at once, for one query

// ---- few queries

/// Adds the products of kQueries queries from `i` with kCount vectors of keys from d on.
template <typename Row, int kQueries, int kCount>
[[gnu::always_inline]] inline void score_some(const AttentionBlock& b, int64_t i,
                                              const std::byte* const* keys, int64_t d,
                                              F (&acc)[kLanes]) noexcept {
    constexpr int kKeys = kLanes / kQueries;
    F q[kQueries][kCount];
    for (int r = 0; r < kQueries; ++r)
        for (int c = 0; c < kCount; ++c) q[r][c] = Vec::load(b.query(i + r) + d + c * kLanes);
#pragma GCC unroll 16
    for (int k = 0; k < kKeys; ++k) {
        F y[kCount];
        Row::template load_some<kCount>(keys[k], d, y);
#pragma GCC unroll 8
        for (int c = 0; c < kCount; ++c)
#pragma GCC unroll 8
            for (int r = 0; r < kQueries; ++r)
                acc[r * kKeys + k] = Vec::fma(q[r][c], y[c], acc[r * kKeys + k]);
    }
}

/// All scores of a tile with kQueries queries from `i`, kLanes at a time.
template <typename Row, int kQueries>
void score_few(const AttentionBlock& b, const Tile& s, int64_t i) noexcept {
    constexpr int kKeys = kLanes / kQueries;
    constexpr int kCount = kWide / kQueries > 1 ? kWide / kQueries : 1;
    for (int64_t j = 0; j < s.count; j += kKeys) {
        const std::byte* keys[kKeys];
        for (int k = 0; k < kKeys; ++k)
            keys[k] = b.key(s.first + (j + k < s.count ? j + k : s.count - 1));
        F acc[kLanes];
        for (F& a : acc) a = Vec::zero();
        int64_t d = 0;
        for (; d + kCount * kLanes <= b.head_dim; d += kCount * kLanes)
            score_some<Row, kQueries, kCount>(b, i, keys, d, acc);
        for (; d + kLanes <= b.head_dim; d += kLanes)
            score_some<Row, kQueries, 1>(b, i, keys, d, acc);
        if (d < b.head_dim) {
            const int64_t n = b.head_dim - d;
            for (int k = 0; k < kKeys; ++k) {
                const F y = Row::load_part(keys[k], d, n);
                for (int r = 0; r < kQueries; ++r)
                    acc[r * kKeys + k] =
                        Vec::fma(Vec::load_part(b.query(i + r) + d, n), y, acc[r * kKeys + k]);
            }
        }
        alignas(64) float sums[kLanes];
        Vec::store(sums, Vec::mul(Vec::sums(acc), Vec::set1(b.scale)));
        for (int r = 0; r < kQueries; ++r)
            __builtin_memcpy(s.scores + (i + r) * kAttentionTile + j, sums + r * kKeys,
                             kKeys * sizeof(float));
    }
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
        if constexpr (kPart) {
            x[0] = Row::load_part(row, d, b.value_dim - d);
        } else {
            Row::template load_some<kVectors>(row, d, x);
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
    constexpr int kVectors = kLanes / kRows < kWide ? kLanes / kRows : kWide;
    int64_t d = 0;
    for (; d + kVectors * kLanes <= b.value_dim; d += kVectors * kLanes)
        output_tile<Row, kRows, kVectors, false>(b, s, v, i, d, seen);
    for (; d + kLanes <= b.value_dim; d += kLanes)
        output_tile<Row, kRows, 1, false>(b, s, v, i, d, seen);
    if (d < b.value_dim) output_tile<Row, kRows, 1, true>(b, s, v, i, d, seen);
}

/// f(i, size) with `size` a constant of 8, 4, 2 or 1, for the queries from begin to end.
template <typename Fn>
void by_size(Span queries, Fn f) noexcept {
    int64_t i = queries.begin;
    for (; i + 8 <= queries.end; i += 8) f(i, std::integral_constant<int, 8>());
    if (i + 4 <= queries.end) f(i, std::integral_constant<int, 4>()), i += 4;
    if (i + 2 <= queries.end) f(i, std::integral_constant<int, 2>()), i += 2;
    if (i < queries.end) f(i, std::integral_constant<int, 1>());
}

/// values [tile][padded value_dim] in f32.
template <typename Row>
Values widen_values(const AttentionBlock& b, const Tile& s) noexcept {
    for (int64_t j = 0; j < s.count; ++j)
        for (int64_t d = 0; d < b.value_dim; d += kLanes)
            Vec::store(s.values + j * s.padded_values + d,
                       Row::load_part(b.value(s.first + j), d, b.value_dim - d));
    return {reinterpret_cast<const std::byte*>(s.values),
            s.padded_values * static_cast<int64_t>(sizeof(float))};
}

template <typename Row>
void attend_few(const AttentionBlock& b, Tile& s) noexcept {
    for (int64_t first = b.begin; first < b.end; first += kAttentionTile) {
        s.move_to(b, first);
        by_size(s.queries, [&](int64_t i, auto size) { score_few<Row, size()>(b, s, i); });
        for (int64_t i = s.queries.begin; i < s.queries.end; ++i) soften(b, s, i);
        const bool widen = b.kv.dtype != DType::f32 && s.queries.end - s.queries.begin > 2;
        const Values v =
            widen ? widen_values<Row>(b, s) : Values{b.value(first), b.kv.value_stride};
        by_size(s.queries, [&](int64_t i, auto size) {
            if (widen) return output_rows<RowF32, size()>(b, s, v, i, {0, s.count});
            if constexpr (size() <= 2)
                output_rows<Row, size()>(b, s, v, i, {0, s.count});
            else
                output_rows<RowF32, size()>(b, s, v, i, {0, s.count});
        });
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
        const Values v = copy ? widen_values<Row>(b, s) : Values{b.value(first), b.kv.value_stride};
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
    b.queries() <= kFewQueries ? attend_few<Row>(b, s) : attend_many<Row>(b, s);
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
