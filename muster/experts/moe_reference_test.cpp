// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "muster/experts/moe_reference.h"

namespace muster::testing {
namespace {

using Terms = std::vector<std::pair<Bounded, Bounded>>;

BoundedMatrix decode(const WeightMatrix& w, const Arithmetic& arithmetic, bool exact) {
    BoundedMatrix out(static_cast<size_t>(w.rows),
                      std::vector<Bounded>(static_cast<size_t>(w.cols)));
    std::vector<float> row(static_cast<size_t>(w.cols));
    for (int64_t i = 0; i < w.rows; ++i) {
        decode_row(w.dtype, w.row(i), row.data(), w.cols);
        for (size_t j = 0; j < row.size(); ++j) {
            const Bounded v{row[j], 0};
            out[static_cast<size_t>(i)][j] = exact ? v : arithmetic.operand(v);
        }
    }
    return out;
}

BoundedMatrix zeros(int64_t rows, int64_t cols) {
    return BoundedMatrix(static_cast<size_t>(rows),
                         std::vector<Bounded>(static_cast<size_t>(cols)));
}

Bounded bias_at(std::span<const float> bias, size_t i) { return {bias.empty() ? 0.0 : bias[i], 0}; }

void add(Bounded& sum, Bounded term, const Arithmetic& arithmetic) {
    sum.value += term.value;
    sum.error += term.error + arithmetic.unit() * (std::fabs(sum.value) + sum.error);
}

/// One activation of one token, adding into the reference.
struct Row {
    const Problem& p;
    const Arithmetic& arithmetic;
    const Expert& expert;
    const BoundedMatrix &gate, &up, &down;
    Reference& out;
    int token, e;
    Bounded weight;
    std::vector<Bounded> g, u, h, q, dg, du;

    const float* x() const { return p.x.data() + token * p.bank.d_model; }
    const float* dy() const { return p.dy.data() + token * p.bank.d_model; }

    void forward() {
        for (size_t f = 0; f < up.size(); ++f) {
            Terms a, b;
            for (size_t i = 0; i < up[f].size(); ++i) {
                a.push_back({up[f][i], {x()[i], 0}});
                if (p.bank.gated) b.push_back({gate[f][i], {x()[i], 0}});
            }
            a.push_back({bias_at(expert.up_bias, f), {1, 0}});
            u.push_back(arithmetic.sum_of_products(a, 1));
            if (!p.bank.gated) {
                h.push_back(activate(p.bank.activation, u[f]));
                continue;
            }
            b.push_back({bias_at(expert.gate_bias, f), {1, 0}});
            g.push_back(arithmetic.sum_of_products(b, 1));
            h.push_back(combine(p.bank.activation, g[f], u[f], arithmetic));
        }
        for (size_t i = 0; i < down.size(); ++i) {
            Terms terms;
            for (size_t f = 0; f < h.size(); ++f)
                terms.push_back({down[i][f], arithmetic.operand(h[f])});
            terms.push_back({bias_at(expert.down_bias, i), {1, 0}});
            add(out.y[static_cast<size_t>(token)][i],
                arithmetic.product(weight, arithmetic.sum_of_products(terms, 1)), arithmetic);
        }
    }

    void hidden_gradient(size_t activation) {
        Terms dot;
        for (size_t f = 0; f < h.size(); ++f) {
            Terms terms;
            for (size_t i = 0; i < down.size(); ++i) terms.push_back({down[i][f], {dy()[i], 0}});
            q.push_back(arithmetic.sum_of_products(terms, 0));
            dot.push_back({h[f], q[f]});
            const Bounded dh = arithmetic.product(weight, q[f]);
            if (p.bank.gated) {
                dg.push_back(arithmetic.product(arithmetic.product(dh, u[f]),
                                                slope(p.bank.activation, g[f])));
                du.push_back(arithmetic.product(dh, activate(p.bank.activation, g[f])));
            } else {
                du.push_back(arithmetic.product(dh, slope(p.bank.activation, u[f])));
            }
        }
        for (size_t i = 0; i < down.size(); ++i) {
            dot.push_back({bias_at(expert.down_bias, i), {dy()[i], 0}});
        }
        out.dweights[activation] = arithmetic.sum_of_products(dot, 2);
    }

    // Sums over rows: each term adds a rounding of what was summed before, twice to be safe for
    // orders other than this one.
    void weight_gradients() {
        Reference::ExpertReference& grad = out.experts[static_cast<size_t>(e)];
        const double n = static_cast<double>(p.tokens());
        auto accumulate = [&](Bounded& sum, Bounded a, Bounded b) {
            Bounded t = arithmetic.product(a, b);
            t.error += n * arithmetic.unit() * (std::fabs(t.value) + t.error);
            add(sum, t, arithmetic);
        };
        for (size_t f = 0; f < h.size(); ++f) {
            for (size_t i = 0; i < down.size(); ++i) {
                const Bounded xi{x()[i], 0}, dyi{dy()[i], 0};
                accumulate(grad.up[f][i], arithmetic.operand(du[f]), xi);
                if (p.bank.gated) accumulate(grad.gate[f][i], arithmetic.operand(dg[f]), xi);
                accumulate(grad.down[i][f], arithmetic.operand(arithmetic.product(weight, h[f])),
                           dyi);
            }
            accumulate(grad.up_bias[f], du[f], {1, 0});
            if (p.bank.gated) accumulate(grad.gate_bias[f], dg[f], {1, 0});
        }
        for (size_t i = 0; i < down.size(); ++i) {
            accumulate(grad.down_bias[i], weight, {dy()[i], 0});
            Terms terms;
            for (size_t f = 0; f < h.size(); ++f) {
                terms.push_back({up[f][i], arithmetic.operand(du[f])});
                if (p.bank.gated) terms.push_back({gate[f][i], arithmetic.operand(dg[f])});
            }
            add(out.dx[static_cast<size_t>(token)][i], arithmetic.sum_of_products(terms, 1),
                arithmetic);
        }
    }
};

}  // namespace

Reference reference_moe(const Problem& p, Arithmetic arithmetic, bool exact_weights) {
    Reference out;
    const int64_t d = p.bank.d_model;
    out.y = zeros(p.tokens(), d);
    out.dx = zeros(p.tokens(), d);
    out.dweights.resize(static_cast<size_t>(p.routes.activations()));
    for (const Expert& e : p.bank.experts) {
        const auto n = static_cast<size_t>(e.width());
        out.experts.push_back({zeros(e.width(), d), zeros(e.width(), d), zeros(d, e.width()),
                               std::vector<Bounded>(n), std::vector<Bounded>(n),
                               std::vector<Bounded>(static_cast<size_t>(d))});
    }
    for (int e = 0; e < p.bank.size(); ++e) {
        const Expert& expert = p.bank.experts[static_cast<size_t>(e)];
        const BoundedMatrix up = decode(expert.up, arithmetic, exact_weights);
        const BoundedMatrix down = decode(expert.down, arithmetic, exact_weights);
        BoundedMatrix gate;
        if (p.bank.gated) gate = decode(expert.gate, arithmetic, exact_weights);
        for (int t = 0; t < p.tokens(); ++t) {
            for (int a = p.routes.offsets[static_cast<size_t>(t)];
                 a < p.routes.offsets[static_cast<size_t>(t) + 1]; ++a) {
                const auto i = static_cast<size_t>(a);
                if (p.routes.experts[i] != e) continue;
                Row row{p,  arithmetic, expert, gate, up, down, out, t, e, {p.routes.weights[i], 0},
                        {}, {},         {},     {},   {}, {}};
                row.forward();
                if (!differentiable(p.bank.activation)) continue;
                row.hidden_gradient(i);
                row.weight_gradients();
            }
        }
    }
    return out;
}

// The reference itself against central differences of its own forward pass.
TEST(MoeReference, GradientsMatchFiniteDifferences) {
    for (Activation activation : {Activation::relu, Activation::gelu, Activation::silu}) {
        ProblemShape shape{6, {5, 3}, {3, 2}, 4, activation, true, true, DType::f32, 3};
        shape.gated = activation != Activation::relu;
        Problem p = make_problem(shape);
        const Reference analytic = reference_moe(p, {}, true);
        // Step h: truncation h^2 f''' / 6 and, f32 inputs, none of rounding (a power of two).
        const double step = 0x1p-8;
        auto loss = [&] {
            double sum = 0;
            const Reference r = reference_moe(p, {}, true);
            for (int t = 0; t < p.tokens(); ++t) {
                for (int64_t i = 0; i < p.bank.d_model; ++i) {
                    sum += r.y[static_cast<size_t>(t)][static_cast<size_t>(i)].value *
                           p.dy[static_cast<size_t>(t * p.bank.d_model + i)];
                }
            }
            return sum;
        };
        auto check = [&](float& value, double gradient) {
            const float saved = value;
            value = saved + static_cast<float>(step);
            const double high_at = value, high = loss();
            value = saved - static_cast<float>(step);
            const double low_at = value, low = loss();
            value = saved;
            EXPECT_NEAR((high - low) / (high_at - low_at), gradient,
                        20 * step * step + 1e-3 * std::fabs(gradient));
        };
        for (size_t i = 0; i < p.x.size(); ++i) {
            check(p.x[i], analytic.dx[i / 6][i % 6].value);
        }
        for (size_t i = 0; i < p.routes.weights.size(); ++i) {
            check(p.routes.weights[i], analytic.dweights[i].value);
        }
        for (size_t e = 0; e < 2; ++e) {
            const Expert& expert = p.bank.experts[e];
            const auto& grad = analytic.experts[e];
            auto check_matrix = [&](const WeightMatrix& w, const BoundedMatrix& g) {
                auto* values = reinterpret_cast<float*>(const_cast<std::byte*>(w.data));
                for (int64_t i = 0; i < w.rows * w.cols; ++i) {
                    check(
                        values[i],
                        g[static_cast<size_t>(i / w.cols)][static_cast<size_t>(i % w.cols)].value);
                }
            };
            auto check_bias = [&](std::span<const float> b, const std::vector<Bounded>& g) {
                for (size_t i = 0; i < b.size(); ++i) {
                    check(const_cast<float&>(b[i]), g[i].value);
                }
            };
            if (shape.gated) check_matrix(expert.gate, grad.gate);
            check_matrix(expert.up, grad.up);
            check_matrix(expert.down, grad.down);
            check_bias(expert.gate_bias, grad.gate_bias);
            check_bias(expert.up_bias, grad.up_bias);
            check_bias(expert.down_bias, grad.down_bias);
        }
    }
}

}  // namespace muster::testing
