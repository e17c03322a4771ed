// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "muster/model/forward.h"

namespace muster {

/// A row of a window computed again from a layer on, apart from all others.
struct Branch {
    int token = 0;                      ///< row of the window
    RequestRouting* routing = nullptr;  ///< null: the window's own
};

/// A stretch of text under its ordinary routes, and what its losses become when something in one
/// layer is another: only that layer and those behind it are computed again, the positions before
/// are kept. Row t predicts token t + 1. Model and executor outlive it. Not thread-safe.
class Window {
  public:
    /// `rows`: the longest window in tokens. Routed by `policy`. Throws Error when the policy
    /// cannot work on the model.
    Window(const Model& model, Executor& executor, int rows, const RoutingPolicy& policy,
           Compute compute = Compute::f32, DType kv = DType::f32);

    /// Reads `tokens` (2 to `rows`). Throws Error as ForwardContext::forward does.
    void read(std::span<const int32_t> tokens);
    /// Rows with a loss: one less than tokens.
    int rows() const noexcept { return static_cast<int>(losses_.size()); }
    std::span<const float> losses() const noexcept { return losses_; }  ///< [rows()] nats
    const RouteTable& routes(int l) const noexcept { return layers_[l].routes; }
    /// Router logits of layer l [rows(), E]; no data for dense layers.
    MatrixView<const float> logits(int l) const noexcept;
    /// Scores of layer l [rows(), E] as they were selected by, without bias.
    MatrixView<const float> scores(int l) const noexcept;

    /// Losses of rows computed again from layer l on, each under a routing of its own or with
    /// routes that `touch` changes in layer l; losses[i] belongs to branches[i].
    void branch(int l, std::span<const Branch> branches, Intervention* touch,
                std::span<float> losses);
    /// Losses of the `wanted` rows (ascending) when the outputs of layer l are perturbed in all
    /// rows: y becomes y (1 + noise xi) elementwise, xi standard normal, a function of `stream`,
    /// row and element. What read() has made is read again before the next branch().
    void perturb(int l, double noise, uint64_t stream, std::span<const int> wanted,
                 std::span<float> losses);
    /// Losses of the `wanted` rows when all rows are routed by `routing` from layer l on, where the
    /// layers before route as they did. What read() has made is read again likewise.
    void reroute(int l, RequestRouting& routing, std::span<const int> wanted,
                 std::span<float> losses);

  private:
    struct Layer {
        std::vector<float> stream;  ///< [T, d] that enters it; none for the first
        std::vector<float> logits, scores;
        RouteTable routes;
    };
    class Recorder;

    void losses_of_wanted(std::span<const int> of, std::span<float> losses);
    void pass(RequestRouting& routing, std::span<const int> wanted, const PassOptions& options,
              int layer, std::span<float> losses);

    const Model& model_;
    ForwardContext context_;
    KvCache cache_;
    RequestRouting routing_;
    std::vector<int32_t> tokens_;
    std::vector<float> losses_;
    std::vector<Layer> layers_;
    std::vector<BatchRow> batch_;
    std::vector<BranchRow> branches_;
    std::vector<float> streams_;
    std::vector<int> targets_;
    std::vector<int32_t> next_;  ///< what wanted rows predict
    bool moved_ = false;         ///< the cache holds another pass than read()'s
};

}  // namespace muster
