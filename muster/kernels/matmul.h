// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "muster/core/buffer.h"
#include "muster/core/executor.h"
#include "muster/core/tensor_view.h"
#include "muster/kernels/quantized_rows.h"

namespace muster {

/// Precision of products. f32: operands widened to f32. bf16: both operands rounded to bf16 (to
/// nearest, ties to even), products summed in f32. int8: weights in a block format are multiplied
/// as the integers that they are with activations quantised to 8 bits (quantized_rows.h), f16 and
/// bf16 weights as under bf16, f32 weights as under f32; for running models, not for gradients.
enum class Compute { f32, bf16, int8 };

/// What `compute` means for weights of this format: f32, bf16, or int8 for block formats only.
Compute effective_compute(Compute compute, DType dtype) noexcept;

/// What a product needs beside its operands, kept so that steady work allocates nothing. One per
/// caller.
struct MatmulWorkspace {
    QuantizedRows quantized;  ///< activations as integer products take them
    Buffer<const QuantizedChunk*> rows;
    Buffer<const float*> float_rows;
    Buffer<float> packed;  ///< of other products, for each worker
};

/// y [T, N] (=|+=) x [T, K] * w [N, K]^T. w in any format; WeightLayout::panels under int8 only.
/// For few rows (decode) weights are streamed once in their stored format and, but for int8,
/// operands are widened to f32, whatever `compute` says; for many rows panels of w are packed on
/// the fly. Shapes are checked (MUSTER_ASSERT). Results do not depend on the number of workers.
void matmul(MatrixView<const float> x, const WeightMatrix& w, MatrixView<float> y,
            Executor& executor, Compute compute = Compute::f32, bool accumulate = false,
            MatmulWorkspace* workspace = nullptr);

/// One of several products of the same x.
struct Product {
    const WeightMatrix* w;
    MatrixView<float> y;
};

/// y = x * w^T for each of `products` (at most 4), as by matmul(): integer products quantise x once
/// and share one run of tasks.
void matmul_each(MatrixView<const float> x, std::span<const Product> products, Executor& executor,
                 Compute compute, MatmulWorkspace& workspace);

/// dx [T, K] (=|+=) dy [T, N] * w [N, K]; w in f32 or bf16. The input gradient of matmul.
void matmul_input_gradient(MatrixView<const float> dy, const WeightMatrix& w, MatrixView<float> dx,
                           Executor& executor, Compute compute = Compute::f32,
                           bool accumulate = false);

/// dw [N, K] (=|+=) dy [T, N]^T * x [T, K]. The weight gradient of matmul.
void matmul_weight_gradient(MatrixView<const float> dy, MatrixView<const float> x,
                            MatrixView<float> dw, Executor& executor,
                            Compute compute = Compute::f32, bool accumulate = false);

}  // namespace muster
