// SPDX-License-Identifier: Apache-2.0
// The body of the fused multiply-add loop, for files that include a Vec of their instruction set.
#pragma once

namespace muster {
namespace {

double fma_loop(long rounds, float* sink) {
    // A fused multiply-add takes 4 cycles and two start per cycle, so 8 independent sums keep the
    // units busy; 12 leave room for longer latencies and still fit 16 registers.
    constexpr int kSums = 12;
    Vec::F sums[kSums];
    for (int i = 0; i < kSums; ++i) sums[i] = Vec::set1(0.5f + 0.01f * static_cast<float>(i));
    const Vec::F factor = Vec::set1(0.999f);  // the sums tend to 1: no overflow, no denormals
    const Vec::F term = Vec::set1(0.001f);
    for (long r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
        for (int i = 0; i < kSums; ++i) sums[i] = Vec::fma(sums[i], factor, term);
    }
    Vec::F all = sums[0];
    for (int i = 1; i < kSums; ++i) all = Vec::add(all, sums[i]);
    *sink = Vec::sum(all);
    return 2.0 * kSums * Vec::kLanes * static_cast<double>(rounds);
}

}  // namespace
}  // namespace muster
