// SPDX-License-Identifier: Apache-2.0
// Decoding allocates nothing once it has begun: the test's own operator new and aligned_alloc
// count. Sanitizers bring theirs, and the test is not built with them.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "muster/core/thread_team.h"
#include "muster/model/export.h"
#include "muster/model/forward.h"
#include "muster/model/testing.h"

namespace {

std::atomic<int64_t> allocations{0};

}  // namespace

extern "C" void* aligned_alloc(size_t alignment, size_t size) {
    ++allocations;
    return memalign(alignment, size);
}

[[gnu::noinline]] void* operator new(size_t size) {
    ++allocations;
    if (void* p = std::malloc(size)) return p;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace muster {
namespace {

/// How products are made, and the sequences in a batch: few of them stream float weights, many
/// pack.
class ForwardAllocation : public ::testing::TestWithParam<std::pair<Compute, int>> {};

/// Sequences under policies of their own, each of which changes from step to step.
TEST_P(ForwardAllocation, StepsAllocateNothing) {
    const auto [compute, sequences] = GetParam();
    testing::TemporaryDirectory directory;
    testing::random_checkpoint(testing::tiny_olmoe()).write(directory / "run");
    export_gguf(directory / "run", directory / "model.gguf", DType::q8_0);
    ThreadTeam team(2);
    LoadOptions options;
    if (compute == Compute::int8) options.panels = &team;
    Model model = Model::load(directory / "model.gguf", options);
    model.add_plan("p", testing::random_plan(model, 2, 3));
    // Every sequence has each of the policies: controllers belong to one.
    constexpr size_t kPolicies = 9;
    std::vector<std::vector<RequestRouting>> routings(static_cast<size_t>(sequences));
    for (std::vector<RequestRouting>& own : routings)
        for (const char* policy :
             {"top-k:1", "top-k:2,ban=1.3,force=0.5", "top-p:0.6", "mean:3", "top-k:6",
              "mean:2/3/4", "speed:20,max=5", "relative:0.3,shared=off", "plan:p"})
            own.emplace_back(model.config(), RoutingPolicy::parse(policy));
    std::vector<KvCache> caches;
    for (int i = 0; i < sequences; ++i) caches.emplace_back(model.config(), 48, DType::f16);
    ForwardContext context(model, team, sequences, compute);
    std::vector<BatchRow> rows(static_cast<size_t>(sequences));
    int64_t before = 0;
    for (int step = 0; step < 40; ++step) {
        if (step == 8) before = allocations;
        for (size_t i = 0; i < rows.size(); ++i) {
            // The first step takes every expert: memory grows with the most activations seen.
            const size_t policy = step == 0 ? 4 : (i + static_cast<size_t>(step)) % kPolicies;
            RequestRouting& routing = routings[i][policy];
            rows[i] = {static_cast<int32_t>(5 + i), &caches[i], &routing, true};
        }
        context.forward(rows);
        context.logits(0, sequences);
        for (size_t i = 0; i < rows.size(); ++i)
            rows[i].routing->pace(context.experts_of(static_cast<int>(i)), 0.01);
    }
    EXPECT_GT(before, 0);  // they are counted
    EXPECT_EQ(allocations - before, 0);
}

std::string precision_name(const ::testing::TestParamInfo<std::pair<Compute, int>>& info) {
    const char* compute = info.param.first == Compute::f32 ? "f32_" : "int8_";
    return compute + std::to_string(info.param.second);
}

INSTANTIATE_TEST_SUITE_P(Precisions, ForwardAllocation,
                         ::testing::Values(std::pair{Compute::f32, 4}, std::pair{Compute::f32, 16},
                                           std::pair{Compute::int8, 4},
                                           std::pair{Compute::int8, 16}),
                         precision_name);

}  // namespace
}  // namespace muster

#endif
