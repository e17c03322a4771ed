// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <vector>

namespace muster::train {

/// Compares outputs and gradients of `fast` (f32 kernels) with those of `reference` (the same
/// inputs in f64, LibTorch operations), under a random projection of the output. `tolerance` is
/// relative to the largest entry of each tensor.
inline void expect_same_gradients(
    const std::function<at::Tensor(const std::vector<at::Tensor>&)>& fast,
    const std::function<at::Tensor(const std::vector<at::Tensor>&)>& reference,
    const std::vector<at::Tensor>& inputs, double tolerance) {
    const auto run = [&](const auto& f, at::ScalarType type) {
        std::vector<at::Tensor> copies;
        for (const at::Tensor& x : inputs)
            copies.push_back(x.to(type).detach().clone().requires_grad_());
        const at::Tensor y = f(copies);
        at::manual_seed(11);
        const at::Tensor projection = at::randn(y.sizes()).to(y.scalar_type());
        std::vector<at::Tensor> results{y.detach().to(at::kDouble)};
        for (const at::Tensor& g : torch::autograd::grad({(y * projection).sum()}, copies)) {
            results.push_back(g.to(at::kDouble));
        }
        return results;
    };
    const auto got = run(fast, at::kFloat), want = run(reference, at::kDouble);
    for (size_t i = 0; i < got.size(); ++i) {
        const double scale = std::max(1e-6, want[i].abs().max().item<double>());
        EXPECT_LT((got[i] - want[i]).abs().max().item<double>() / scale, tolerance)
            << "tensor " << i;
    }
}

}  // namespace muster::train
