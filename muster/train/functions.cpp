// SPDX-License-Identifier: Apache-2.0
#include "muster/train/functions.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <vector>

#include "muster/kernels/rope.h"
#include "muster/train/tensors.h"
#include "muster/train/torch_executor.h"

namespace muster::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct LinearFunction : torch::autograd::Function<LinearFunction> {
    static Variable forward(AutogradContext* context, const Variable& x, const Variable& w,
                            int64_t compute) {
        const at::Tensor rows = x.contiguous().view({-1, x.size(-1)});
        const at::Tensor weight = w.contiguous();
        context->save_for_backward({rows, weight});
        context->saved_data["compute"] = compute;
        at::Tensor y = at::empty({rows.size(0), w.size(0)}, x.options());
        TorchExecutor executor;
        matmul(matrix(rows), weight_matrix(weight), mutable_matrix(y), executor,
               static_cast<Compute>(compute));
        std::vector<int64_t> shape = x.sizes().vec();
        shape.back() = w.size(0);
        return y.view(shape);
    }

    static variable_list backward(AutogradContext* context, variable_list grads) {
        const variable_list saved = context->get_saved_variables();
        const at::Tensor &x = saved[0], &w = saved[1];
        const auto compute = static_cast<Compute>(context->saved_data["compute"].toInt());
        const at::Tensor dy = grads[0].contiguous().view({-1, w.size(0)});
        TorchExecutor executor;
        at::Tensor dx, dw;
        if (context->needs_input_grad(0)) {
            dx = at::empty_like(x);
            matmul_input_gradient(matrix(dy), weight_matrix(w), mutable_matrix(dx), executor,
                                  compute);
            std::vector<int64_t> shape = grads[0].sizes().vec();
            shape.back() = w.size(1);
            dx = dx.view(shape);
        }
        if (context->needs_input_grad(1)) {
            dw = at::empty_like(w);
            matmul_weight_gradient(matrix(dy), matrix(x), mutable_matrix(dw), executor, compute);
        }
        return {dx, dw, Variable()};
    }
};

// Rows of a norm handed to one thread at a time.
constexpr int64_t kNormGrain = 64;

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
    static Variable forward(AutogradContext* context, const Variable& x_in, const Variable& weight,
                            double eps) {
        const at::Tensor x = x_in.contiguous();
        const int64_t d = x.size(-1);
        const int64_t rows = x.numel() / d;
        at::Tensor y = at::empty_like(x);
        at::Tensor inverse = at::empty({rows}, x.options());
        const float* px = x.data_ptr<float>();
        const float* pw = weight.data_ptr<float>();
        float* py = y.data_ptr<float>();
        float* pi = inverse.data_ptr<float>();
        at::parallel_for(0, rows, kNormGrain, [&](int64_t begin, int64_t end) {
            for (int64_t r = begin; r < end; ++r) {
                const float* row = px + r * d;
                float sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t i = 0; i < d; ++i) sum += row[i] * row[i];
                const float scale =
                    1.0f / std::sqrt(sum / static_cast<float>(d) + static_cast<float>(eps));
                pi[r] = scale;
#pragma omp simd
                for (int64_t i = 0; i < d; ++i) py[r * d + i] = row[i] * scale * pw[i];
            }
        });
        context->save_for_backward({x, weight, inverse});
        return y;
    }

    // y_i = w_i x_i s with s = (mean(x^2) + eps)^(-1/2):
    // dx = s (w dy) - x s^3 / d * sum(w dy x);  dw = sum over rows of dy x s.
    static variable_list backward(AutogradContext* context, variable_list grads) {
        const variable_list saved = context->get_saved_variables();
        const at::Tensor &x = saved[0], &weight = saved[1], &inverse = saved[2];
        const at::Tensor dy = grads[0].contiguous();
        const int64_t d = x.size(-1);
        const int64_t rows = x.numel() / d;
        at::Tensor dx = at::empty_like(x);
        // A fixed number of partial sums keeps the result independent of the number of threads.
        constexpr int64_t kParts = 16;
        at::Tensor parts = at::zeros({kParts, d}, x.options());
        const float *px = x.data_ptr<float>(), *pw = weight.data_ptr<float>(),
                    *pdy = dy.data_ptr<float>(), *pi = inverse.data_ptr<float>();
        float *pdx = dx.data_ptr<float>(), *pp = parts.data_ptr<float>();
        at::parallel_for(0, kParts, 1, [&](int64_t first, int64_t last) {
            for (int64_t part = first; part < last; ++part) {
                float* dw = pp + part * d;
                for (int64_t r = rows * part / kParts; r < rows * (part + 1) / kParts; ++r) {
                    const float *row = px + r * d, *g = pdy + r * d;
                    float* out = pdx + r * d;
                    const float s = pi[r];
                    float dot = 0;
#pragma omp simd reduction(+ : dot)
                    for (int64_t i = 0; i < d; ++i) dot += g[i] * pw[i] * row[i];
                    const float k = dot * s * s * s / static_cast<float>(d);
#pragma omp simd
                    for (int64_t i = 0; i < d; ++i) {
                        out[i] = g[i] * pw[i] * s - row[i] * k;
                        dw[i] += g[i] * row[i] * s;
                    }
                }
            }
        });
        return {dx, parts.sum(0), Variable()};
    }
};

struct RopeFunction : torch::autograd::Function<RopeFunction> {
    static at::Tensor turned(const at::Tensor& x, int64_t head_dim, int64_t context, double theta,
                             bool interleaved, int sign) {
        at::Tensor y = x.contiguous().clone();
        std::vector<int32_t> positions(static_cast<size_t>(context));
        for (size_t t = 0; t < positions.size(); ++t) {
            positions[t] = sign * static_cast<int32_t>(t);
        }
        RopeTable table;
        table.fill(static_cast<int>(head_dim), positions, static_cast<float>(theta));
        // One task per stretch of rows within a sequence; the kernel itself is serial.
        const int64_t rows = y.size(0), stretch = std::min(context, kNormGrain);
        const int64_t stretches = (context + stretch - 1) / stretch;
        at::parallel_for(0, rows / context * stretches, 1, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                const int64_t first = i % stretches * stretch;
                const int64_t count = std::min(stretch, context - first);
                muster::rope(mutable_matrix(y).slice(i / stretches * context + first, count), table,
                             first, interleaved);
            }
        });
        return y;
    }
    static Variable forward(AutogradContext* context, const Variable& x, int64_t head_dim,
                            int64_t length, double theta, bool interleaved) {
        context->saved_data["head_dim"] = head_dim;
        context->saved_data["length"] = length;
        context->saved_data["theta"] = theta;
        context->saved_data["interleaved"] = interleaved;
        return turned(x, head_dim, length, theta, interleaved, 1);
    }
    // A rotation's transpose is the rotation by the opposite angle.
    static variable_list backward(AutogradContext* context, variable_list grads) {
        auto& data = context->saved_data;
        return {turned(grads[0], data["head_dim"].toInt(), data["length"].toInt(),
                       data["theta"].toDouble(), data["interleaved"].toBool(), -1),
                Variable(), Variable(), Variable(), Variable()};
    }
};

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& w, Compute compute) {
    if (!is_kernel_tensor(x) || !is_kernel_tensor(w)) return at::linear(x, w);
    return LinearFunction::apply(x, w, static_cast<int64_t>(compute));
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
    if (!is_kernel_tensor(x)) {
        return x * at::rsqrt(x.pow(2).mean(-1, true) + eps) * weight;
    }
    return RmsNormFunction::apply(x, weight.contiguous(), eps);
}

at::Tensor rope(const at::Tensor& x, int64_t head_dim, int64_t context, double theta,
                bool interleaved) {
    TORCH_CHECK(is_kernel_tensor(x) && x.size(0) % context == 0,
                "rope: expected an f32 CPU tensor of whole sequences");
    return RopeFunction::apply(x, head_dim, context, theta, interleaved);
}

}  // namespace muster::train
