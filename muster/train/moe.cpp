// SPDX-License-Identifier: Apache-2.0
#include "muster/train/moe.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <numeric>

#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/train/functions.h"
#include "muster/train/tensors.h"

namespace muster::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

/// The weighted auxiliary losses as one scalar; value and gradient come from muster/routing.
struct RouterLossFunction : torch::autograd::Function<RouterLossFunction> {
    static Variable forward(AutogradContext* context, const Variable& logits,
                            const RouteTable* routes, const RouterLossWeights* weights,
                            RouterLosses* losses) {
        at::Tensor gradient = at::zeros_like(logits);
        *losses =
            muster::router_losses(matrix(logits), *routes, *weights, mutable_matrix(gradient));
        context->save_for_backward({gradient});
        return at::scalar_tensor(losses->total, logits.options());
    }
    static variable_list backward(AutogradContext* context, variable_list grads) {
        return {context->get_saved_variables()[0] * grads[0], Variable(), Variable(), Variable()};
    }
};

at::Tensor activate(const at::Tensor& x, Activation activation) {
    switch (activation) {
        case Activation::relu:
            return at::relu(x);
        case Activation::gelu:
            return at::gelu(x);
        case Activation::silu:
            return at::silu(x);
        case Activation::swiglu_oai:
            break;  // the configuration refuses it
    }
    MUSTER_ASSERT(false);
    return x;
}

at::Tensor scores_of(const at::Tensor& logits, Score score) {
    switch (score) {
        case Score::softmax:
            return at::softmax(logits, -1);
        case Score::sigmoid:
        case Score::cosine:
            return at::sigmoid(logits);
        case Score::sqrt_softplus:
            // Below the smallest f32 the root has no slope.
            return at::sqrt(at::softplus(logits).clamp_min(1e-38));
        case Score::relu:
            return at::relu(logits);
    }
    return logits;
}

at::Tensor as_tensor(const std::vector<int32_t>& values, const at::Device& device) {
    return at::tensor(values, at::kInt).to(device, at::kLong);
}

at::Tensor normal(const std::vector<int64_t>& shape, double deviation) {
    return at::randn(shape) * deviation;
}

}  // namespace

MoEImpl::MoEImpl(MoEOptions options) : options_(std::move(options)) {
    options_.router.num_experts = static_cast<int>(options_.widths.size());
    if (options_.widths.empty() || options_.d_model <= 0) {
        throw Error("MoE", "expected d_model >= 1 and at least one expert");
    }
    row_offsets_.push_back(0);
    for (const int width : options_.widths) {
        if (width <= 0) throw Error("MoE", "expected every expert's width to be at least 1");
        row_offsets_.push_back(row_offsets_.back() + width);
    }
    set_policy(options_.policy);
    const int64_t d = options_.d_model, rows = row_offsets_.back();
    constexpr double kStd = 0.02;  // OLMoE's initialisation
    if (options_.widths.size() > 1) {
        router = register_parameter(
            "router", normal({static_cast<int64_t>(options_.widths.size()), d}, kStd));
    }
    if (options_.gated) gate = register_parameter("gate", normal({rows, d}, kStd));
    up = register_parameter("up", normal({rows, d}, kStd));
    down = register_parameter("down", normal({rows * d}, kStd));
    if (options_.shared_width > 0) {
        const int64_t shared = options_.shared_width;
        if (options_.gated)
            shared_gate = register_parameter("shared_gate", normal({shared, d}, kStd));
        shared_up = register_parameter("shared_up", normal({shared, d}, kStd));
        shared_down = register_parameter("shared_down", normal({d, shared}, kStd));
    }
}

void MoEImpl::set_policy(const RoutingPolicy& policy) {
    resolved_ = resolve(policy, options_.router, options_.layer, options_.layers);
    options_.policy = policy;
}

at::Tensor MoEImpl::expert_gate(int e) const {
    return options_.gated ? gate.narrow(0, row_offsets_[e], options_.widths[e]) : at::Tensor();
}
at::Tensor MoEImpl::expert_up(int e) const {
    return up.narrow(0, row_offsets_[e], options_.widths[e]);
}
at::Tensor MoEImpl::expert_down(int e) const {
    const int64_t d = options_.d_model;
    return down.narrow(0, row_offsets_[e] * d, options_.widths[e] * d)
        .view({d, options_.widths[e]});
}

at::Tensor MoEImpl::combine_weights(const at::Tensor& logits) const {
    const int64_t experts = logits.size(1);
    std::vector<int64_t> flat(routes_.experts.size()), token(routes_.experts.size());
    for (int t = 0; t < routes_.tokens(); ++t) {
        for (int32_t a = routes_.offsets[t]; a < routes_.offsets[t + 1]; ++a) {
            token[a] = t;
            flat[a] = t * experts + routes_.experts[a];
        }
    }
    const auto index = [&](const std::vector<int64_t>& v) {
        return at::tensor(v, at::kLong).to(logits.device());
    };
    const at::Tensor flat_index = index(flat), token_index = index(token);
    const auto divided_by_sum = [&](const at::Tensor& w, double floor) {
        const at::Tensor sum =
            at::zeros({logits.size(0)}, w.options()).index_add(0, token_index, w);
        return w / sum.clamp_min(floor).index_select(0, token_index);
    };
    const auto selected = [&](const at::Tensor& x) {
        return x.reshape({-1}).index_select(0, flat_index);
    };
    const RouterSpec& spec = resolved_.spec;
    at::Tensor weights;
    switch (spec.weight) {
        case Weighting::raw:
            weights = selected(scores_of(logits, spec.score));
            break;
        case Weighting::renorm:
            weights = divided_by_sum(selected(scores_of(logits, spec.score)), spec.renorm_floor);
            break;
        case Weighting::softmax: {
            // The largest selected logit cancels in the quotient; it only keeps exp in range.
            const at::Tensor chosen = selected(logits);
            const at::Tensor most =
                at::full({logits.size(0)}, -std::numeric_limits<double>::infinity(),
                         logits.options())
                    .index_reduce(0, token_index, chosen.detach(), "amax");
            weights = divided_by_sum(at::exp(chosen - most.index_select(0, token_index)), 0);
            break;
        }
        case Weighting::uniform:
            weights =
                divided_by_sum(at::ones({static_cast<int64_t>(flat.size())}, logits.options()), 0);
            break;
    }
    return spec.scale == 1.0f ? weights : weights * static_cast<double>(spec.scale);
}

at::Tensor MoEImpl::experts_by_loop(const at::Tensor& x, const at::Tensor& weights) const {
    DispatchPlan plan;
    make_dispatch_plan(routes_, plan);
    std::vector<int32_t> activation_of(plan.row_of.size());
    for (size_t a = 0; a < plan.row_of.size(); ++a)
        activation_of[plan.row_of[a]] = static_cast<int32_t>(a);
    const at::Tensor tokens = as_tensor(plan.tokens, x.device());
    const at::Tensor activations = as_tensor(activation_of, x.device());
    at::Tensor y = at::zeros_like(x);
    for (int e = 0; e < plan.num_experts(); ++e) {
        if (plan.expert_rows(e) == 0) continue;
        const at::Tensor rows = tokens.narrow(0, plan.expert_offsets[e], plan.expert_rows(e));
        const at::Tensor w = weights.index_select(
            0, activations.narrow(0, plan.expert_offsets[e], plan.expert_rows(e)));
        const at::Tensor in = x.index_select(0, rows);
        at::Tensor h = at::linear(in, expert_up(e));
        h = options_.gated ? activate(at::linear(in, expert_gate(e)), options_.activation) * h
                           : activate(h, options_.activation);
        y = y.index_add(0, rows, at::linear(h, expert_down(e)) * w.unsqueeze(-1));
    }
    return y;
}

at::Tensor MoEImpl::shared_experts(const at::Tensor& x) const {
    at::Tensor h = linear(x, shared_up, options_.compute);
    h = options_.gated ? activate(linear(x, shared_gate, options_.compute), options_.activation) * h
                       : activate(h, options_.activation);
    return linear(h, shared_down, options_.compute);
}

at::Tensor MoEImpl::forward(const at::Tensor& input, const at::Tensor& token_ids) {
    const at::Tensor x = input.contiguous().view({-1, options_.d_model});
    // Routing is always computed in full precision: rounding here would flip choices.
    const at::Tensor logits =
        router.defined() ? linear(x, router, Compute::f32) : at::zeros({x.size(0), 1}, x.options());
    const at::Tensor plain = logits.detach().to(at::kCPU, at::kFloat).contiguous();
    RouteContext context;
    context.layer = options_.layer;
    context.seed = options_.seed + mix64(static_cast<uint64_t>(batch_));
    std::vector<int64_t> positions(static_cast<size_t>(x.size(0)));
    std::iota(positions.begin(), positions.end(), 0);
    context.positions = positions;
    at::Tensor ids;
    if (token_ids.defined()) {
        ids = token_ids.to(at::kCPU, at::kInt).contiguous();
        context.token_ids = {ids.data_ptr<int32_t>(), static_cast<size_t>(ids.numel())};
    }
    route(matrix(plain), resolved_, options_.parameters, context, scratch_, routes_);
    statistics_.add(routes_);

    const at::Tensor weights = combine_weights(logits);
    const bool kernels = is_kernel_tensor(x) && is_kernel_tensor(up);
    at::Tensor y = kernels ? moe_experts(x, weights, gate, up, down, options_, routes_)
                           : experts_by_loop(x, weights);
    if (options_.shared_width > 0 && resolved_.shared) y = y + shared_experts(x);
    auxiliary_loss_ = router.defined()
                          ? RouterLossFunction::apply(logits.to(at::kCPU, at::kFloat).contiguous(),
                                                      &routes_, &options_.losses, &losses_)
                          : at::zeros({}, x.options());
    return y.view(input.sizes());
}

}  // namespace muster::train
