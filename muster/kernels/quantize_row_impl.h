// SPDX-License-Identifier: Apache-2.0
// Quantising activations with vectors; included only by panel_product_<isa>.cpp. The steps are
// those of the reference in quantized_rows.cpp, and so are the results, bit by bit.
#pragma once

#include "muster/kernels/panel_product_kernels.h"

namespace muster {
namespace {

/// Values [from, from + kReach) of a chunk that has n.
template <int kReach>
void quantize_reach(const float* x, int64_t n, int from, QuantizedChunk& out) noexcept {
    Vec::F largest = Vec::zero(), bad = Vec::zero();  // x * 0 is NaN for NaN and infinities
    for (int k = from; k < from + kReach && k < n; k += Vec::kLanes) {
        const Vec::F v = Vec::load_part(x + k, n - k);
        largest = Vec::max(largest, Vec::abs(v));
        bad = Vec::fma(v, Vec::zero(), bad);
    }
    const float scale = Vec::largest(largest) / 127.0f + Vec::sum(bad);
    const float inverse = inverse_scale(scale);
    for (int k = from; k < from + kReach; k += Vec::kLanes) {
        const Vec::F v = k < n && inverse > 0 ? Vec::load_part(x + k, n - k) : Vec::zero();
        IVec::store_as_bytes(out.q + k, Vec::round(Vec::mul(v, Vec::set1(inverse))));
    }
    for (int g = from / 32; g < (from + kReach) / 32; ++g) out.scale[g] = scale;
}

void quantize(const float* x, int64_t n, ActivationScale scale, QuantizedChunk* out) noexcept {
    for (int64_t first = 0; first < n; first += kPanelChunk, ++out) {
        const int64_t count = n - first < kPanelChunk ? n - first : kPanelChunk;
        if (scale == ActivationScale::per_256) {
            quantize_reach<kPanelChunk>(x + first, count, 0, *out);
        } else {
            for (int from = 0; from < kPanelChunk; from += 32) {
                quantize_reach<32>(x + first, count, from, *out);
            }
        }
        for (int g = 0; g < 8; ++g) {
            const int32_t low = IVec::sum_bytes16(out->q + 32 * g);
            const int32_t high = IVec::sum_bytes16(out->q + 32 * g + 16);
            set_sums(*out, g, low, high, scale);
        }
    }
}

}  // namespace
}  // namespace muster
