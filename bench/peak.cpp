// SPDX-License-Identifier: Apache-2.0
#include "peak.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "muster/cpu/isa.h"
#include "peak_kernels.h"

namespace muster::bench {
namespace {

std::atomic<uint64_t> sink;

float scalar_f32(int64_t rounds) noexcept {
    float acc[16] = {};
    for (int64_t i = 0; i < rounds; ++i) {
        for (float& a : acc) a = a * 0.5f + 1.0f;
    }
    return acc[0] + acc[15];
}

uint64_t scalar_read(const std::byte* data, size_t bytes) noexcept {
    uint64_t sum = 0;
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t word;
        std::memcpy(&word, data + i, 8);
        sum += word;
    }
    return sum;
}

PeakKernels kernels() noexcept {
#if MUSTER_X86
    if (current_isa() == Isa::amx) return peak_kernels_amx();
    if (current_isa() == Isa::avx512) return peak_kernels_avx512();
    if (current_isa() == Isa::avx2) return peak_kernels_avx2();
#endif
    return {32, 0, scalar_f32, nullptr, 0, nullptr, scalar_read};
}

double peak(MeteredExecutor& executor, float (*loop)(int64_t) noexcept, double operations,
            double seconds) {
    if (loop == nullptr) return 0;
    // A hundred short tasks per worker, so that one that loses its core does not hold up the rest.
    const int tasks = 100 * executor.workers();
    int64_t rounds = 1000;
    double best = 0;
    for (const double end = executor.now() + seconds; executor.now() < end;) {
        const double start = executor.now();
        executor.run(tasks, [&](int, int) { sink += static_cast<uint64_t>(loop(rounds)); });
        const double elapsed = executor.now() - start;
        best = std::max(best, tasks * static_cast<double>(rounds) * operations / elapsed);
        if (elapsed < seconds / 10) rounds *= 2;
    }
    return best;
}

}  // namespace

double f32_peak(MeteredExecutor& executor, double seconds) {
    const PeakKernels k = kernels();
    return peak(executor, k.f32, k.operations_per_round, seconds);
}

double bf16_peak(MeteredExecutor& executor, double seconds) {
    const PeakKernels k = kernels();
    return peak(executor, k.bf16, k.bf16_operations_per_round, seconds);
}

double int8_peak(MeteredExecutor& executor, double seconds) {
    const PeakKernels k = kernels();
    return peak(executor, k.int8, k.int8_operations_per_round, seconds);
}

double read_bandwidth(MeteredExecutor& executor, const std::byte* data, size_t bytes) {
    const PeakKernels k = kernels();
    constexpr size_t kChunk = size_t{1} << 20;
    const size_t chunks = (bytes + kChunk - 1) / kChunk;
    const double start = executor.now();
    executor.run(static_cast<int>(chunks), [&](int task, int) {
        const size_t at = static_cast<size_t>(task) * kChunk;
        sink += k.read(data + at, std::min(kChunk, bytes - at));
    });
    return static_cast<double>(bytes) / (executor.now() - start);
}

}  // namespace muster::bench
