// SPDX-License-Identifier: Apache-2.0
#include "muster/quant/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "muster/core/error.h"
#include "muster/quant/quantize_impl.h"

namespace muster {
namespace {

// Columns that calibration never saw weigh this share of the mean: they are rounded well where that
// costs the others nothing.
constexpr double kLeastWeight = 1e-5;

std::vector<float> weights_of(std::span<const float> importance) {
    double sum = 0;
    for (const float value : importance) {
        if (!std::isfinite(value) || value < 0) {
            throw Error("quantize", fmt::format("an importance is {}, expected finite numbers of "
                                                "at least 0",
                                                value));
        }
        sum += value;
    }
    if (sum == 0) return {};
    const double mean = sum / static_cast<double>(importance.size());
    std::vector<float> weights(importance.size());
    for (size_t i = 0; i < weights.size(); ++i)
        weights[i] = static_cast<float>(std::max(importance[i] / mean, kLeastWeight));
    return weights;
}

}  // namespace

Quantizer quantizer_generic(DType dtype) noexcept { return quantizer_of(dtype); }

Quantizer quantizer(DType dtype, Isa isa) noexcept {
#if MUSTER_X86
    if (isa >= Isa::avx2) return quantizer_avx2(dtype);
#endif
    (void)isa;
    return quantizer_generic(dtype);
}

double largest_value(DType dtype, bool negative) noexcept {
    constexpr double kF16 = 65504;
    switch (dtype) {
        case DType::f32:
            return std::numeric_limits<float>::max();
        case DType::mxfp4:  // what f32 can say of it
            return 0x1.8p127;
        case DType::bf16:
            return 0x1.fep127;
        case DType::f16:
            return kF16;
        case DType::q8_0:
        case DType::iq4_nl:
            return 127 * kF16;
        case DType::iq4_xs:
            return 32 * 127 * kF16;
        case DType::q4_0:
            return 8 * kF16;
        case DType::q5_0:
            return 16 * kF16;
        // Below: a scale by a code, and a minimum of its own.
        case DType::q4_1:
            return negative ? kF16 : 16 * kF16;
        case DType::q5_1:
            return negative ? kF16 : 32 * kF16;
        case DType::q2_k:
            return negative ? 15 * kF16 : 3 * 15 * kF16;
        case DType::q4_k:
            return negative ? 63 * kF16 : 15 * 63 * kF16;
        case DType::q5_k:
            return negative ? 63 * kF16 : 31 * 63 * kF16;
        case DType::q3_k:
            return 4 * 32 * kF16;
        case DType::q6_k:
            return 32 * 128 * kF16;
        case DType::i32:
            break;
    }
    MUSTER_ASSERT(false);
}

void quantize_rows(DType dtype, const float* values, int64_t rows, int64_t cols,
                   std::span<const float> importance, std::byte* out, Isa isa) {
    const DTypeInfo& info = dtype_info(dtype);
    if (cols % info.block_elements != 0) {
        throw Error("quantize", fmt::format("rows have {} values, expected a multiple of {} for {}",
                                            cols, info.block_elements, info.name));
    }
    if (!importance.empty() && static_cast<int64_t>(importance.size()) != cols) {
        throw Error("quantize",
                    fmt::format("importance has {} values, expected {}", importance.size(), cols));
    }
    const std::vector<float> weights = weights_of(importance);
    const Quantizer functions = quantizer(dtype, isa);
    if (functions.weighted == nullptr || weights.empty()) {
        encoder(dtype, isa)(values, out, rows * cols);
        return;
    }
    const int64_t row_bytes = dtype_bytes(dtype, cols);
    for (int64_t r = 0; r < rows; ++r)
        functions.weighted(values + r * cols, weights.data(), out + r * row_bytes, cols);
}

}  // namespace muster
