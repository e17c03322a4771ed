// SPDX-License-Identifier: Apache-2.0
// The share of the arithmetic peak that a prompt reaches in one gated expert layer. --type bf16
// (the default) or f32: 16 experts, d_model 1024, width 2048, 4096 tokens, top-2. Block formats, in
// integers: 64 experts, d_model 2048, width 1024, 512 tokens, top-8; --hot 1 sends all tokens to
// the same 8. The peak is measured before and after each run.
#include "layer.h"
#include "metered_executor.h"
#include "peak.h"

using namespace muster;
using namespace muster::bench;

int main(int argc, char** argv) {
    const int runs = int_option(argc, argv, "--runs", 15);
    const DType dtype = parse_dtype(text_option(argc, argv, "--type", "bf16"));
    const bool blocks = dtype_info(dtype).block_elements > 1;
    const bool panels = blocks && int_option(argc, argv, "--rows", 0) == 0;
    const Compute compute = blocks                ? Compute::int8
                            : dtype == DType::f32 ? Compute::f32
                                                  : Compute::bf16;
    MeteredExecutor team = make_executor(argc, argv);
    const int tokens = int_option(argc, argv, "--tokens", blocks ? 512 : 4096);
    const LayerShape shape = blocks ? LayerShape{64,
                                                 2048,
                                                 1024,
                                                 tokens,
                                                 8,
                                                 dtype,
                                                 panels ? WeightLayout::panels : WeightLayout::rows}
                                    : LayerShape{16, 1024, 2048, tokens, 2, dtype};
    Layer layer(shape, 1);
    if (int_option(argc, argv, "--hot", 0) != 0) {
        for (size_t a = 0; a < layer.routes.experts.size(); ++a) {
            layer.routes.experts[a] = static_cast<int32_t>(a) % shape.top_k;
        }
    }
    std::vector<float> y(layer.x.size());
    MoeWorkspace workspace;
    const auto forward = [&] {
        moe_forward(layer.bank, layer.routes, layer.input(), layer.view(y), workspace, team,
                    compute);
    };
    forward();
    const auto measure_peak = [&] {
        return blocks                    ? int8_peak(team, 0.1)
               : compute == Compute::f32 ? f32_peak(team, 0.1)
                                         : bf16_peak(team, 0.1);
    };
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
    report.line("peak", peak, "GFLOP/s", 1e-9);
}
