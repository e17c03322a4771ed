// SPDX-License-Identifier: Apache-2.0
// For tests: gpt-oss and deepseek2 written as plainly as possible, in double precision, from the
// papers and config.json's meanings. Takes its shape from the specification and its tensors by
// their names in an f32 file; shares no code with the engine beyond the file's reader. Latent
// attention is not absorbed: every head's keys and values are made for every position.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string>
#include <vector>

#include "muster/checkpoint/gguf.h"
#include "tools/make_checkpoint/spec.h"

namespace muster::checkpoints {

class FamilyReference {
  public:
    using Vector = std::vector<double>;

    FamilyReference(const CheckpointSpec& spec, const GgufFile& file) : s_(spec), file_(file) {}

    /// Logits [T][vocab] of a text.
    std::vector<Vector> logits(const std::vector<int32_t>& tokens) const {
        std::vector<Vector> x;
        for (const int32_t id : tokens) {
            const float* row = data("token_embd.weight") + int64_t{id} * s_.d_model;
            x.emplace_back(row, row + s_.d_model);
        }
        const bool oai = s_.family == Family::gpt_oss;
        for (int l = 0; l < s_.layers; ++l) {
            const std::string b = "blk." + std::to_string(l) + ".";
            std::vector<Vector> h;
            for (const Vector& v : x) h.push_back(norm(b + "attn_norm.weight", v));
            const std::vector<Vector> a = oai ? grouped(b, l, h) : latent(b, h);
            for (size_t t = 0; t < x.size(); ++t) {
                add(x[t], a[t]);
                const Vector in =
                    norm(b + (oai ? "post_attention_norm.weight" : "ffn_norm.weight"), x[t]);
                add(x[t], s_.dense(l) ? swiglu(b, "", in) : mixture(b, in));
            }
        }
        std::vector<Vector> out;
        for (const Vector& v : x)
            out.push_back(times("output.weight", norm("output_norm.weight", v)));
        return out;
    }

  private:
    const float* data(const std::string& name) const {
        return reinterpret_cast<const float*>(file_.tensors().at(name).data);
    }
    static void add(Vector& x, const Vector& y, double factor = 1) {
        for (size_t i = 0; i < x.size(); ++i) x[i] += factor * y[i];
    }
    static double dot(const float* a, const Vector& b) {
        double sum = 0;
        for (size_t i = 0; i < b.size(); ++i) sum += a[i] * b[i];
        return sum;
    }
    /// Matrix `e` of a stack, rows [rows of one matrix] by x, and its bias where there is one.
    Vector times(const std::string& name, const Vector& x, int64_t e = 0,
                 const std::string& bias = "") const {
        const TensorView& t = file_.tensors().at(name);
        Vector y(static_cast<size_t>(t.shape[t.shape.size() - 2]));
        for (size_t r = 0; r < y.size(); ++r) {
            y[r] = dot(data(name) + (e * y.size() + r) * x.size(), x);
            if (!bias.empty()) y[r] += data(bias)[e * y.size() + r];
        }
        return y;
    }
    Vector norm(const std::string& name, const Vector& x) const {
        double squares = 0;
        for (const double v : x) squares += v * v;
        Vector y(x.size());
        for (size_t i = 0; i < x.size(); ++i)
            y[i] = x[i] * data(name)[i] /
                   std::sqrt(squares / static_cast<double>(x.size()) + s_.norm_eps);
        return y;
    }

    /// YaRN's angle per position of pair i (arXiv 2309.00071, section 3.2): pairs that turn 32
    /// times or more within the original context keep theirs, those below once are slowed down.
    double frequency(int i, int dims) const {
        const double kept = std::pow(double{s_.rope_theta}, -2.0 * i / dims);
        const auto pair_that_turns = [&](double turns) {
            return std::log(s_.scaling.original_context / (2 * std::numbers::pi * turns)) * dims /
                   (2 * std::log(double{s_.rope_theta}));
        };
        const double first = std::max(0.0, std::floor(pair_that_turns(32)));
        const double last = std::min(dims - 1.0, std::ceil(pair_that_turns(1)));
        const double slowed = std::clamp((i - first) / (last - first), 0.0, 1.0);
        return kept * (1 - slowed) + kept / s_.scaling.factor * slowed;
    }
    /// Turns `dims` values from `x` on; neighbours or halves.
    void turn(double* x, int dims, size_t position, bool neighbours, double magnitude) const {
        const std::vector<double> in(x, x + dims);
        for (int i = 0; i < dims / 2; ++i) {
            const int a = neighbours ? 2 * i : i, b = neighbours ? a + 1 : i + dims / 2;
            const double angle = static_cast<double>(position) * frequency(i, dims);
            x[a] = magnitude * (in[a] * std::cos(angle) - in[b] * std::sin(angle));
            x[b] = magnitude * (in[a] * std::sin(angle) + in[b] * std::cos(angle));
        }
    }

    /// sum over j of p_j values[j], p the softmax of the scores, `extra` in its denominator.
    static Vector mean(const Vector& scores, const std::vector<const double*>& values, int dim,
                       double extra) {
        Vector y(static_cast<size_t>(dim));
        double sum = extra;
        for (const double s : scores) sum += std::exp(s);
        for (size_t j = 0; j < scores.size(); ++j)
            for (int i = 0; i < dim; ++i) y[i] += std::exp(scores[j]) / sum * values[j][i];
        return y;
    }

    std::vector<Vector> grouped(const std::string& b, int l, const std::vector<Vector>& h) const {
        const int dim = s_.head_dim;
        const double magnitude = 0.1 * std::log(s_.scaling.factor) + 1;
        const auto made = [&](const char* what, const Vector& in) {
            return times(b + what + ".weight", in, 0, b + what + ".bias");
        };
        std::vector<Vector> k, v, out;
        for (size_t t = 0; t < h.size(); ++t) {
            Vector q = made("attn_q", h[t]);
            k.push_back(made("attn_k", h[t]));
            v.push_back(made("attn_v", h[t]));
            for (int i = 0; i < s_.heads; ++i) turn(&q[i * dim], dim, t, false, magnitude);
            for (int i = 0; i < s_.kv_heads; ++i) turn(&k[t][i * dim], dim, t, false, magnitude);
            Vector y;
            for (int head = 0; head < s_.heads; ++head) {
                const int kv = head / (s_.heads / s_.kv_heads) * dim;
                Vector scores;
                std::vector<const double*> values;
                for (size_t j = 0; j <= t; ++j) {
                    // A window of n holds a position and the n - 1 before it.
                    if (l % 2 == 0 && t - j >= static_cast<size_t>(s_.window)) continue;
                    scores.push_back(
                        std::inner_product(&q[head * dim], &q[head * dim] + dim, &k[j][kv], 0.0) /
                        std::sqrt(dim));
                    values.push_back(&v[j][kv]);
                }
                const Vector one = mean(scores, values, dim,
                                        std::exp(double{data(b + "attn_sinks.weight")[head]}));
                y.insert(y.end(), one.begin(), one.end());
            }
            out.push_back(made("attn_output", y));
        }
        return out;
    }

    /// Keys without position [heads * nope] and values [heads * value_dim] from a normed latent.
    std::pair<Vector, Vector> opened(const std::string& b, const Vector& c) const {
        const LatentAttention& a = s_.latent;
        Vector k(static_cast<size_t>(s_.heads) * a.nope_dim), v;
        for (int head = 0; head < s_.heads; ++head) {
            if (!a.split) {
                const Vector all = times(b + "attn_kv_b.weight", c);
                const auto first = all.begin() + head * (a.nope_dim + a.value_dim);
                std::copy_n(first, a.nope_dim, k.begin() + head * a.nope_dim);
                v.insert(v.end(), first + a.nope_dim, first + a.nope_dim + a.value_dim);
                continue;
            }
            const float* columns =
                data(b + "attn_k_b.weight") + int64_t{head} * a.kv_rank * a.nope_dim;
            for (int i = 0; i < a.nope_dim; ++i)
                for (int r = 0; r < a.kv_rank; ++r)
                    k[head * a.nope_dim + i] += columns[r * a.nope_dim + i] * c[r];
            const Vector value = times(b + "attn_v_b.weight", c, head);
            v.insert(v.end(), value.begin(), value.end());
        }
        return {k, v};
    }

    std::vector<Vector> latent(const std::string& b, const std::vector<Vector>& h) const {
        const LatentAttention& a = s_.latent;
        const int dim = a.nope_dim + a.rope_dim;
        const double stretch = 1 + 0.1 * s_.scaling.mscale_all_dim * std::log(s_.scaling.factor);
        std::vector<Vector> turned, k, v, out;
        for (size_t t = 0; t < h.size(); ++t) {
            Vector q = a.query_rank > 0
                           ? times(b + "attn_q_b.weight", norm(b + "attn_q_a_norm.weight",
                                                               times(b + "attn_q_a.weight", h[t])))
                           : times(b + "attn_q.weight", h[t]);
            const Vector both = times(b + "attn_kv_a_mqa.weight", h[t]);
            turned.emplace_back(both.begin() + a.kv_rank, both.end());
            turn(turned[t].data(), a.rope_dim, t, true, 1);
            auto [keys, values] = opened(b, norm(b + "attn_kv_a_norm.weight",
                                                 Vector(both.begin(), both.begin() + a.kv_rank)));
            k.push_back(std::move(keys));
            v.push_back(std::move(values));
            Vector y;
            for (int head = 0; head < s_.heads; ++head) {
                double* one = &q[head * dim];
                turn(one + a.nope_dim, a.rope_dim, t, true, 1);
                Vector scores;
                std::vector<const double*> seen;
                for (size_t j = 0; j <= t; ++j) {
                    const double score =
                        std::inner_product(one, one + a.nope_dim, &k[j][head * a.nope_dim], 0.0) +
                        std::inner_product(one + a.nope_dim, one + dim, turned[j].data(), 0.0);
                    scores.push_back(score * stretch * stretch / std::sqrt(dim));
                    seen.push_back(&v[j][head * a.value_dim]);
                }
                const Vector result = mean(scores, seen, a.value_dim, 0);
                y.insert(y.end(), result.begin(), result.end());
            }
            out.push_back(times(b + "attn_output.weight", y));
        }
        return out;
    }

    static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

    Vector swiglu(const std::string& b, const std::string& suffix, const Vector& x,
                  int64_t e = 0) const {
        const auto name = [&](const char* what) { return b + "ffn_" + what + suffix; };
        const bool oai = s_.family == Family::gpt_oss;
        const auto made = [&](const char* what, const Vector& in) {
            return times(name(what) + ".weight", in, e, oai ? name(what) + ".bias" : "");
        };
        const Vector gate = made("gate", x);
        Vector up = made("up", x);
        for (size_t i = 0; i < up.size(); ++i) {
            const double g = oai ? std::min(gate[i], 7.0) : gate[i];
            const double u = oai ? std::clamp(up[i], -7.0, 7.0) + 1 : up[i];
            up[i] = g * sigmoid(oai ? 1.702 * g : g) * u;
        }
        return made("down", up);
    }

    Vector mixture(const std::string& b, const Vector& x) const {
        const bool oai = s_.family == Family::gpt_oss;
        const Vector logits =
            times(b + "ffn_gate_inp.weight", x, 0, oai ? b + "ffn_gate_inp.bias" : "");
        Vector scores(logits.size());
        double all = 0;
        for (const double z : logits) all += std::exp(z);
        for (size_t e = 0; e < scores.size(); ++e)
            scores[e] = s_.sigmoid ? sigmoid(logits[e]) : std::exp(logits[e]) / all;
        const std::vector<int> chosen = best(b, scores);
        double sum = 0;
        for (const int e : chosen) sum += scores[e];
        // A softmax over the selected logits is their softmax scores' share.
        const bool share = oai || s_.renorm;
        Vector y(x.size());
        for (const int e : chosen)
            add(y, swiglu(b, "_exps", x, e), s_.weight_scale * scores[e] / (share ? sum : 1));
        if (s_.shared_width > 0) add(y, swiglu(b, "_shexp", x));
        return y;
    }

    /// The `used` experts with the largest biased scores in the `groups_used` groups whose two
    /// best add up to most.
    std::vector<int> best(const std::string& b, Vector scores) const {
        if (s_.selection_bias)
            for (size_t e = 0; e < scores.size(); ++e) scores[e] += data(b + "exp_probs_b.bias")[e];
        const auto descending = [](const Vector& values) {
            std::vector<int> order(values.size());
            std::iota(order.begin(), order.end(), 0);
            std::ranges::sort(order, [&](int i, int j) { return values[i] > values[j]; });
            return order;
        };
        const int size = s_.experts / s_.groups;
        Vector sums;
        for (int g = 0; g < s_.groups && s_.groups > 1; ++g) {
            Vector members(scores.begin() + g * size, scores.begin() + (g + 1) * size);
            std::ranges::sort(members, std::greater<>());
            sums.push_back(members[0] + members[1]);
        }
        const std::vector<int> groups = descending(sums);
        for (size_t i = s_.groups_used; i < groups.size(); ++i)
            std::fill_n(scores.begin() + groups[i] * size, size, -1e9);
        std::vector<int> order = descending(scores);
        order.resize(s_.used);
        return order;
    }

    const CheckpointSpec s_;
    const GgufFile& file_;
};

}  // namespace muster::checkpoints
