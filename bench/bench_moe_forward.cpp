// SPDX-License-Identifier: Apache-2.0
// The share of the bf16 peak that a prompt reaches in one gated expert layer: 16 experts, d_model
// 1024, width 2048, 4096 tokens, top-2. The peak is measured before and after each run.
#include "layer.h"
#include "metered_executor.h"
#include "peak.h"

using namespace muster;
using namespace muster::bench;

int main(int argc, char** argv) {
    const int runs = int_option(argc, argv, "--runs", 15);
    const bool f32 = int_option(argc, argv, "--f32", 0) != 0;
    MeteredExecutor team = make_executor(argc, argv);
    const LayerShape shape{16, 1024, 2048, 4096, 2, f32 ? DType::f32 : DType::bf16};
    const Layer layer(shape, 1);
    std::vector<float> y(layer.x.size());
    MoeWorkspace workspace;
    const auto forward = [&] {
        moe_forward(layer.bank, layer.routes, layer.input(), layer.view(y), workspace, team,
                    f32 ? Compute::f32 : Compute::bf16);
    };
    forward();
    const auto measure_peak = [&] { return f32 ? f32_peak(team, 0.1) : bf16_peak(team, 0.1); };
    const double operations = layer.forward_operations();
    Samples seconds, peak, share;
    double before = measure_peak();
    for (int i = 0; i < runs; ++i) {
        seconds.add(team.time_of(forward));
        const double after = measure_peak();
        peak.add(std::max(before, after));
        share.add(operations / seconds.values.back() / peak.values.back());
        before = after;
    }
    Report report("moe_forward", argc, argv);
    report.line("forward", seconds, "ms", 1e3);
    report.line("forward per run's peak", share, "%", 100);
    report.line(f32 ? "f32 peak" : "bf16 peak", peak, "GFLOP/s", 1e-9);
}
