// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "muster/kernels/attention_kernels.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

float score(const AttentionBlock& b, const float* q, const float* key) noexcept {
    double dot = 0;
    for (int i = 0; i < b.head_dim; ++i) dot += static_cast<double>(q[i]) * key[i];
    dot *= b.scale;
    if (b.softcap > 0) dot = b.softcap * std::tanh(dot / b.softcap);
    return static_cast<float>(dot);
}

/// Adds a position's value to query i.
void add(const AttentionBlock& b, int64_t i, float score, const float* value) noexcept {
    float* sum = b.part.outputs + i * attention_padded(b.value_dim);
    float& top = b.part.top[i];
    if (score > top) {
        const float shrink = std::exp(top - score);  // exp(-inf) = 0 at the first position
        b.part.sum[i] *= shrink;
        for (int d = 0; d < b.value_dim; ++d) sum[d] *= shrink;
        top = score;
    }
    const float weight = std::exp(score - top);
    b.part.sum[i] += weight;
    for (int d = 0; d < b.value_dim; ++d) sum[d] += weight * value[d];
}

}  // namespace

// Position by position: each is decoded once for all queries.
void attention_reference(const AttentionBlock& b) noexcept {
    const DecodeFn decode = decoder(b.kv.dtype, Isa::generic);
    float* key = b.scratch;
    float* value = key + attention_padded(b.head_dim);
    std::fill_n(b.part.outputs, b.queries() * attention_padded(b.value_dim), 0.0f);
    std::fill_n(b.part.top, b.queries(), -INFINITY);
    std::fill_n(b.part.sum, b.queries(), 0.0f);
    for (int64_t t = b.begin; t < b.end; ++t) {
        decode(b.key(t), key, b.head_dim);
        decode(b.value(t), value, b.value_dim);
        for (int64_t i = 0; i < b.queries(); ++i) {
            if (t < b.first_seen(i) || t > b.last_seen(i)) continue;
            add(b, i, score(b, b.query(i), key), value);
        }
    }
}

}  // namespace muster
