// SPDX-License-Identifier: Apache-2.0
// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1), absorbed: with the
// latent c of a position, a head's key is W_k c and its value W_v c, so that q . (W_k c) =
// (W_k^T q) . c and sum of p W_v c = W_v (sum of p c). All heads share one key, [c, turned part],
// and one value, c: the memory of a sequence is one such row a position and layer, and what is
// computed for a position does not grow with the number of positions before it but for attention
// itself.
#include <algorithm>
#include <cmath>

#include "muster/kernels/head_matmul.h"
#include "muster/kernels/norm.h"
#include "muster/model/forward_impl.h"

namespace muster {

/// What heads multiply with `keys`. A file's whole attn_kv_b, in which `values` lie, is a matrix
/// that latents are multiplied with.
void ForwardContext::Impl::observe_latent(const LatentWeights& lw, MatrixView<const float> raw,
                                          MatrixView<const float> k) {
    const int dim = config.head_dim;
    if (lw.transposed_keys.capacity() > 0) {
        activations->product(lw.values[0], {k.data, k.rows, config.latent.kv_rank, k.stride});
        return;
    }
    for (int64_t i = 0; i < config.heads; ++i)
        activations->product(lw.keys[static_cast<size_t>(i)],
                             {raw.data + i * dim, raw.rows, dim - config.turned(), raw.stride});
}

void ForwardContext::Impl::latent_attention_part(int l) {
    const LayerWeights& w = model.weights().layers[l];
    const LatentWeights& lw = w.latent;
    const LatentAttention& a = config.latent;
    const int turned = config.turned(), dim = config.head_dim, nope = dim - turned;
    const int key_dim = a.kv_rank + turned;
    const int64_t heads = config.heads;
    const float eps = config.norm_eps;
    const MatrixView<float> stream = rows_of(x, config.d_model),
                            h = rows_of(normed, config.d_model),
                            narrow = rows_of(latent.query_down, a.query_rank),
                            raw = rows_of(latent.query, heads * dim),
                            q = rows_of(query, query_width), k = rows_of(key, key_dim),
                            y = rows_of(attended, heads * a.kv_rank),
                            values = rows_of(latent.values, heads * a.value_dim);
    for_rows(batch.size(), [&](int first, int n) {
        rms_norm(stream.slice(first, n), w.attention_norm, eps, h.slice(first, n));
    });
    if (lw.query_down.empty()) {
        products(h, {{&w.query, raw}, {&lw.down, k}});
    } else {
        products(h, {{&lw.query_down, narrow}, {&lw.down, k}});
        for_rows(batch.size(), [&](int first, int n) {
            rms_norm(narrow.slice(first, n), lw.query_down_norm, eps, narrow.slice(first, n));
        });
        product(narrow, w.query, raw, compute);
    }
    for_rows(batch.size(), [&](int first, int n) {
        const bool interleaved = config.rope == RopeLayout::norm;
        const MatrixView<float> c(k.row(first), n, a.kv_rank, key_dim);
        rms_norm(c, lw.norm, eps, c);
        rope(k.slice(first, n), rope_table, first, interleaved, key_dim, a.kv_rank);
        rope(raw.slice(first, n), rope_table, first, interleaved, dim, nope);
        for (int t = first; t < first + n; ++t) {
            store(l, t, k.row(t), nullptr);
            for (int64_t i = 0; i < heads; ++i)
                std::copy_n(raw.row(t) + i * dim + nope, turned,
                            q.row(t) + i * key_dim + a.kv_rank);
        }
    });
    if (activations != nullptr) observe_latent(lw, raw, k);
    head_matmul({raw.data, raw.rows, dim}, lw.keys, {q.data, q.rows, key_dim}, executor, compute,
                &matmul_workspace);
    const float usual = 1.0f / std::sqrt(static_cast<float>(dim));
    attend(l, {.heads = config.heads,
               .kv_heads = 1,
               .head_dim = key_dim,
               .scale = config.attention_scale > 0 ? config.attention_scale : usual,
               .value_dim = a.kv_rank,
               .window = config.window(l),
               .sinks = w.sinks.empty() ? nullptr : w.sinks.data()});
    head_matmul({y.data, y.rows, a.kv_rank}, lw.values, {values.data, y.rows, a.value_dim},
                executor, compute, &matmul_workspace);
    if (activations != nullptr && lw.transposed_keys.capacity() == 0) {
        for (int64_t i = 0; i < heads; ++i)
            activations->product(lw.values[static_cast<size_t>(i)],
                                 {y.data + i * a.kv_rank, y.rows, a.kv_rank, y.stride});
    }
    product(values, w.output, stream, compute, /*accumulate=*/true);
}

}  // namespace muster
