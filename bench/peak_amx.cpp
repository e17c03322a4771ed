// SPDX-License-Identifier: Apache-2.0
#include "muster/cpu/vec_avx512.h"
#include "peak_kernels.h"

namespace muster::bench {
namespace {

constexpr int kChains = 4;  // accumulators of 16 x 16; more than latency times throughput
constexpr int kSide = 16;

float bf16(int64_t rounds) noexcept {
    struct alignas(64) {
        uint8_t palette = 1, rest[15] = {};
        uint16_t row_bytes[16] = {};
        uint8_t rows[16] = {};
    } shapes;
    for (int i = 0; i < kChains + 2; ++i) {
        shapes.row_bytes[i] = 4 * kSide;
        shapes.rows[i] = kSide;
    }
    __asm__ volatile("" ::: "memory");  // g++ 12 does not know that tile instructions read memory
    _tile_loadconfig(&shapes);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    for (int64_t i = 0; i < rounds; ++i) {
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 5);
        _tile_dpbf16ps(2, 4, 5);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_release();
    return 0;
}

}  // namespace

PeakKernels peak_kernels_amx() noexcept {
    PeakKernels kernels = peak_kernels_avx512();
    kernels.bf16 = bf16;
    kernels.bf16_operations_per_round = 2.0 * kChains * kSide * kSide * 2 * kSide;
    return kernels;
}

}  // namespace muster::bench
