// SPDX-License-Identifier: Apache-2.0
// For tests: the model written as plainly as possible, in double precision.
#pragma once

#include "muster/model/testing.h"

namespace muster::testing {

using Vector = std::vector<double>;

/// One token's selected experts in one layer, strongest first.
using Route = std::vector<std::pair<int, double>>;

class Reference {
  public:
    explicit Reference(const Checkpoint& checkpoint)
        : c_(checkpoint.config), t_(checkpoint.tensors) {}

    /// Logits [T][vocab] of a text; fills routes() [layer][token].
    std::vector<Vector> logits(const std::vector<int32_t>& tokens) {
        using namespace tensor_names;
        const size_t n = tokens.size();
        std::vector<Vector> x(n);
        for (size_t t = 0; t < n; ++t) x[t] = row(std::string(kEmbedding), tokens[t]);
        routes_.assign(c_.layers.size(), std::vector<Route>(n));
        for (int l = 0; l < c_.num_layers(); ++l) {
            const std::vector<Vector> a = attention(l, x);
            for (size_t t = 0; t < n; ++t) {
                add(x[t], a[t]);
                add(x[t], feed_forward(l, norm(layer(l, kFeedForwardNorm), x[t]), routes_[l][t]));
            }
        }
        std::vector<Vector> out(n);
        for (size_t t = 0; t < n; ++t)
            out[t] = times(std::string(c_.tied_head ? kEmbedding : kHead),
                           norm(std::string(kFinalNorm), x[t]));
        return out;
    }
    const std::vector<std::vector<Route>>& routes() const { return routes_; }

  private:
    const Tensor& tensor(const std::string& name) const { return t_.at(name); }
    Vector row(const std::string& name, int64_t r) const {
        const Tensor& t = tensor(name);
        const auto first = t.values.begin() + r * t.shape[1];
        return {first, first + t.shape[1]};
    }
    static void add(Vector& x, const Vector& y) {
        for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    }
    Vector times(const std::string& name, const Vector& x) const {
        const Tensor& t = tensor(name);
        Vector y(t.shape[0]);
        for (size_t r = 0; r < y.size(); ++r)
            for (size_t i = 0; i < x.size(); ++i) y[r] += t.values[r * x.size() + i] * x[i];
        return y;
    }
    Vector norm(const std::string& name, const Vector& x) const {
        double squares = 0;
        for (const double v : x) squares += v * v;
        const double factor = 1 / std::sqrt(squares / static_cast<double>(x.size()) + c_.norm_eps);
        Vector y(x.size());
        for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * factor * tensor(name).values[i];
        return y;
    }

    /// q/k norm and RoPE of all heads of one token.
    Vector prepared(const std::string& weight, Vector x, size_t position) const {
        const int dim = c_.head_dim, half = dim / 2;
        if (c_.qk_norm == QkNorm::full) x = norm(weight, x);
        for (size_t h = 0; h < x.size(); h += dim) {
            Vector head(x.begin() + h, x.begin() + h + dim);
            if (c_.qk_norm == QkNorm::per_head) head = norm(weight, head);
            for (int i = 0; i < half; ++i) {
                const int a = c_.rope == RopeLayout::norm ? 2 * i : i;
                const int b = c_.rope == RopeLayout::norm ? 2 * i + 1 : i + half;
                const double angle =
                    static_cast<double>(position) * std::pow(c_.rope_theta, -2.0 * i / dim);
                x[h + a] = head[a] * std::cos(angle) - head[b] * std::sin(angle);
                x[h + b] = head[a] * std::sin(angle) + head[b] * std::cos(angle);
            }
        }
        return x;
    }

    std::vector<Vector> attention(int l, const std::vector<Vector>& x) const {
        using namespace tensor_names;
        std::vector<Vector> k, v, out;
        const int dim = c_.head_dim, group = c_.heads / c_.kv_heads;
        for (size_t t = 0; t < x.size(); ++t) {
            const Vector h = norm(layer(l, kAttentionNorm), x[t]);
            const Vector q = prepared(layer(l, kQueryNorm), times(layer(l, kQuery), h), t);
            k.push_back(prepared(layer(l, kKeyNorm), times(layer(l, kKey), h), t));
            v.push_back(times(layer(l, kValue), h));
            Vector y(q.size());
            for (int head = 0; head < c_.heads; ++head) {
                const int at = head * dim, kv = head / group * dim;
                Vector p(t + 1);
                double sum = 0;
                for (size_t j = 0; j <= t; ++j) {
                    double dot = 0;
                    for (int i = 0; i < dim; ++i) dot += q[at + i] * k[j][kv + i];
                    sum += p[j] = std::exp(dot / std::sqrt(static_cast<double>(dim)));
                }
                for (size_t j = 0; j <= t; ++j)
                    for (int i = 0; i < dim; ++i) y[at + i] += p[j] / sum * v[j][kv + i];
            }
            out.push_back(times(layer(l, kOutput), y));
        }
        return out;
    }

    double activate(double x) const {
        if (c_.activation == Activation::relu) return std::max(x, 0.0);
        if (c_.activation == Activation::gelu) return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
        return x / (1 + std::exp(-x));
    }
    /// name(what) gives the tensors' names.
    template <typename Name>
    Vector expert_output(Name name, const Vector& x) const {
        Vector h = times(name("up"), x);
        const Vector gate = c_.gated ? times(name("gate"), x) : Vector{};
        for (size_t i = 0; i < h.size(); ++i)
            h[i] = c_.gated ? activate(gate[i]) * h[i] : activate(h[i]);
        return times(name("down"), h);
    }

    Route route(const RouterSpec& spec, const Vector& logits) const {
        Vector p(logits.size());
        double sum = 0;
        for (size_t e = 0; e < p.size(); ++e) sum += p[e] = std::exp(logits[e]);
        for (double& v : p) v /= sum;
        std::vector<int> order(p.size());
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return p[a] > p[b]; });
        size_t n = static_cast<size_t>(spec.value);
        if (spec.selection == Selection::top_p) {
            double mass = 0;
            for (n = 0; n < p.size() && mass < spec.value;) mass += p[order[n++]];
            if (spec.max > 0) n = std::min<size_t>(n, spec.max);
        }
        double mass = 0;
        for (size_t i = 0; i < n; ++i) mass += p[order[i]];
        Route out;
        for (size_t i = 0; i < n; ++i)
            out.push_back(
                {order[i], spec.weight == Weighting::renorm ? p[order[i]] / mass : p[order[i]]});
        return out;
    }

    Vector feed_forward(int l, const Vector& x, Route& chosen) const {
        using namespace tensor_names;
        const FeedForwardConfig& ff = c_.layers[l];
        chosen = ff.dense() ? Route{{0, 1.0}} : route(ff.router, times(layer(l, kRouter), x));
        Vector y(x.size());
        for (const auto& [e, weight] : chosen) {
            const Vector out =
                expert_output([l, e = e](const char* what) { return expert(l, e, what); }, x);
            for (size_t i = 0; i < y.size(); ++i) y[i] += weight * out[i];
        }
        if (ff.shared_width > 0)
            add(y, expert_output(
                       [l](const char* what) {
                           return layer(l,
                                        "mlp.shared_expert." + std::string(what) + "_proj.weight");
                       },
                       x));
        return y;
    }

    const ModelConfig c_;
    const std::map<std::string, Tensor>& t_;
    std::vector<std::vector<Route>> routes_;
};

}  // namespace muster::testing
