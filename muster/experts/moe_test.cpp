// SPDX-License-Identifier: Apache-2.0
#include "muster/experts/moe.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "muster/core/thread_team.h"
#include "muster/experts/moe_reference.h"

namespace muster::testing {
namespace {

struct Case {
    const char* name;
    ProblemShape shape;
    Compute compute = Compute::f32;
};

std::vector<Case> cases() {
    using A = Activation;
    const ProblemShape even{64,   {64, 64, 64}, {20, 17, 30}, 40, A::silu,
                            true, false,        DType::f32,   1};
    const ProblemShape odd{37, {45, 1, 33, 70}, {31, 3, 0, 15}, 33, A::gelu, true, true, DType::f32,
                           2};
    const ProblemShape plain{33, {47, 65}, {16, 29}, 29, A::relu, false, false, DType::f32, 3};
    const ProblemShape single{21, {19}, {1}, 3, A::silu, true, true, DType::f32, 4};
    const ProblemShape one_each{40,    {24, 24, 24}, {1, 2, 1},  2, A::gelu,
                                false, true,         DType::f32, 5};
    std::vector<Case> list{
        {"even", even}, {"odd", odd}, {"plain", plain}, {"single", single}, {"one_each", one_each}};
    for (size_t i = 0, n = list.size(); i < n; ++i) {
        list.push_back(list[i]);
        list.back().compute = Compute::bf16;
        list.push_back(list.back());
        list.back().shape.dtype = DType::bf16;
        list.push_back(list.back());
        list.back().compute = Compute::f32;
    }
    for (DType dtype : {DType::f16, DType::q8_0}) {
        ProblemShape s{64, {96, 32}, {40, 3}, 41, A::silu, true, false, dtype, 6};
        list.push_back({"formats", s, Compute::f32});
        list.push_back({"formats", s, Compute::bf16});
    }
    // Enough experts that each is done by one worker as a whole.
    ProblemShape many{24, {}, {}, 60, A::gelu, true, true, DType::f32, 8};
    for (int e = 0; e < 24; ++e) {
        many.widths.push_back(17 + 5 * (e % 7));
        many.rows.push_back(7 + e % 20);
    }
    list.push_back({"many", many});
    list.push_back({"many", many, Compute::bf16});
    many.gated = false;
    many.dtype = DType::bf16;
    list.push_back({"many", many, Compute::bf16});
    // The same with more rows than pass by the packed weights at once, ...
    const ProblemShape tall{20,
                            {9, 33, 9, 16, 24, 9},
                            {260, 229, 448, 300, 225, 240},
                            450,
                            A::silu,
                            true,
                            true,
                            DType::f32,
                            9};
    list.push_back({"tall", tall});
    list.push_back({"tall", tall, Compute::bf16});
    // ... with weights too large to be packed all at once, ...
    const ProblemShape wide{
        130, {530, 530, 530, 530, 530}, {9, 9, 10, 15, 9}, 16, A::silu, true, false, DType::f32,
        10};
    list.push_back({"wide", wide});
    list.push_back({"wide", wide, Compute::bf16});
    // ... also by one worker each (panels are whole, so that few columns make large ones), ...
    ProblemShape thin{3, {}, {}, 20, A::silu, true, true, DType::f32, 13};
    thin.widths.assign(18, 4000);
    thin.rows.assign(18, 11);
    list.push_back({"thin", thin});
    list.push_back({"thin", thin, Compute::bf16});
    // ... and one expert alone, whose rows go to several tasks.
    list.push_back({"alone", {8, {8}, {1100}, 1100, A::gelu, true, true, DType::f32, 11}});
    // Tokens that call upon dozens of experts.
    ProblemShape crowd{10, {}, {}, 12, A::silu, true, false, DType::f32, 12};
    crowd.widths.assign(40, 6);
    crowd.rows.assign(40, 10);
    list.push_back({"crowd", crowd});
    for (DType dtype : {DType::f32, DType::f16}) {
        ProblemShape oai{36, {45, 70}, {31, 4}, 33, A::swiglu_oai, true, true, dtype, 14};
        list.push_back({"oai", oai});
        if (dtype == DType::f32) list.push_back({"oai", oai, Compute::bf16});
    }
    ProblemShape empty{16, {16, 16}, {0, 0}, 5, A::silu, true, true, DType::f32, 7};
    list.push_back({"no_rows", empty});
    empty.tokens = 0;
    list.push_back({"no_tokens", empty});
    return list;
}

std::string describe(const Case& c, Isa isa) {
    return std::string(c.name) + " " + std::string(isa_name(isa)) + " " +
           std::string(dtype_info(c.shape.dtype).name) +
           (c.compute == Compute::bf16 ? " computed in bf16" : "");
}

void expect_within(double value, Bounded expected, const std::string& what) {
    EXPECT_LE(std::fabs(value - expected.value), expected.error)
        << what << ": " << value << " instead of " << expected.value;
}

struct IsaGuard {
    ~IsaGuard() { set_isa(available_isas().back()); }
};

struct Gradients {
    std::vector<float> dx, dweights;
    std::vector<std::vector<float>> values;  // six per expert: gate, up, down, their biases
    std::vector<ExpertGradients> experts;

    Gradients(const Problem& p, float fill)
        : dx(p.x.size(), fill), dweights(p.routes.weights.size(), fill) {
        for (const Expert& e : p.bank.experts) {
            const int64_t ff = e.width(), d = p.bank.d_model;
            const bool gated = p.bank.gated;
            for (int64_t n : {gated ? ff * d : 0, ff * d, ff * d, gated ? ff : 0, ff, d}) {
                values.emplace_back(static_cast<size_t>(n), fill);
            }
            std::vector<float>* v = &values[values.size() - 6];
            ExpertGradients g;
            if (gated) g.gate = {v[0].data(), ff, d};
            g.up = {v[1].data(), ff, d};
            g.down = {v[2].data(), d, ff};
            g.gate_bias = v[3];
            g.up_bias = v[4];
            g.down_bias = v[5];
            experts.push_back(g);
        }
    }
};

std::vector<float> run_forward(const Case& c, const Problem& p, Executor& executor, float initial,
                               bool accumulate, MoeSaved* saved) {
    std::vector<float> y(p.x.size(), initial);
    MoeWorkspace workspace;
    moe_forward(p.bank, p.routes, p.input(), {y.data(), p.tokens(), p.bank.d_model}, workspace,
                executor, c.compute, accumulate, saved);
    return y;
}

Gradients run_backward(const Case& c, const Problem& p, const MoeSaved& saved, Executor& executor,
                       float initial, bool accumulate) {
    Gradients g(p, initial);
    MoeWorkspace workspace;
    moe_backward(p.bank, p.routes, saved, p.input(), p.output_gradient(),
                 {g.dx.data(), p.tokens(), p.bank.d_model}, g.dweights, g.experts, workspace,
                 executor, c.compute, accumulate);
    return g;
}

void compare_experts(const Gradients& g, const Reference& expected, double initial,
                     const std::string& what) {
    for (size_t e = 0; e < expected.experts.size(); ++e) {
        const auto& r = expected.experts[e];
        const BoundedMatrix* matrices[3] = {&r.gate, &r.up, &r.down};
        const std::vector<Bounded>* biases[3] = {&r.gate_bias, &r.up_bias, &r.down_bias};
        for (size_t m = 0; m < 3; ++m) {
            const std::vector<float>& values = g.values[e * 6 + m];
            const std::vector<float>& bias = g.values[e * 6 + 3 + m];
            for (size_t i = 0; i < values.size(); ++i) {
                const size_t cols = (*matrices[m])[0].size();
                Bounded b = (*matrices[m])[i / cols][i % cols];
                b.value += initial;
                b.error += 0x1p-23 * std::fabs(b.value);
                expect_within(values[i], b, what + " weight gradient " + std::to_string(m));
            }
            for (size_t i = 0; i < bias.size(); ++i) {
                Bounded b = (*biases[m])[i];
                b.value += initial;
                b.error += 64 * 0x1p-24 * (1 + std::fabs(b.value));
                expect_within(bias[i], b, what + " bias gradient " + std::to_string(m));
            }
        }
    }
}

TEST(Moe, ForwardAndBackwardMatchTheReference) {
    IsaGuard guard;
    for (const Case& c : cases()) {
        const Problem p = make_problem(c.shape);
        const bool exact = c.shape.dtype != DType::f16 && c.shape.dtype != DType::q8_0;
        const Reference expected = reference_moe(p, {c.compute == Compute::bf16}, exact);
        for (Isa isa : available_isas()) {
            set_isa(isa);
            const std::string what = describe(c, isa);
            SerialExecutor executor;
            MoeSaved saved;
            const bool gradients = differentiable(c.shape.activation);
            const std::vector<float> y =
                run_forward(c, p, executor, NAN, false, gradients ? &saved : nullptr);
            EXPECT_TRUE(y == run_forward(c, p, executor, NAN, false, nullptr)) << what;
            const auto d = static_cast<size_t>(c.shape.d_model);
            for (size_t i = 0; i < y.size(); ++i) {
                expect_within(y[i], expected.y[i / d][i % d], what + " y");
            }
            if (!exact || !gradients) continue;
            const Gradients g = run_backward(c, p, saved, executor, NAN, false);
            for (size_t i = 0; i < g.dx.size(); ++i) {
                expect_within(g.dx[i], expected.dx[i / d][i % d], what + " dx");
            }
            for (size_t i = 0; i < g.dweights.size(); ++i) {
                expect_within(g.dweights[i], expected.dweights[i], what + " dweight");
            }
            compare_experts(g, expected, 0, what);
            const Gradients added = run_backward(c, p, saved, executor, 0.5f, true);
            compare_experts(added, expected, 0.5, what + " accumulated");
            EXPECT_TRUE(added.dx == g.dx) << what;
            if (HasFailure()) return;
        }
    }
}

TEST(Moe, ForwardAddsWhenAsked) {
    const Case c{"odd", cases()[1].shape};
    const Problem p = make_problem(c.shape);
    SerialExecutor executor;
    const std::vector<float> fresh = run_forward(c, p, executor, 7, false, nullptr);
    const std::vector<float> added = run_forward(c, p, executor, 7, true, nullptr);
    for (size_t i = 0; i < fresh.size(); ++i) {
        // Up to one rounding of the sum per activation of the token.
        EXPECT_NEAR(added[i], 7 + fresh[i], 4 * 0x1p-24 * (16 + 2 * std::fabs(fresh[i])));
    }
}

TEST(Moe, ResultsDoNotDependOnTheNumberOfWorkers) {
    IsaGuard guard;
    for (const Case& c : cases()) {
        const Problem p = make_problem(c.shape);
        for (Isa isa : available_isas()) {
            set_isa(isa);
            SerialExecutor serial;
            MoeSaved saved;
            const bool backward = c.shape.dtype != DType::f16 && c.shape.dtype != DType::q8_0 &&
                                  differentiable(c.shape.activation);
            const std::vector<float> y =
                run_forward(c, p, serial, 0, false, backward ? &saved : nullptr);
            const Gradients g =
                backward ? run_backward(c, p, saved, serial, 0, false) : Gradients(p, 0);
            for (int workers : {2, 3}) {
                ThreadTeam team(workers);
                MoeSaved other;
                // Compared as a whole: the values would fill screens.
                EXPECT_TRUE(y == run_forward(c, p, team, 1, false, backward ? &other : nullptr))
                    << describe(c, isa);
                if (!backward) continue;
                const Gradients h = run_backward(c, p, other, team, 1, false);
                EXPECT_TRUE(g.dx == h.dx) << describe(c, isa);
                EXPECT_TRUE(g.dweights == h.dweights) << describe(c, isa);
                EXPECT_TRUE(g.values == h.values) << describe(c, isa);
            }
        }
    }
}

// A token that no expert takes must not be touched by what other tokens hold, nor an expert
// without rows by anything.
TEST(Moe, NothingIsReadFromWhatWasNotSelected) {
    ProblemShape shape = cases()[1].shape;
    shape.widths = {8, 8};
    shape.rows = {2, 0};
    shape.tokens = 3;
    Problem p = make_problem(shape);
    std::vector<float> poison(static_cast<size_t>(8 * shape.d_model), NAN);
    const auto* bytes = reinterpret_cast<const std::byte*>(poison.data());
    p.bank.experts[1].up.data = p.bank.experts[1].gate.data = p.bank.experts[1].down.data = bytes;
    for (int t = 0; t < 3; ++t) {
        if (!p.routes.token_experts(t).empty()) continue;
        for (int64_t i = 0; i < shape.d_model; ++i) {
            p.x[static_cast<size_t>(t * shape.d_model + i)] = NAN;
            p.dy[static_cast<size_t>(t * shape.d_model + i)] = NAN;
        }
    }
    const Case c{"poison", shape};
    SerialExecutor executor;
    MoeSaved saved;
    for (float v : run_forward(c, p, executor, 1, false, &saved)) EXPECT_TRUE(std::isfinite(v));
    const Gradients g = run_backward(c, p, saved, executor, 1, false);
    for (float v : g.dx) EXPECT_TRUE(std::isfinite(v));
    for (const std::vector<float>& values : g.values) {
        for (float v : values) EXPECT_TRUE(std::isfinite(v));
    }
}

}  // namespace
}  // namespace muster::testing
