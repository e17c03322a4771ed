// SPDX-License-Identifier: Apache-2.0
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <memory>
#include <utility>

#include "muster/train/moe.h"
#include "muster/train/tensors.h"
#include "muster/train/torch_executor.h"

namespace muster::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

/// What one forward hands to its backward.
struct MoeCall : torch::CustomClassHolder {
    RouteTable routes;
    MoeSaved saved;
    ExpertBank bank;
    Compute compute = Compute::f32;
};

WeightMatrix weights_at(const at::Tensor& flat, int64_t offset, int64_t rows, int64_t cols) {
    return {DType::f32, reinterpret_cast<const std::byte*>(flat.data_ptr<float>() + offset), rows,
            cols};
}

ExpertBank make_bank(const MoEOptions& options, const at::Tensor& gate, const at::Tensor& up,
                     const at::Tensor& down) {
    ExpertBank bank;
    bank.activation = options.activation;
    bank.gated = options.gated;
    bank.d_model = options.d_model;
    int64_t offset = 0;
    for (const int width : options.widths) {
        Expert expert;
        if (options.gated) expert.gate = weights_at(gate, offset, width, options.d_model);
        expert.up = weights_at(up, offset, width, options.d_model);
        expert.down = weights_at(down, offset, options.d_model, width);
        bank.experts.push_back(expert);
        offset += width * options.d_model;
    }
    return bank;
}

MoeWorkspace& workspace() {
    // Scratch only: it carries nothing from one call to the next.
    thread_local MoeWorkspace space;
    return space;
}

struct MoeFunction : torch::autograd::Function<MoeFunction> {
    static Variable forward(AutogradContext* context, const Variable& x, const Variable& weights,
                            const Variable& gate, const Variable& up, const Variable& down,
                            c10::intrusive_ptr<MoeCall> call) {
        // The combine weights may carry more digits than the table's: the tensor is what is
        // differentiated.
        const float* w = weights.data_ptr<float>();
        call->routes.weights.assign(w, w + weights.numel());
        at::Tensor y = at::empty_like(x);
        TorchExecutor executor;
        moe_forward(call->bank, call->routes, matrix(x), mutable_matrix(y), workspace(), executor,
                    call->compute, false, &call->saved);
        context->save_for_backward({x, weights, gate, up, down});
        context->saved_data["call"] = c10::IValue::make_capsule(std::move(call));
        return y;
    }

    static variable_list backward(AutogradContext* context, variable_list grads) {
        const variable_list saved = context->get_saved_variables();
        const auto call =
            c10::static_intrusive_pointer_cast<MoeCall>(context->saved_data["call"].toCapsule());
        const at::Tensor dy = grads[0].contiguous();
        at::Tensor dx = at::empty_like(saved[0]);
        at::Tensor dweights = at::empty_like(saved[1]);
        at::Tensor dgate, dup = at::empty_like(saved[3]), ddown = at::empty_like(saved[4]);
        if (call->bank.gated) dgate = at::empty_like(saved[2]);
        std::vector<ExpertGradients> gradients;
        int64_t offset = 0;
        const int64_t d = call->bank.d_model;
        for (const Expert& expert : call->bank.experts) {
            ExpertGradients g;
            const int64_t width = expert.width();
            if (call->bank.gated) g.gate = {dgate.data_ptr<float>() + offset, width, d};
            g.up = {dup.data_ptr<float>() + offset, width, d};
            g.down = {ddown.data_ptr<float>() + offset, d, width};
            gradients.push_back(g);
            offset += width * d;
        }
        TorchExecutor executor;
        moe_backward(call->bank, call->routes, call->saved, matrix(saved[0]), matrix(dy),
                     mutable_matrix(dx),
                     {dweights.data_ptr<float>(), static_cast<size_t>(dweights.numel())}, gradients,
                     workspace(), executor, call->compute);
        return {dx, dweights, dgate, dup, ddown, Variable()};
    }
};

}  // namespace

at::Tensor moe_experts(const at::Tensor& x, const at::Tensor& weights, const at::Tensor& gate,
                       const at::Tensor& up, const at::Tensor& down, const MoEOptions& options,
                       const RouteTable& routes) {
    auto call = c10::make_intrusive<MoeCall>();
    call->routes = routes;
    call->compute = options.compute;
    call->bank = make_bank(options, gate, up, down);
    // Autograd functions take no undefined tensors.
    const at::Tensor no_gate = options.gated ? gate : at::empty({0}, up.options());
    return MoeFunction::apply(x.contiguous(), weights.contiguous(), no_gate, up, down,
                              std::move(call));
}

}  // namespace muster::train
