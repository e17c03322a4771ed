// SPDX-License-Identifier: Apache-2.0
// Forward and backward of an expert layer against the usual loop over experts in LibTorch
// (index_select, linear, silu, index_add, autograd), f32: 64 experts, d_model 256, width 512, 2048
// tokens, top-2, both on two threads. Gradients: input, combine weights, all expert weights.
// LibTorch's OpenMP threads spin while they wait and get in each other's way on few cores: run with
// OMP_WAIT_POLICY=passive, which suits it better, and also with OMP_NUM_THREADS=1 and --threads 1.
#include <torch/torch.h>

#include <memory>

#include "layer.h"
#include "metered_executor.h"
#include "peak.h"

using namespace muster;
using namespace muster::bench;

namespace {

struct TorchLayer {
    std::vector<torch::Tensor> gate, up, down;
    std::vector<torch::Tensor> token_index, slot_index;  // of each expert's activations
    torch::Tensor x, weights, dy;

    explicit TorchLayer(const Layer& layer) {
        const auto& s = layer.shape;
        const auto copy = [](const WeightMatrix& w) {
            auto* data = const_cast<std::byte*>(w.data);
            return torch::from_blob(data, {w.rows, w.cols}).clone().requires_grad_(true);
        };
        std::vector<std::vector<int64_t>> tokens(static_cast<size_t>(s.experts)), slots(tokens);
        for (int t = 0; t < s.tokens; ++t) {
            for (int a = layer.routes.offsets[static_cast<size_t>(t)];
                 a < layer.routes.offsets[static_cast<size_t>(t) + 1]; ++a) {
                const auto e = static_cast<size_t>(layer.routes.experts[static_cast<size_t>(a)]);
                tokens[e].push_back(t);
                slots[e].push_back(a);
            }
        }
        for (size_t e = 0; e < tokens.size(); ++e) {
            const Expert& expert = layer.bank.experts[e];
            gate.push_back(copy(expert.gate));
            up.push_back(copy(expert.up));
            down.push_back(copy(expert.down));
            token_index.push_back(torch::tensor(tokens[e], torch::kLong));
            slot_index.push_back(torch::tensor(slots[e], torch::kLong));
        }
        x = torch::from_blob(const_cast<float*>(layer.x.data()), {s.tokens, s.d_model}).clone();
        x.requires_grad_(true);
        weights = torch::from_blob(const_cast<float*>(layer.routes.weights.data()),
                                   {layer.routes.activations()})
                      .clone();
        weights.requires_grad_(true);
        dy = torch::ones_like(x);
    }

    torch::Tensor forward() const {
        torch::Tensor y = torch::zeros_like(x);
        for (size_t e = 0; e < gate.size(); ++e) {
            const torch::Tensor rows = x.index_select(0, token_index[e]);
            const torch::Tensor h =
                torch::silu(torch::linear(rows, gate[e])) * torch::linear(rows, up[e]);
            const torch::Tensor w = weights.index_select(0, slot_index[e]).unsqueeze(1);
            y = y.index_add(0, token_index[e], torch::linear(h, down[e]) * w);
        }
        return y;
    }

    // As after an optimiser's zero_grad(set_to_none): gradients are written, not added.
    void clear_gradients() {
        for (auto* list : {&gate, &up, &down}) {
            for (torch::Tensor& t : *list) t.mutable_grad() = torch::Tensor();
        }
        x.mutable_grad() = torch::Tensor();
        weights.mutable_grad() = torch::Tensor();
    }
};

struct OwnLayer {
    const Layer& layer;
    std::vector<float> y, dy, dx, dweights, gradients;
    std::vector<ExpertGradients> experts;
    MoeWorkspace workspace;
    MoeSaved saved;

    explicit OwnLayer(const Layer& l)
        : layer(l),
          y(l.x.size()),
          dy(l.x.size(), 1.0f),
          dx(l.x.size()),
          dweights(l.routes.weights.size()),
          gradients(l.weights.size() / sizeof(float)) {
        float* p = gradients.data();
        for (const Expert& e : l.bank.experts) {
            ExpertGradients g;
            MatrixView<float>* views[3] = {&g.gate, &g.up, &g.down};
            const WeightMatrix* matrices[3] = {&e.gate, &e.up, &e.down};
            for (int i = 0; i < 3; ++i) {
                *views[i] = {p, matrices[i]->rows, matrices[i]->cols};
                p += matrices[i]->rows * matrices[i]->cols;
            }
            experts.push_back(g);
        }
    }
    void forward(Executor& executor) {
        moe_forward(layer.bank, layer.routes, layer.input(), layer.view(y), workspace, executor,
                    Compute::f32, false, &saved);
    }
    void backward(Executor& executor) {
        moe_backward(layer.bank, layer.routes, saved, layer.input(),
                     {dy.data(), layer.shape.tokens, layer.shape.d_model}, layer.view(dx), dweights,
                     experts, workspace, executor);
    }
};

double difference(const torch::Tensor& expected, const float* values) {
    const torch::Tensor mine = torch::from_blob(const_cast<float*>(values), expected.sizes().vec());
    return ((expected - mine).abs().max() / expected.abs().max()).item<double>();
}

}  // namespace

int main(int argc, char** argv) {
    const int runs = int_option(argc, argv, "--runs", 15);
    const int threads = int_option(argc, argv, "--threads", 2);
    const Clock clock = int_option(argc, argv, "--cpu-clock", 0) != 0 ? cpu_clock : wall_clock;
    torch::set_num_threads(threads);
    const Layer layer({64, 256, 512, 2048, 2, DType::f32}, 1);
    TorchLayer theirs(layer);
    OwnLayer ours(layer);

    Samples torch_seconds, forward_seconds, own_seconds, ratio, share;
    torch::Tensor y;
    for (int i = 0; i <= runs; ++i) {
        theirs.clear_gradients();
        const double torch_time = time_of(
            [&] {
                y = theirs.forward();
                y.backward(theirs.dy);
            },
            clock);
        // The team lives only while it is measured: spinning workers would slow the other side. The
        // peak comes first, for the system takes a while to spread new threads over idle cores.
        MeteredExecutor team = make_executor(argc, argv, threads);
        const double peak = f32_peak(team, 0.1);
        const double forward_time = team.time_of([&] { ours.forward(team); });
        const double own_time = forward_time + team.time_of([&] { ours.backward(team); });
        if (i == 0) continue;  // first touch of memory
        torch_seconds.add(torch_time);
        forward_seconds.add(forward_time);
        own_seconds.add(own_time);
        ratio.add(torch_time / own_time);
        share.add(3 * layer.forward_operations() / own_time / peak);
    }
    const double worst = std::max({difference(y.detach(), ours.y.data()),
                                   difference(theirs.x.grad(), ours.dx.data()),
                                   difference(theirs.weights.grad(), ours.dweights.data()),
                                   difference(theirs.down[3].grad(), ours.experts[3].down.data)});
    if (!(worst < 1e-4)) {
        std::fprintf(stderr, "results differ by %g of the largest value\n", worst);
        return 1;
    }
    Report report("moe_train", argc, argv);
    report.line("LibTorch forward + backward", torch_seconds, "ms", 1e3);
    report.line("own forward + backward", own_seconds, "ms", 1e3);
    report.line("own forward", forward_seconds, "ms", 1e3);
    report.line("own per f32 peak", share, "%", 100);
    report.line("times as fast as LibTorch", ratio, "x", 1);
}
