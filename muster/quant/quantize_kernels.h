// SPDX-License-Identifier: Apache-2.0
// What quantize.cpp and convert.cpp take from each instruction set.
#pragma once

#include "muster/quant/convert.h"

namespace muster {

/// n values, whole blocks; weights: [n] of the squared errors, or null: all alike.
using QuantizeFn = void (*)(const float* values, const float* weights, std::byte* stored,
                            int64_t n) noexcept;

struct Quantizer {
    QuantizeFn weighted = nullptr;
    EncodeFn plain = nullptr;
};

/// Both null for the formats that convert.cpp encodes itself.
Quantizer quantizer_generic(DType dtype) noexcept;
Quantizer quantizer_avx2(DType dtype) noexcept;
Quantizer quantizer(DType dtype, Isa isa) noexcept;

}  // namespace muster
