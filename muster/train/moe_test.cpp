// SPDX-License-Identifier: Apache-2.0
#include "muster/train/moe.h"

#include <gmock/gmock.h>

#include "muster/core/error.h"
#include "muster/train/gradcheck_test.h"

namespace muster::train {
namespace {

MoEOptions options_for(std::string_view policy, Compute compute = Compute::f32) {
    MoEOptions options;
    options.d_model = 24;
    options.widths = {16, 40, 8, 16, 24};
    options.policy = RoutingPolicy::parse(policy);
    options.compute = compute;
    return options;
}

/// Parameters with entries of about 0.3, so that products do not vanish.
void make_lively(MoEImpl& moe, uint64_t seed) {
    torch::NoGradGuard no_grad;
    at::manual_seed(seed);
    for (at::Tensor& p : moe.parameters()) p.copy_(at::randn(p.sizes()) * 0.3);
}

/// Output and gradients (input first, then parameters) of a random projection.
std::vector<at::Tensor> run(MoEImpl& moe, const at::Tensor& x) {
    const at::Tensor input = x.detach().clone().requires_grad_();
    const at::Tensor y = moe.forward(input);
    at::manual_seed(5);
    const at::Tensor projection = at::randn(y.sizes()).to(y.scalar_type());
    std::vector<at::Tensor> wanted{input};
    for (at::Tensor& p : moe.parameters()) wanted.push_back(p);
    std::vector<at::Tensor> out{y.detach().to(at::kDouble)};
    const at::Tensor loss = (y * projection).sum() + moe.auxiliary_loss().to(y.scalar_type());
    for (const at::Tensor& g : torch::autograd::grad({loss}, wanted))
        out.push_back(g.to(at::kDouble));
    return out;
}

class MoePolicies : public testing::TestWithParam<std::tuple<std::string, bool, bool>> {};

// The engine's kernels in f32 against the LibTorch loop over experts in f64: outputs and all
// gradients.
TEST_P(MoePolicies, KernelsMatchTheLoop) {
    const auto [policy, gated, shared] = GetParam();
    for (const Compute compute : {Compute::f32, Compute::bf16}) {
        MoEOptions options = options_for(policy, compute);
        options.gated = gated;
        options.activation = gated ? Activation::silu : Activation::gelu;
        options.shared_width = shared ? 12 : 0;
        options.losses = {.balance = 0.1f, .importance = 0.05f, .z = 0.01f, .entropy = 0.02f};
        MoEImpl fast(options), reference(options);
        make_lively(fast, 1);
        make_lively(reference, 1);
        reference.to(at::kDouble);
        const at::Tensor x = at::randn({2, 31, 24});
        const auto got = run(fast, x), want = run(reference, x.to(at::kDouble));
        ASSERT_EQ(fast.routes().experts, reference.routes().experts);
        const double tolerance = compute == Compute::f32 ? 2e-5 : 3e-2;
        for (size_t i = 0; i < got.size(); ++i) {
            const double scale = std::max(1e-6, want[i].abs().max().item<double>());
            EXPECT_LT((got[i] - want[i]).abs().max().item<double>() / scale, tolerance)
                << policy << " tensor " << i;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
    All, MoePolicies,
    testing::Values(
        std::tuple<std::string, bool, bool>{"top-k:1", true, false},
        std::tuple<std::string, bool, bool>{"top-k:2", true, true},
        std::tuple<std::string, bool, bool>{"top-p:0.4", true, false},
        std::tuple<std::string, bool, bool>{"top-p:0.6,weight=renorm", false, false},
        std::tuple<std::string, bool, bool>{"top-k:3,weight=softmax", true, false},
        std::tuple<std::string, bool, bool>{"top-k:2,weight=uniform", false, true},
        std::tuple<std::string, bool, bool>{"top-k:2,score=sigmoid,weight=renorm", true, false},
        std::tuple<std::string, bool, bool>{"top-k:2,score=sqrt-softplus", true, false},
        std::tuple<std::string, bool, bool>{"relative:0.3", true, false},
        std::tuple<std::string, bool, bool>{"top-k:2,score=sigmoid,weight=scale:2.5", true, false},
        std::tuple<std::string, bool, bool>{"expert-choice:2", true, false}));

// The weights of the table are what the differentiable path computes again.
TEST(MoE, TableWeightsEqualTheDifferentiableOnes) {
    MoEImpl moe(options_for("top-k:5,weight=raw"));
    make_lively(moe, 2);
    const at::Tensor x = at::randn({9, 24});
    moe.forward(x);
    const at::Tensor p = at::softmax(at::linear(x, moe.router), -1);
    for (int t = 0; t < 9; ++t) {
        for (size_t i = 0; i < 5; ++i) {
            EXPECT_NEAR(moe.routes().token_weights(t)[i],
                        p[t][moe.routes().token_experts(t)[i]].item<float>(), 1e-6);
        }
    }
}

// Central differences in f64 through the fallback: selection is held fixed by routing everything.
TEST(MoE, GradientsMatchFiniteDifferences) {
    MoEOptions options = options_for("top-k:5");
    MoEImpl moe(options);
    make_lively(moe, 3);
    moe.to(at::kDouble);
    const at::Tensor x = at::randn({4, 24}).to(at::kDouble);
    const auto grads = run(moe, x);
    at::manual_seed(5);
    const at::Tensor projection = at::randn({4, 24}).to(at::kDouble);
    torch::NoGradGuard no_grad;
    size_t index = 2;  // after the output and the input
    for (at::Tensor& p : moe.parameters()) {
        const at::Tensor flat = p.view({-1});
        for (const int64_t i : {int64_t{0}, p.numel() / 2, p.numel() - 1}) {
            constexpr double kStep = 1e-5;
            const auto value = [&](double delta) {
                flat[i] += delta;
                const double v = (moe.forward(x) * projection).sum().item<double>();
                flat[i] -= delta;
                return v;
            };
            const double slope = (value(kStep) - value(-kStep)) / (2 * kStep);
            EXPECT_NEAR(grads[index].reshape({-1})[i].item<double>(), slope,
                        1e-6 * std::max(1.0, std::abs(slope)));
        }
        ++index;
    }
}

TEST(MoE, WorksInANetworkOfOnesOwn) {
    MoE moe(options_for("top-p:0.4"));
    const at::Tensor y = moe->forward(at::randn({2, 3, 24}));
    EXPECT_EQ(y.sizes(), (std::vector<int64_t>{2, 3, 24}));
    y.sum().backward();
    EXPECT_TRUE(moe->up.grad().defined());
    EXPECT_EQ(moe->statistics().tokens, 6);
}

TEST(MoE, RefusesWhatCannotWork) {
    MoEOptions options = options_for("top-k:6");
    EXPECT_THROW(MoEImpl{options}, Error);
    options = options_for("top-k:1");
    options.widths = {4, 0};
    EXPECT_THROW(MoEImpl{options}, Error);
}

}  // namespace
}  // namespace muster::train
