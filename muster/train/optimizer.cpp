// SPDX-License-Identifier: Apache-2.0
#include "muster/train/optimizer.h"

#include <ATen/Parallel.h>

#include <cmath>

#include "muster/core/error.h"
#include "muster/train/tensors.h"

namespace muster::train {
namespace {

// Values one thread takes at a time, large enough to hide the hand-out, and the unit of the norm's
// partial sums, which keeps that sum independent of the number of threads.
constexpr int64_t kGrain = 1 << 15;

}  // namespace

AdamW::AdamW(std::vector<std::pair<std::string, at::Tensor>> parameters, const Settings& settings)
    : settings_(settings) {
    for (auto& [name, value] : parameters) {
        MUSTER_ASSERT(is_kernel_tensor(value) && value.is_contiguous());
        // Experts' `down` is stored flat; it is a matrix all the same.
        const bool vector = value.dim() < 2 && name.find("norm") != std::string::npos;
        parameters_.push_back({name, value, at::zeros_like(value), at::zeros_like(value), !vector});
    }
}

double AdamW::gradient_norm() const {
    double sum = 0;
    for (const Parameter& p : parameters_) {
        const at::Tensor& grad = p.value.grad();
        if (!grad.defined()) continue;
        const at::Tensor g = grad.contiguous();
        const float* data = g.data_ptr<float>();
        const int64_t n = g.numel();
        std::vector<double> parts(static_cast<size_t>((n + kGrain - 1) / kGrain));
        at::parallel_for(0, static_cast<int64_t>(parts.size()), 1, [&](int64_t begin, int64_t end) {
            for (int64_t part = begin; part < end; ++part) {
                float lanes[16] = {};
                double total = 0;
                const int64_t last = std::min(n, (part + 1) * kGrain);
                int64_t i = part * kGrain;
                for (; i + 16 <= last; i += 16) {
                    for (int64_t j = 0; j < 16; ++j) lanes[j] += data[i + j] * data[i + j];
                }
                for (; i < last; ++i) total += double{data[i]} * data[i];
                for (const float lane : lanes) total += lane;
                parts[static_cast<size_t>(part)] = total;
            }
        });
        for (const double part : parts) sum += part;
    }
    return std::sqrt(sum);
}

void AdamW::step(double lr, double scale) {
    ++steps_;
    const auto b1 = static_cast<float>(settings_.beta1), b2 = static_cast<float>(settings_.beta2);
    const auto correct1 =
        static_cast<float>(1 / (1 - std::pow(settings_.beta1, static_cast<double>(steps_))));
    const auto correct2 =
        static_cast<float>(1 / (1 - std::pow(settings_.beta2, static_cast<double>(steps_))));
    const auto rate = static_cast<float>(lr), eps = static_cast<float>(settings_.eps),
               s = static_cast<float>(scale);
    for (Parameter& p : parameters_) {
        if (!p.value.grad().defined()) continue;
        const at::Tensor grad = p.value.grad().contiguous();
        const float keep = 1.0f - static_cast<float>(lr * (p.decay ? settings_.weight_decay : 0));
        float *w = p.value.data_ptr<float>(), *m = p.m.data_ptr<float>(),
              *v = p.v.data_ptr<float>();
        const float* g = grad.data_ptr<float>();
        at::parallel_for(0, p.value.numel(), kGrain, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                const float gi = g[i] * s;
                m[i] = b1 * m[i] + (1 - b1) * gi;
                v[i] = b2 * v[i] + (1 - b2) * gi * gi;
                w[i] = keep * w[i] - rate * (m[i] * correct1) / (std::sqrt(v[i] * correct2) + eps);
            }
        });
        p.value.mutable_grad() = at::Tensor();
    }
}

}  // namespace muster::train
