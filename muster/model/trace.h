// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "muster/core/tensor_view.h"
#include "muster/experts/moe.h"
#include "muster/routing/route_table.h"

namespace muster {

class RequestRouting;

/// The rows of one forward pass: what stands where.
struct RowInfo {
    std::span<const int32_t> tokens;     ///< [T]
    std::span<const int64_t> positions;  ///< [T]
    std::span<const int32_t> sequences;  ///< [T] numbered by first appearance in the batch
    std::span<const RequestRouting* const> routing;  ///< [T] null under fixed routes
};

/// What happened in one MoE layer; valid during the call only.
struct LayerTrace {
    int layer = 0;
    const RowInfo& rows;
    const RouteTable& routes;
    MatrixView<const float> logits;  ///< [T, E] router logits
    MatrixView<const float> scores;  ///< [T, E]; no data under fixed routes
};

/// Records routing. Called once per MoE layer of a forward pass, from the calling thread. Dense
/// layers do not report.
class TraceSink {
  public:
    virtual ~TraceSink() = default;
    virtual void layer(const LayerTrace& trace) = 0;
};

/// Changes what a forward pass does, for counterfactual measurements. Called from the calling
/// thread.
class Intervention {
  public:
    virtual ~Intervention() = default;
    /// Whether layer `l` is touched at all; untouched layers take the ordinary path.
    virtual bool touches(int l) const = 0;
    /// May change the router logits [T, E] before the selection.
    virtual void before_route(int /*l*/, const RowInfo& /*rows*/, MatrixView<float> /*logits*/) {}
    /// May change the routes; must leave a valid table of the same tokens.
    virtual void after_route(int /*l*/, const RowInfo& /*rows*/, RouteTable& /*routes*/) {}
    /// May change the output [T, d] of the layer's feed-forward part before it is added.
    virtual void after_experts(int /*l*/, const RowInfo& /*rows*/, MatrixView<float> /*y*/) {}
};

/// What the experts of one layer are given; valid during the call only.
struct ExpertActivations {
    int layer = 0;
    const ExpertBank& bank;
    MatrixView<const float> x;       ///< [T, d] input of gate and up
    const MoeSaved& saved;           ///< who was given which row, and the pre-activations
    MatrixView<const float> logits;  ///< [T, E] router logits; no data for dense and shared experts
};

/// Sees what a forward pass multiplies with its weights, for statistics (importance matrices).
/// Called from the calling thread. Weights must lie in rows and the context must not compute in
/// Compute::int8 (asserted).
class ActivationSink {
  public:
    virtual ~ActivationSink() = default;
    /// x [T, w.cols] is multiplied with w: attention, router, head.
    virtual void product(const WeightMatrix& w, MatrixView<const float> x) = 0;
    /// The experts, or shared experts, of a layer.
    virtual void experts(const ExpertActivations& activations) = 0;
};

/// Sees the residual stream. Called after each layer of a forward pass, dense ones included, from
/// the calling thread.
class ResidualSink {
  public:
    virtual ~ResidualSink() = default;
    /// x: [T, d], what the next layer, or the final norm, is given; valid during the call only.
    virtual void residual(int layer, const RowInfo& rows, MatrixView<const float> x) = 0;
};

}  // namespace muster
