// SPDX-License-Identifier: Apache-2.0
#include "muster/quant/quantize_impl.h"

namespace muster {

Quantizer quantizer_avx2(DType dtype) noexcept { return quantizer_of(dtype); }

}  // namespace muster
