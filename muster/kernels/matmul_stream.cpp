// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/matmul_stream.h"

#include <algorithm>

#include "muster/core/error.h"
#include "muster/quant/convert.h"

namespace muster {

const StreamKernels& stream_kernels_avx2() noexcept;
const StreamKernels& stream_kernels_avx512() noexcept;

namespace {

template <DType kDType>
void reference_product(const StreamProduct& p) noexcept {
    constexpr int64_t kChunk = 256;  // a multiple of every format's block
    const DecodeFn decode = decoder(kDType, Isa::generic);
    for (int64_t j = 0; j < p.rows; ++j) {
        const std::byte* row = p.w + j * p.row_bytes;
        for (int64_t i = 0; i < p.m; ++i) p.out[i * p.ldo + j] = 0;
        for (int64_t k = 0; k < p.cols; k += kChunk) {
            float values[kChunk];
            const int64_t n = std::min(kChunk, p.cols - k);
            decode(row + dtype_bytes(kDType, k), values, n);
            for (int64_t i = 0; i < p.m; ++i) {
                float sum = 0;
                for (int64_t c = 0; c < n; ++c) sum += values[c] * p.x[i][k + c];
                p.out[i * p.ldo + j] += sum;
            }
        }
    }
}

constexpr StreamKernels kReference{{reference_product<DType::f32>, reference_product<DType::f16>,
                                    reference_product<DType::bf16>,
                                    reference_product<DType::q8_0>}};

}  // namespace

int64_t stream_task_rows(const WeightMatrix& w, int64_t total, int workers) noexcept {
    constexpr int64_t kMost = int64_t{512} << 10, kLeast = int64_t{8} << 10;
    const int64_t bytes = std::clamp(total / (int64_t{16} * workers), kLeast, kMost);
    return std::clamp<int64_t>(bytes / std::max<int64_t>(1, w.row_bytes()), 4, kStreamTaskRows);
}

StreamFn stream_kernel(DType dtype, Isa isa) noexcept {
    switch (dtype) {  // exact products with these are for comparisons, their fast ones are int8
        case DType::q4_0:
            return reference_product<DType::q4_0>;
        case DType::q4_1:
            return reference_product<DType::q4_1>;
        case DType::q5_0:
            return reference_product<DType::q5_0>;
        case DType::q5_1:
            return reference_product<DType::q5_1>;
        case DType::q2_k:
            return reference_product<DType::q2_k>;
        case DType::q3_k:
            return reference_product<DType::q3_k>;
        case DType::q4_k:
            return reference_product<DType::q4_k>;
        case DType::q5_k:
            return reference_product<DType::q5_k>;
        case DType::q6_k:
            return reference_product<DType::q6_k>;
        case DType::iq4_nl:
            return reference_product<DType::iq4_nl>;
        case DType::iq4_xs:
            return reference_product<DType::iq4_xs>;
        case DType::mxfp4:
            return reference_product<DType::mxfp4>;
        default:
            break;
    }
    MUSTER_ASSERT(static_cast<size_t>(dtype) < 4);
    const StreamKernels* kernels = &kReference;
#if MUSTER_X86
    if (isa >= Isa::avx512) kernels = &stream_kernels_avx512();
    if (isa == Isa::avx2) kernels = &stream_kernels_avx2();
#endif
    (void)isa;
    return kernels->product[static_cast<size_t>(dtype)];
}

}  // namespace muster
