// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "muster/core/buffer.h"
#include "muster/core/executor.h"
#include "muster/experts/expert_bank.h"
#include "muster/kernels/matmul.h"
#include "muster/kernels/quantized_rows.h"
#include "muster/routing/route_table.h"

namespace muster {

/// A piece of work: some rows of the dispatch plan, all of one expert, and columns [first, last) of
/// what is computed for them.
struct MoeTask {
    int expert = 0;
    int kind = 0;
    int64_t first = 0, last = 0;
    int row_first = 0, row_last = 0;
};

/// Scratch memory of moe_forward and moe_backward, grown on demand and reused. One per caller.
struct MoeWorkspace {
    DispatchPlan plan;
    std::vector<MoeTask> tasks;
    /// Experts worked on by one worker each, by several, and with rows too few for panels.
    std::vector<int> whole, split, streamed;
    Buffer<const float*> operand_rows;     ///< [A] rows of x or dy as operands of the first product
    Buffer<float> operand;                 ///< copies that they point to, by token
    Buffer<const float*> x_rows, dy_rows;  ///< [A] rows of x and dy
    Buffer<float*> hidden_rows[5];         ///< [A] each: rows of the width of their expert
    Buffer<float> hidden;                  ///< what they point to, for split experts
    Buffer<float> rows;                    ///< [A, d] results before the combine
    Buffer<float> dots;                    ///< partial sums of the combine weights' gradients
    Buffer<float> scratch;                 ///< per worker
    QuantizedRows quantized[2];            ///< [T] rows of x, by ActivationScale
    Buffer<const QuantizedChunk*> quantized_rows[2];  ///< [A] the same by row of the plan
    QuantizedRows hidden_quantized;                   ///< [A] hidden rows
};

/// What forward keeps for backward. Row r of the dispatch plan owns `width(expert of r)`
/// consecutive values at row_offsets[r] of each buffer.
struct MoeSaved {
    DispatchPlan plan;
    std::vector<int64_t> row_offsets;  ///< [A + 1]
    Buffer<float> gate;                ///< gate pre-activations (gated experts only)
    Buffer<float> up;                  ///< up pre-activations
};

/// y [T, d] (=|+=) sum over the token's experts of weight * expert(x): gather, gate and up product,
/// activation, down product, weighted combine, as one pass over (expert, tile) pairs. Nothing is
/// computed for experts without rows. The combine walks the route table's order, so results depend
/// neither on the number of workers nor on the schedule. x, y: [T, d] f32, may not overlap. Under
/// Compute::int8 a bank whose matrices all have block formats is multiplied in integers, tokens and
/// hidden rows quantised; any other bank as effective_compute() says of its up matrices.
/// `saved`, when given, is filled for moe_backward. Shapes are asserted; call bank.check() once
/// before.
void moe_forward(const ExpertBank& bank, const RouteTable& routes, MatrixView<const float> x,
                 MatrixView<float> y, MoeWorkspace& workspace, Executor& executor,
                 Compute compute = Compute::f32, bool accumulate = false,
                 MoeSaved* saved = nullptr);

/// Gradients of one expert's weights, f32, in the shapes of the weights; added to, not overwritten,
/// when `accumulate`. Null data: not wanted.
struct ExpertGradients {
    MatrixView<float> gate, up, down;
    std::span<float> gate_bias, up_bias, down_bias;
};

/// dy: [T, d]. dx [T, d] (overwritten; null data: not wanted), dweights [A] in the route table's
/// order (overwritten), experts: [E]. Weights in f32 or bf16. Experts without rows get zero
/// gradients (or none added).
void moe_backward(const ExpertBank& bank, const RouteTable& routes, const MoeSaved& saved,
                  MatrixView<const float> x, MatrixView<const float> dy, MatrixView<float> dx,
                  std::span<float> dweights, std::span<const ExpertGradients> experts,
                  MoeWorkspace& workspace, Executor& executor, Compute compute = Compute::f32,
                  bool accumulate = false);

}  // namespace muster
