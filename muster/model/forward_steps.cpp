// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <cmath>

#include "muster/core/error.h"
#include "muster/kernels/matmul.h"
#include "muster/kernels/norm.h"
#include "muster/model/forward_impl.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

/// Norm over whole rows or over each head, as the weight's length says; none without a weight.
void norm_heads(MatrixView<float> x, std::span<const float> weight, float eps) {
    if (weight.empty()) return;
    const auto n = static_cast<int64_t>(weight.size());
    const MatrixView<float> heads(x.data, x.rows * x.cols / n, n);
    rms_norm(heads, weight, eps, heads);
}

void add_bias(MatrixView<float> x, std::span<const float> bias, float factor = 1) {
    if (bias.empty()) return;
    for (int64_t t = 0; t < x.rows; ++t)
        for (int64_t i = 0; i < x.cols; ++i) x(t, i) += factor * bias[i];
}

void scale(MatrixView<float> x, float factor) {
    if (factor == 1) return;
    for (int64_t t = 0; t < x.rows; ++t)
        for (int64_t i = 0; i < x.cols; ++i) x(t, i) *= factor;
}

float sigmoid(double x) { return static_cast<float>(1 / (1 + std::exp(-x))); }

}  // namespace

void ForwardContext::Impl::product(MatrixView<const float> in, const WeightMatrix& w,
                                   MatrixView<float> y, Compute how, bool accumulate) {
    if (activations != nullptr) activations->product(w, in);
    matmul(in, w, y, executor, how, accumulate, &matmul_workspace);
}

void ForwardContext::Impl::products(MatrixView<const float> in,
                                    std::initializer_list<Product> all) {
    if (activations != nullptr)
        for (const Product& p : all) activations->product(*p.w, in);
    matmul_each(in, all, executor, compute, matmul_workspace);
}

void ForwardContext::Impl::run_experts(int l, const ExpertBank& bank, const RouteTable& chosen,
                                       MatrixView<float> y, bool accumulate,
                                       MatrixView<const float> logits_of) {
    const MatrixView<float> h = rows_of(normed, config.d_model);
    MoeSaved* saved = activations != nullptr ? &moe_saved : nullptr;
    moe_forward(bank, chosen, h, y, moe_workspace, executor, compute, accumulate, saved);
    if (saved != nullptr) activations->experts({l, bank, h, moe_saved, logits_of});
}

void ForwardContext::Impl::embed() {
    const WeightMatrix& table = model.weights().embedding;
    for (int t = 0; t < batch.size(); ++t)
        decode_row(table.dtype, table.row(batch.tokens[t]), x.data() + int64_t{t} * table.cols,
                   table.cols);
    scale(rows_of(x, config.d_model), config.embedding_scale);
}

void ForwardContext::Impl::enter(const StreamStart& start) {
    MUSTER_ASSERT(start.layer >= 0 && start.layer <= config.num_layers());
    if (start.stream.data == nullptr) {
        MUSTER_ASSERT(start.layer == 0);
        embed();
    } else {
        MUSTER_ASSERT(start.stream.rows == batch.size() && start.stream.cols == config.d_model);
        for (int t = 0; t < batch.size(); ++t)
            std::copy_n(start.stream.row(t), config.d_model,
                        x.data() + int64_t{t} * config.d_model);
    }
    rope_table.fill({.dims = config.turned(),
                     .theta = config.rope_theta,
                     .scaling = config.rope_scaling,
                     .factors = model.weights().rope_factors},
                    batch.positions32);
}

void ForwardContext::Impl::attention_part(int l) {
    const LayerWeights& w = model.weights().layers[l];
    const MatrixView<float> stream = rows_of(x, config.d_model),
                            h = rows_of(normed, config.d_model);
    const MatrixView<float> q = rows_of(query, query_width), k = rows_of(key, kv_width),
                            v = rows_of(value, kv_width), y = rows_of(attended, query_width);
    const float eps = config.norm_eps;
    for_rows(batch.size(), [&](int first, int n) {
        rms_norm(stream.slice(first, n), w.attention_norm, eps, h.slice(first, n));
    });
    products(h, {{&w.query, q}, {&w.key, k}, {&w.value, v}});
    for_rows(batch.size(), [&](int first, int n) {
        add_bias(q.slice(first, n), w.query_bias);
        add_bias(k.slice(first, n), w.key_bias);
        add_bias(v.slice(first, n), w.value_bias);
        norm_heads(q.slice(first, n), w.query_norm, eps);
        norm_heads(k.slice(first, n), w.key_norm, eps);
        const bool interleaved = config.rope == RopeLayout::norm;
        rope(q.slice(first, n), rope_table, first, interleaved, config.head_dim);
        rope(k.slice(first, n), rope_table, first, interleaved, config.head_dim);
        for (int t = first; t < first + n; ++t) store(l, t, k.row(t), v.row(t));
    });
    const float usual = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
    attend(l, {.heads = config.heads,
               .kv_heads = config.kv_heads,
               .head_dim = config.head_dim,
               .scale = config.attention_scale > 0 ? config.attention_scale : usual,
               .window = config.window(l),
               .sinks = w.sinks.empty() ? nullptr : w.sinks.data()});
    for_rows(batch.size(),
             [&](int first, int n) { scale(y.slice(first, n), config.residual_scale); });
    product(y, w.output, stream, compute, /*accumulate=*/true);
    add_bias(stream, w.output_bias, config.residual_scale);
}

void ForwardContext::Impl::store(int l, int t, const float* k, const float* v) noexcept {
    if (!batch.branches) batch.caches[batch.sequences[t]]->store(l, batch.positions[t], k, v);
}

void ForwardContext::Impl::run_layers(const PassOptions& options) {
    for (int l = options.start.layer; l < config.num_layers(); ++l) {
        config.latent.used() ? latent_attention_part(l) : attention_part(l);
        feed_forward_part(l, options);
        if (options.residual != nullptr)
            options.residual->residual(l, batch.info(), rows_of(x, config.d_model));
    }
}

void ForwardContext::Impl::attend_branches(int l, const AttentionShape& shape) {
    const MatrixView<float> q = rows_of(query, int64_t{shape.heads} * shape.head_dim),
                            k = rows_of(key, kv_width),
                            y = rows_of(attended, int64_t{shape.heads} * shape.values());
    const bool values = !kv_shape(config).values_in_keys;
    for (const BatchRows::Run& run : batch.runs) {
        KvCache& cache = *run.cache;
        kept.reserve(static_cast<size_t>(cache.position_bytes(l)));
        cache.copy_out(l, run.position, kept.data());
        cache.store(l, run.position, k.row(run.first),
                    values ? value.data() + int64_t{run.first} * kv_width : nullptr);
        const AttentionRun one{
            .kv = cache.view(l), .first = 0, .count = 1, .position = run.position};
        attention(q.slice(run.first, 1), {&one, 1}, shape, y.slice(run.first, 1),
                  attention_workspace, executor);
        cache.copy_in(l, run.position, kept.data());
    }
}

void ForwardContext::Impl::attend(int l, const AttentionShape& shape) {
    if (batch.branches) return attend_branches(l, shape);
    runs.clear();
    for (const BatchRows::Run& run : batch.runs)
        runs.push_back({.kv = run.cache->view(l),
                        .first = run.first,
                        .count = run.count,
                        .position = run.position});
    attention(rows_of(query, int64_t{shape.heads} * shape.head_dim), runs, shape,
              rows_of(attended, int64_t{shape.heads} * shape.values()), attention_workspace,
              executor);
}

void ForwardContext::Impl::fill_single(RouteTable& table, int l, bool shared_only) const {
    table.clear(1);
    for (int t = 0; t < batch.size(); ++t) {
        const RequestRouting* routing = batch.routing[t];
        if (!shared_only || routing == nullptr || routing->layer(l).shared) {
            table.experts.push_back(0);
            table.weights.push_back(1.0f);
        }
        table.offsets.push_back(table.activations());
    }
}

void ForwardContext::Impl::weigh_shared(int l) {
    const std::span<const float> gate = model.weights().layers[l].shared_gate;
    if (gate.empty()) return;
    for (int t = 0; t < batch.size(); ++t) {
        const float* row = normed.data() + int64_t{t} * config.d_model;
        double sum = 0;
        for (int i = 0; i < config.d_model; ++i) sum += double{gate[i]} * row[i];
        for (int a = single.offsets[t]; a < single.offsets[t + 1]; ++a)
            single.weights[a] = sigmoid(sum);
    }
}

void ForwardContext::Impl::take_fixed_routes(int l, const RouteTable& fixed) {
    routes.clear(fixed.num_experts);
    for (const int64_t position : batch.positions) {
        if (position >= fixed.tokens())
            throw Error("model", "fixed routes of layer " + std::to_string(l) + " hold " +
                                     std::to_string(fixed.tokens()) +
                                     " tokens, expected at least " + std::to_string(position + 1));
        const auto experts_of_row = fixed.token_experts(static_cast<int>(position));
        const auto weights = fixed.token_weights(static_cast<int>(position));
        routes.experts.insert(routes.experts.end(), experts_of_row.begin(), experts_of_row.end());
        routes.weights.insert(routes.weights.end(), weights.begin(), weights.end());
        routes.offsets.push_back(routes.activations());
    }
}

void ForwardContext::Impl::choose_experts(int l, const PassOptions& options) {
    if (!options.fixed_routes.empty()) {
        take_fixed_routes(l, options.fixed_routes[l]);
        return;
    }
    const int n = config.layers[l].experts();
    const MatrixView<const float> values = rows_of(router_logits, n);
    const RouteContext context{
        .token_ids = batch.tokens, .positions = batch.positions, .layer = l, .seeds = batch.seeds};
    const RouterParameters& parameters = model.weights().layers[l].router_parameters;
    if (batch.routings.size() == 1) {
        route(values, batch.routings[0]->layer(l), parameters, context, route_scratch, routes);
        return;
    }
    batch.routers.clear();
    for (const RequestRouting* routing : batch.routing) batch.routers.push_back(&routing->layer(l));
    route_rows(values, batch.routers, parameters, context, route_scratch, routes);
}

void ForwardContext::Impl::route_layer(int l, const PassOptions& options, Intervention* touch) {
    const int n = config.layers[l].experts();
    const RowInfo info = batch.info();
    const MatrixView<float> values = rows_of(router_logits, n);
    // The router always in f32: rounding must not choose.
    product(rows_of(normed, config.d_model), model.weights().layers[l].router, values,
            Compute::f32);
    add_bias(values, model.weights().layers[l].router_bias);
    if (touch != nullptr) touch->before_route(l, info, values);
    choose_experts(l, options);
    if (touch != nullptr) touch->after_route(l, info, routes);
    MUSTER_ASSERT(routes.tokens() == batch.size() && routes.num_experts == n);
    const bool text = !batch.branches && options.fixed_routes.empty();
    for (int t = 0; t < batch.size(); ++t) {
        experts[int64_t{t} * config.num_layers() + l] = routes.offsets[t + 1] - routes.offsets[t];
        if (text && batch.routing[t]->follows_routes(l))
            batch.routing[t]->note_route(l, routes.token_experts(t), route_scratch.by_grid[t]);
    }
    if (options.trace == nullptr) return;
    const bool scored = options.fixed_routes.empty();
    options.trace->layer({l,
                          info,
                          routes,
                          values,
                          {scored ? route_scratch.scores.data() : nullptr, batch.size(), n}});
}

void ForwardContext::Impl::feed_forward_part(int l, const PassOptions& options) {
    const LayerWeights& w = model.weights().layers[l];
    const MatrixView<float> stream = rows_of(x, config.d_model),
                            h = rows_of(normed, config.d_model);
    for_rows(batch.size(), [&](int first, int count) {
        rms_norm(stream.slice(first, count), w.feed_forward_norm, config.norm_eps,
                 h.slice(first, count));
    });
    Intervention* touch = options.intervention;
    if (touch != nullptr && !touch->touches(l)) touch = nullptr;
    const RowInfo info = batch.info();
    if (config.layers[l].dense()) {
        fill_single(routes, l, false);
    } else {
        route_layer(l, options, touch);
    }
    MatrixView<float> y = stream;
    const bool apart = touch != nullptr || config.residual_scale != 1;
    if (apart) {
        output.reserve(static_cast<size_t>(max_rows) * config.d_model);
        y = rows_of(output, config.d_model);
    }
    MatrixView<const float> logits;
    if (!config.layers[l].dense()) logits = rows_of(router_logits, config.layers[l].experts());
    run_experts(l, w.experts, routes, y, !apart, logits);
    if (w.shared.size() > 0) {
        fill_single(single, l, true);
        weigh_shared(l);
        run_experts(l, w.shared, single, y, true);
    }
    if (touch != nullptr) touch->after_experts(l, info, y);
    if (!apart) return;
    for (int64_t i = 0; i < y.rows * y.cols; ++i)
        stream.data[i] += config.residual_scale * y.data[i];
}

void ForwardContext::Impl::finish() {
    const int64_t d = config.d_model;
    std::atomic<bool> finite{true};
    for_rows(static_cast<int>(batch.wanted.size()), [&](int first, int n) {
        for (int i = first; i < first + n; ++i) {
            float* row = hidden.data() + i * d;
            rms_norm({x.data() + batch.wanted[i] * d, 1, d}, model.weights().final_norm,
                     config.norm_eps, {row, 1, d});
            if (!std::all_of(row, row + d, [](float v) { return std::isfinite(v); }))
                finite.store(false, std::memory_order_relaxed);
        }
    });
    if (!finite)
        throw Error("model", "a hidden state is NaN or infinite: weights or cache are damaged");
}

void ForwardContext::Impl::observe() {
    const auto layers = static_cast<size_t>(config.num_layers());
    for (int t = 0; t < batch.size(); ++t) {
        if (!batch.routing[t]->controlled()) continue;
        batch.routing[t]->observe(batch.positions[t], {experts.data() + t * layers, layers});
    }
    for (RequestRouting* routing : batch.routings) routing->end_pass();
}

}  // namespace muster
