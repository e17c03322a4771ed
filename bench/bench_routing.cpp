// SPDX-License-Identifier: Apache-2.0
// What routing costs next to the experts it steers: scores, selection, weights and dispatch plan of
// 4096 tokens over 64 experts, one thread, against the expert feed-forward of the same routes (d
// 2048, width 1024, bf16, all threads) in the same run. The bar is 3 % for top-k:8.
#include <numeric>

#include "layer.h"
#include "measure.h"
#include "muster/core/thread_team.h"
#include "muster/routing/router.h"

using namespace muster;
using namespace muster::bench;

namespace {

struct Routing {
    std::vector<float> logits;
    std::vector<int64_t> positions;
    RouteContext context;
    RouteScratch scratch;
    RouteTable routes;
    DispatchPlan plan;
    int tokens, experts;

    Routing(int t, int e) : tokens(t), experts(e) {
        Random random(1);
        logits.resize(static_cast<size_t>(t) * static_cast<size_t>(e));
        for (float& x : logits) x = static_cast<float>(random.normal());
        positions.resize(static_cast<size_t>(t));
        std::iota(positions.begin(), positions.end(), 0);
        context.positions = positions;
    }
    void run(const ResolvedRouter& router) {
        route({logits.data(), tokens, experts}, router, {}, context, scratch, routes);
        make_dispatch_plan(routes, plan);
    }
};

Samples measure(Routing& routing, const ResolvedRouter& router, int runs, Clock clock) {
    Samples seconds;
    routing.run(router);
    for (int i = 0; i < runs; ++i) seconds.add(time_of([&] { routing.run(router); }, clock));
    return seconds;
}

/// The bar: top-k:8 and the feed-forward that its routes steer, in turn.
void report_share(const Report& report, Routing& routing, const ResolvedRouter& router, int threads,
                  int runs, Clock clock) {
    ThreadTeam team(threads);
    const double working = clock == cpu_clock ? team.workers() : 1;
    Layer layer({routing.experts, 2048, 1024, routing.tokens, 8, DType::bf16}, 1);
    std::vector<float> y(layer.x.size());
    MoeWorkspace workspace;
    routing.run(router);
    layer.routes = routing.routes;
    const auto forward = [&] {
        moe_forward(layer.bank, layer.routes, layer.input(), layer.view(y), workspace, team,
                    Compute::bf16);
    };
    forward();
    Samples seconds, share;
    for (int i = 0; i < runs; ++i) {
        const double cost = measure(routing, router, 5, clock).median();
        seconds.add(time_of(forward, clock) / working);
        share.add(cost / seconds.values.back());
    }
    report.line("expert feed-forward of top-k:8", seconds, "ms", 1e3);
    report.line("routing and plan of top-k:8 per feed-forward", share, "%", 100);
}

}  // namespace

int main(int argc, char** argv) {
    const int runs = int_option(argc, argv, "--runs", 30);
    const int forwards = int_option(argc, argv, "--forwards", 5);
    Routing routing(int_option(argc, argv, "--tokens", 4096),
                    int_option(argc, argv, "--experts", 64));
    const int threads = int_option(argc, argv, "--threads", 0);
    const Clock clock = int_option(argc, argv, "--cpu-clock", 0) != 0 ? cpu_clock : wall_clock;
    RouterSpec spec;
    spec.num_experts = routing.experts;
    const auto resolved = [&spec](const char* policy) {
        return resolve(RoutingPolicy::parse(policy), spec, 0, 1);
    };

    const Report report("routing", argc, argv);
    for (const char* policy :
         {"top-k:8", "top-k:8,weight=renorm", "top-k:8,score=sigmoid",
          "top-k:8,score=sqrt-softplus", "top-k:1", "top-k:32", "top-p:0.4", "top-p:0.9",
          "relative:0.2,min=4,max=8", "random:8", "expert-choice:8"})
        report.line(policy, measure(routing, resolved(policy), runs, clock), "ms", 1e3);
    if (forwards > 0) report_share(report, routing, resolved("top-k:8"), threads, forwards, clock);
}
