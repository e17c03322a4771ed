// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "muster/quant/convert.h"

namespace muster {

/// One instruction set's conversions; a null entry falls back to the scalar reference.
struct ConvertKernels {
    DecodeFn decode_f16 = nullptr;
    DecodeFn decode_bf16 = nullptr;
    DecodeFn decode_q8_0 = nullptr;
    EncodeFn encode_f16 = nullptr;
    EncodeFn encode_bf16 = nullptr;
    EncodeFn encode_q8_0 = nullptr;
};

const ConvertKernels& convert_kernels_avx2() noexcept;
const ConvertKernels& convert_kernels_avx512() noexcept;

}  // namespace muster
