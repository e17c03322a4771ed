// SPDX-License-Identifier: Apache-2.0
// For tests: the expert layer and its gradients in double, with a bound on what f32 or bf16
// arithmetic may deviate, carried along with every value (running error analysis, Higham 2002,
// section 3.3).
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "muster/core/random.h"
#include "muster/experts/moe.h"
#include "muster/quant/convert.h"

namespace muster::testing {

struct Bounded {
    double value = 0;
    double error = 0;
};

using BoundedMatrix = std::vector<std::vector<Bounded>>;

/// What rounding costs. A sum of n products in f32, in any order and fused or not, deviates by at
/// most about n u sum |a b| with u = 2^-24 (the last factor 1.1 covers the higher orders).
struct Arithmetic {
    bool bf16 = false;

    double unit() const { return 0x1p-24; }
    /// An operand that is not exact in bf16 beforehand: half a unit in 8 bits.
    Bounded operand(Bounded a) const {
        if (bf16) a.error += 0x1p-8 * (std::fabs(a.value) + a.error);
        return a;
    }
    Bounded sum_of_products(const std::vector<std::pair<Bounded, Bounded>>& terms,
                            int extra_roundings) const {
        Bounded sum;
        double magnitude = 0;
        for (const auto& [a, b] : terms) {
            const double ma = std::fabs(a.value) + a.error, mb = std::fabs(b.value) + b.error;
            sum.value += a.value * b.value;
            sum.error += ma * b.error + mb * a.error;
            magnitude += ma * mb;
        }
        const double n = static_cast<double>(terms.size()) + extra_roundings;
        sum.error += 1.1 * n * unit() * magnitude + 1e-37;
        return sum;
    }
    Bounded product(Bounded a, Bounded b) const { return sum_of_products({{a, b}}, 1); }
};

inline double activate(Activation a, double x) {
    if (a == Activation::relu) return x > 0 ? x : 0;
    if (a == Activation::silu) return x / (1 + std::exp(-x));
    return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
}

inline double slope(Activation a, double x) {
    if (a == Activation::relu) return x > 0 ? 1 : 0;
    if (a == Activation::silu) {
        const double s = 1 / (1 + std::exp(-x));
        return s * (1 + x * (1 - s));
    }
    return 0.5 * std::erfc(-x / std::sqrt(2.0)) +
           x * std::exp(-0.5 * x * x) / std::sqrt(2 * std::acos(-1.0));
}

/// Slopes are at most 1.13, second derivatives at most 0.8 (gelu at 0); the kernels' own error is
/// below 16 roundings. relu's slope jumps at 0, where the pre-activation must not be in doubt.
inline Bounded activate(Activation a, Bounded x) {
    const double y = activate(a, x.value);
    return {y, 1.13 * x.error + 16 * 0x1p-24 * std::fabs(y) + 1e-37};
}

inline Bounded slope(Activation a, Bounded x) {
    const double curvature =
        a == Activation::relu ? (std::fabs(x.value) <= x.error ? 1e9 : 0) : 0.8;
    return {slope(a, x.value), curvature * x.error + 16 * 0x1p-24};
}

/// The hidden value of a gated expert from its pre-activations. swiglu_oai's function of the gate
/// is silu's, 1.702 times as fast: its slope is the same.
inline Bounded combine(Activation a, Bounded gate, Bounded up, const Arithmetic& arithmetic) {
    if (a != Activation::swiglu_oai) return arithmetic.product(activate(a, gate), up);
    const double g = std::min(gate.value, 7.0), alpha = static_cast<double>(1.702f);
    const double y = g / (1 + std::exp(-alpha * g));
    const Bounded factor{std::clamp(up.value, -7.0, 7.0) + 1, up.error + 8 * arithmetic.unit()};
    return arithmetic.product({y, 1.13 * gate.error + 32 * arithmetic.unit() * std::fabs(y)},
                              factor);
}

/// A bank that owns its weights, its decoded values and a routing; every value is exact in bf16.
struct Problem {
    ExpertBank bank;
    RouteTable routes;
    std::vector<float> x, dy;
    std::vector<std::vector<std::byte>> storage;
    std::vector<std::vector<float>> biases;

    int tokens() const { return routes.tokens(); }
    MatrixView<const float> input() const { return {x.data(), tokens(), bank.d_model}; }
    MatrixView<const float> output_gradient() const { return {dy.data(), tokens(), bank.d_model}; }
};

struct ProblemShape {
    int64_t d_model = 0;
    std::vector<int64_t> widths;
    std::vector<int> rows;  ///< rows per expert; each expert takes its tokens at random
    int tokens = 0;
    Activation activation = Activation::silu;
    bool gated = true;
    bool bias = false;
    DType dtype = DType::f32;
    uint64_t seed = 1;
};

inline float small_value(Random& random, double scale) {
    return bf16_to_f32(f32_to_bf16(static_cast<float>(random.normal() * scale)));
}

inline WeightMatrix random_matrix(Problem& p, Random& random, DType dtype, int64_t rows,
                                  int64_t cols) {
    std::vector<float> values(static_cast<size_t>(rows * cols));
    for (float& v : values) v = small_value(random, 1 / std::sqrt(static_cast<double>(cols)));
    p.storage.emplace_back(static_cast<size_t>(dtype_bytes(dtype, rows * cols)));
    encode_row(dtype, values.data(), p.storage.back().data(), rows * cols);
    return {dtype, p.storage.back().data(), rows, cols};
}

inline std::span<const float> random_bias(Problem& p, Random& random, int64_t n) {
    p.biases.emplace_back(static_cast<size_t>(n));
    for (float& v : p.biases.back()) v = small_value(random, 0.5);
    return p.biases.back();
}

inline void random_routes(Problem& p, Random& random, const ProblemShape& shape) {
    std::vector<std::vector<int>> of_token(static_cast<size_t>(shape.tokens));
    for (size_t e = 0; e < shape.rows.size(); ++e) {
        std::vector<int> order(of_token.size());
        for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
        for (int i = 0; i < shape.rows[e]; ++i) {
            const size_t left = order.size() - static_cast<size_t>(i);
            std::swap(order[static_cast<size_t>(i)],
                      order[static_cast<size_t>(i) + random.below(left)]);
            of_token[static_cast<size_t>(order[static_cast<size_t>(i)])].push_back(
                static_cast<int>(e));
        }
    }
    p.routes.clear(static_cast<int>(shape.rows.size()));
    for (const std::vector<int>& experts : of_token) {
        for (int e : experts) {
            p.routes.experts.push_back(e);
            p.routes.weights.push_back(static_cast<float>(0.1 + random.uniform()));
        }
        p.routes.offsets.push_back(static_cast<int32_t>(p.routes.experts.size()));
    }
}

inline Problem make_problem(const ProblemShape& shape) {
    Problem p;
    Random random(shape.seed);
    p.storage.reserve(3 * shape.widths.size());
    p.biases.reserve(3 * shape.widths.size());
    p.bank.activation = shape.activation;
    p.bank.gated = shape.gated;
    p.bank.d_model = shape.d_model;
    for (int64_t ff : shape.widths) {
        Expert e;
        if (shape.gated) e.gate = random_matrix(p, random, shape.dtype, ff, shape.d_model);
        e.up = random_matrix(p, random, shape.dtype, ff, shape.d_model);
        e.down = random_matrix(p, random, shape.dtype, shape.d_model, ff);
        if (shape.bias) {
            if (shape.gated) e.gate_bias = random_bias(p, random, ff);
            e.up_bias = random_bias(p, random, ff);
            e.down_bias = random_bias(p, random, shape.d_model);
        }
        p.bank.experts.push_back(e);
    }
    p.bank.check();
    random_routes(p, random, shape);
    for (auto* m : {&p.x, &p.dy}) {
        m->resize(static_cast<size_t>(shape.tokens * shape.d_model));
        for (float& v : *m) v = small_value(random, 1);
    }
    return p;
}

struct Reference {
    BoundedMatrix y, dx;
    std::vector<Bounded> dweights;
    struct ExpertReference {
        BoundedMatrix gate, up, down;
        std::vector<Bounded> gate_bias, up_bias, down_bias;
    };
    std::vector<ExpertReference> experts;
};

/// Forward and, where the activation has them, all gradients. `exact_weights`: the stored weights
/// are exact in the arithmetic (f16 and q8_0 weights are not in bf16).
Reference reference_moe(const Problem& p, Arithmetic arithmetic, bool exact_weights);

}  // namespace muster::testing
