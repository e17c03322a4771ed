// SPDX-License-Identifier: Apache-2.0
#include "muster/counterfactual/window.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/generate/token_losses.h"

namespace muster {
namespace {

/// y (1 + noise xi).
class Perturbation final : public Intervention {
  public:
    Perturbation(int layer, double noise, uint64_t stream, Executor& executor)
        : layer_(layer), noise_(noise), stream_(stream), executor_(executor) {}

    bool touches(int l) const override { return l == layer_; }
    void after_experts(int /*l*/, const RowInfo& rows, MatrixView<float> y) override {
        executor_.run(static_cast<int>(y.rows), [&](int t, int) {
            Random random(mix64(
                stream_ + mix64(static_cast<uint64_t>(rows.positions[static_cast<size_t>(t)]))));
            float* row = y.row(t);
            for (int64_t i = 0; i < y.cols; ++i)
                row[i] *= static_cast<float>(1 + noise_ * random.normal());
        });
    }

  private:
    int layer_;
    double noise_;
    uint64_t stream_;
    Executor& executor_;
};

}  // namespace

/// Keeps what passes over a window show.
class Window::Recorder final : public ResidualSink, public TraceSink {
  public:
    explicit Recorder(std::vector<Layer>& layers) : layers_(layers) {
        for (Layer& layer : layers_) {
            for (auto* list : {&layer.stream, &layer.logits, &layer.scores}) list->clear();
            layer.routes.clear(0);
        }
    }
    void residual(int l, const RowInfo& /*rows*/, MatrixView<const float> x) override {
        if (l + 1 < static_cast<int>(layers_.size())) append(layers_[l + 1].stream, x);
    }
    void layer(const LayerTrace& trace) override {
        Layer& kept = layers_[trace.layer];
        append(kept.logits, trace.logits);
        append(kept.scores, trace.scores);
        RouteTable& routes = kept.routes;
        routes.num_experts = trace.routes.num_experts;
        const int before = routes.activations();
        const auto& add = trace.routes;
        routes.experts.insert(routes.experts.end(), add.experts.begin(), add.experts.end());
        routes.weights.insert(routes.weights.end(), add.weights.begin(), add.weights.end());
        for (int t = 0; t < add.tokens(); ++t)
            routes.offsets.push_back(before + add.offsets[static_cast<size_t>(t) + 1]);
    }

  private:
    static void append(std::vector<float>& to, MatrixView<const float> x) {
        for (int64_t t = 0; t < x.rows; ++t) to.insert(to.end(), x.row(t), x.row(t) + x.cols);
    }
    std::vector<Layer>& layers_;
};

Window::Window(const Model& model, Executor& executor, int rows, const RoutingPolicy& policy,
               Compute compute, DType kv)
    : model_(model),
      context_(model, executor, std::min(rows, 256), compute),
      cache_(model.config(), rows, kv),
      routing_(model.config(), policy),
      layers_(model.config().layers.size()) {
    MUSTER_ASSERT(rows >= 2);
    if (routing_.needs_whole_batch() || routing_.controlled())
        throw Error("counterfactual", "policy " + policy.to_string() +
                                          " depends on other tokens, expected one that routes "
                                          "each token by itself");
}

MatrixView<const float> Window::logits(int l) const noexcept {
    const int experts = model_.config().layers[l].experts();
    return {layers_[l].logits.empty() ? nullptr : layers_[l].logits.data(), rows(), experts};
}

MatrixView<const float> Window::scores(int l) const noexcept {
    const int experts = model_.config().layers[l].experts();
    return {layers_[l].scores.empty() ? nullptr : layers_[l].scores.data(), rows(), experts};
}

/// Of all wanted rows of the last pass, which are rows `of` of the window.
void Window::losses_of_wanted(std::span<const int> of, std::span<float> losses) {
    next_.clear();
    for (const int t : of) next_.push_back(tokens_[static_cast<size_t>(t) + 1]);
    wanted_losses(context_, next_, losses);
}

/// The whole window from `layer` on; losses of its `wanted` rows.
void Window::pass(RequestRouting& routing, std::span<const int> wanted, const PassOptions& options,
                  int layer, std::span<float> losses) {
    cache_.truncate(0);
    const int d = model_.config().d_model, all = rows();
    size_t next = 0;
    for (int first = 0; first < all; first += context_.max_rows()) {
        const int last = std::min(all, first + context_.max_rows());
        batch_.clear();
        const size_t begin = next;
        for (int t = first; t < last; ++t) {
            const bool want = next < wanted.size() && wanted[next] == t;
            next += want;
            batch_.push_back({tokens_[static_cast<size_t>(t)], &cache_, &routing, want});
        }
        PassOptions part = options;
        if (layer > 0)
            part.start = {layer,
                          {layers_[layer].stream.data() + int64_t{first} * d, last - first, d}};
        context_.forward(batch_, part);
        losses_of_wanted(wanted.subspan(begin, next - begin), losses.subspan(begin, next - begin));
    }
}

void Window::read(std::span<const int32_t> tokens) {
    MUSTER_ASSERT(tokens.size() >= 2 && tokens.size() <= static_cast<size_t>(cache_.capacity()));
    tokens_.assign(tokens.begin(), tokens.end());
    losses_.resize(tokens.size() - 1);
    targets_.resize(losses_.size());
    std::iota(targets_.begin(), targets_.end(), 0);
    Recorder recorder(layers_);
    pass(routing_, targets_, {.trace = &recorder, .residual = &recorder}, 0, losses_);
    moved_ = false;
}

void Window::branch(int l, std::span<const Branch> branches, Intervention* touch,
                    std::span<float> losses) {
    MUSTER_ASSERT(branches.size() == losses.size());
    if (moved_) {
        std::vector<float> unused;
        pass(routing_, {}, {}, 0, unused);
        moved_ = false;
    }
    const auto d = static_cast<size_t>(model_.config().d_model);
    const auto most = static_cast<size_t>(context_.max_rows());
    for (size_t first = 0; first < branches.size(); first += most) {
        const size_t count = std::min(most, branches.size() - first);
        branches_.clear(), streams_.clear(), targets_.clear();
        for (const Branch& b : branches.subspan(first, count)) {
            branches_.push_back({&cache_, b.token, b.routing != nullptr ? b.routing : &routing_});
            targets_.push_back(b.token);
            if (l == 0) continue;
            const float* row = layers_[l].stream.data() + static_cast<size_t>(b.token) * d;
            streams_.insert(streams_.end(), row, row + d);
        }
        PassOptions options;
        options.intervention = touch;
        if (l > 0)
            options.start = {
                l, {streams_.data(), static_cast<int64_t>(count), static_cast<int64_t>(d)}};
        context_.branch(branches_, options);
        losses_of_wanted(targets_, losses.subspan(first, count));
    }
}

void Window::perturb(int l, double noise, uint64_t stream, std::span<const int> wanted,
                     std::span<float> losses) {
    Perturbation touch(l, noise, stream, context_.executor());
    pass(routing_, wanted, {.intervention = &touch}, l, losses);
    moved_ = true;
}

void Window::reroute(int l, RequestRouting& routing, std::span<const int> wanted,
                     std::span<float> losses) {
    MUSTER_ASSERT(!routing.controlled());
    pass(routing, wanted, {}, l, losses);
    moved_ = true;
}

}  // namespace muster
