// SPDX-License-Identifier: Apache-2.0
#include "muster/train/functions.h"

#include "muster/train/attention.h"
#include "muster/train/gradcheck_test.h"

namespace muster::train {
namespace {

// Sums of up to a few hundred f32 products: errors of some 1e-6 of the largest entry; bf16 operands
// carry 2^-9 each.
constexpr double kF32 = 2e-5;
constexpr double kBf16 = 2e-2;

TEST(TrainFunctions, LinearMatchesTorch) {
    at::manual_seed(1);
    const std::vector<at::Tensor> inputs{at::randn({3, 17, 40}), at::randn({29, 40})};
    for (const Compute compute : {Compute::f32, Compute::bf16}) {
        expect_same_gradients([&](const auto& x) { return linear(x[0], x[1], compute); },
                              [](const auto& x) { return at::linear(x[0], x[1]); }, inputs,
                              compute == Compute::f32 ? kF32 : kBf16);
    }
}

TEST(TrainFunctions, RmsNormMatchesTorch) {
    at::manual_seed(2);
    const auto norm = [](const auto& x) { return rms_norm(x[0], x[1], 1e-5); };
    expect_same_gradients(norm, norm, {at::randn({101, 48}), at::rand({48}) + 0.5}, kF32);
}

TEST(TrainFunctions, RopeMatchesTheFormula) {
    at::manual_seed(3);
    constexpr int64_t kHeads = 3, kDim = 8, kLength = 7;
    for (const bool interleaved : {false, true}) {
        const auto reference = [&](const std::vector<at::Tensor>& x) {
            const at::Tensor t = x[0].view({-1, kLength, kHeads, kDim});
            const auto options = t.options();
            const at::Tensor angle =
                at::outer(at::arange(kLength, options),
                          at::pow(10000.0, at::arange(0, kDim, 2, options) / double{kDim} * -1.0))
                    .view({1, kLength, 1, kDim / 2});
            const at::Tensor c = at::cos(angle), s = at::sin(angle);
            if (interleaved) {
                const at::Tensor p = t.view({-1, kLength, kHeads, kDim / 2, 2});
                const at::Tensor a = p.select(-1, 0), b = p.select(-1, 1);
                return at::stack({a * c - b * s, a * s + b * c}, -1).view(x[0].sizes());
            }
            const at::Tensor a = t.narrow(-1, 0, kDim / 2), b = t.narrow(-1, kDim / 2, kDim / 2);
            return at::cat({a * c - b * s, a * s + b * c}, -1).view(x[0].sizes());
        };
        expect_same_gradients(
            [&](const auto& x) { return rope(x[0], kDim, kLength, 10000.0, interleaved); },
            reference, {at::randn({2 * kLength, kHeads * kDim})}, kF32);
    }
}

TEST(TrainFunctions, AttentionMatchesTorch) {
    at::manual_seed(4);
    // Lengths around the kernel's block of 64 and panel of 32; grouped heads; a head size that is
    // no multiple of the panel.
    for (AttentionShape shape : {AttentionShape{1, 1, 1, 8}, AttentionShape{70, 4, 2, 24},
                                 AttentionShape{33, 2, 2, 32}, AttentionShape{130, 3, 1, 64}}) {
        const int64_t tokens = 2 * shape.length;
        const std::vector<at::Tensor> inputs{at::randn({tokens, shape.heads * shape.head_dim}),
                                             at::randn({tokens, shape.kv_heads * shape.head_dim}),
                                             at::randn({tokens, shape.kv_heads * shape.head_dim})};
        for (const Compute compute : {Compute::f32, Compute::bf16}) {
            shape.compute = compute;
            const auto attention = [&](const auto& x) {
                return causal_attention(x[0], x[1], x[2], shape);
            };
            expect_same_gradients(attention, attention, inputs,
                                  compute == Compute::f32 ? kF32 : kBf16);
        }
    }
}

}  // namespace
}  // namespace muster::train
