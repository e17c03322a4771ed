// SPDX-License-Identifier: Apache-2.0
// The share of the memory's read bandwidth that decoding reaches: one token (--tokens) at a time
// through experts in --type (q8_0), block formats in integers, from panels or (--rows 1) the file's
// layout, (d_model 2048, width 1024, top-8 of 64 in each of two layers, 856 MB), other experts at
// each step, so that no weight comes from a cache. Before and after each step a plain read loop
// walks through as many bytes of the same weights, far from the step's.
#include "layer.h"
#include "metered_executor.h"
#include "peak.h"

using namespace muster;
using namespace muster::bench;

int main(int argc, char** argv) {
    const int runs = int_option(argc, argv, "--runs", 60);
    const int top_k = int_option(argc, argv, "--top-k", 8);
    const DType dtype = parse_dtype(text_option(argc, argv, "--type", "q8_0"));
    const bool blocks = dtype_info(dtype).block_elements > 1;
    const bool panels = blocks && int_option(argc, argv, "--rows", 0) == 0;
    MeteredExecutor team = make_executor(argc, argv);
    const int experts = int_option(argc, argv, "--experts", 128);  // of both layers
    const Layer layer(
        {experts, 2048, 1024, 1, top_k, dtype, panels ? WeightLayout::panels : WeightLayout::rows},
        1);
    std::vector<float> y(layer.x.size());
    MoeWorkspace workspace;
    RouteTable routes = layer.routes;
    const auto per_expert = layer.weights.size() / static_cast<size_t>(experts);
    const size_t bytes = per_expert * static_cast<size_t>(top_k);

    Samples seconds, bandwidth, share;
    int next = 0;
    const auto read = [&] {  // half way round from the step's experts
        const int first = (next + experts / 2) % experts / top_k * top_k;
        return read_bandwidth(team, layer.weights.data() + static_cast<size_t>(first) * per_expert,
                              bytes);
    };
    double before = read();
    for (int i = 0; i < runs; ++i, next = (next + top_k) % experts) {
        for (int k = 0; k < top_k; ++k) {
            routes.experts[static_cast<size_t>(k)] = (next + k) % experts;
        }
        const double time = team.time_of([&] {
            moe_forward(layer.bank, routes, layer.input(), layer.view(y), workspace, team,
                        blocks ? Compute::int8 : Compute::f32);
        });
        const double after = read();
        const double peak = (before + after) / 2;
        before = after;
        if (i < 4) continue;
        seconds.add(time);
        bandwidth.add(peak);
        share.add(static_cast<double>(bytes) / time / peak);
    }
    Report report("moe_decode", argc, argv);
    report.line("one token, one layer", seconds, "us", 1e6);
    report.line("decode per read bandwidth", share, "%", 100);
    report.line("read bandwidth", bandwidth, "GB/s", 1e-9);
}
