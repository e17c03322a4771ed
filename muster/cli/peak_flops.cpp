// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/peak_flops.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "muster/cpu/isa.h"

namespace muster::cli {
namespace {

constexpr int kRuns = 6;
constexpr long kRounds = 200'000;  // about a millisecond: the grain of the timing

internal::FmaLoop current_loop() {
#if defined(__x86_64__)
    switch (current_isa()) {
        case Isa::amx:
        case Isa::avx512:
            return internal::fma_loop_avx512;
        case Isa::avx2:
            return internal::fma_loop_avx2;
        case Isa::generic:
            break;
    }
#endif
    return internal::fma_loop_generic;
}

}  // namespace

namespace internal {

double fma_loop_generic(long rounds, float* sink) {
    constexpr int kSums = 32;  // independent, for the compiler to put into vectors
    float sums[kSums];
    for (int i = 0; i < kSums; ++i) sums[i] = 0.5f + 0.01f * static_cast<float>(i);
    for (long r = 0; r < rounds; ++r)
        for (float& s : sums) s = s * 0.999f + 0.001f;
    *sink = 0;
    for (const float s : sums) *sink += s;
    return 2.0 * kSums * static_cast<double>(rounds);
}

}  // namespace internal

double measure_peak_flops(Executor& executor, double seconds) {
    using Clock = std::chrono::steady_clock;
    const internal::FmaLoop loop = current_loop();
    const int workers = executor.workers();
    std::vector<double> operations(static_cast<size_t>(workers));
    std::vector<float> sinks(operations.size());
    double best = 0;
    for (int run = 0; run < kRuns; ++run) {
        const auto start = Clock::now();
        const auto end = start + std::chrono::duration<double>(seconds / kRuns);
        std::fill(operations.begin(), operations.end(), 0.0);
        executor.run(workers, [&](int task, int) {
            do {
                operations[task] += loop(kRounds, &sinks[task]);
            } while (Clock::now() < end);
        });
        double sum = 0;
        for (const double o : operations) sum += o;
        best = std::max(best, sum / std::chrono::duration<double>(Clock::now() - start).count());
    }
    return best;
}

}  // namespace muster::cli
