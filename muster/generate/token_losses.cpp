// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/token_losses.h"

#include <algorithm>

#include "muster/core/error.h"
#include "muster/kernels/softmax.h"

namespace muster {
namespace {

constexpr int kHeadRows = 32;  // rows of logits at a time: 32 * vocab floats

void refuse_timed(const RequestRouting& routing) {
    if (routing.timed())
        throw Error("evaluation", "policy `" + routing.policy().to_string() +
                                      "` follows the clock while text is written, expected one "
                                      "that does not, such as mean:2");
}

struct Scoring {
    ForwardContext& context;
    KvCache& cache;
    RequestRouting& routing;
    std::span<const int32_t> tokens;
    const LossOptions& options;
    TokenLosses out;
    std::vector<BatchRow> rows;

    /// Takes losses and experts of the wanted rows of the last pass; row 0 of it predicts token
    /// `first` + 1.
    void take(size_t first, size_t skipped) {
        const int wanted = context.wanted();
        const size_t layers = out.layers;
        wanted_losses(context, tokens.subspan(first + skipped + 1, wanted),
                      std::span(out.loss).subspan(first + skipped, wanted));
        if (options.sink != nullptr)
            options.sink->scored(first, static_cast<int>(skipped),
                                 std::span(out.loss).subspan(first + skipped, wanted));
        for (int i = 0; i < wanted; ++i) {
            const auto counts = context.experts_of(static_cast<int>(skipped) + i);
            std::copy(counts.begin(), counts.end(),
                      out.experts.begin() + (first + skipped + i) * layers);
        }
    }

    /// Scores the tokens [from, end) in a window that starts at `begin`.
    void window(size_t begin, size_t from, size_t end) {
        cache.truncate(0);
        PassOptions pass = options.pass;
        if (options.sink != nullptr) pass.trace = options.sink;
        // Row t predicts token t + 1, so the last token of the window needs no row.
        for (size_t first = begin, last = begin; first + 1 < end; first = last) {
            const int most =
                std::min(context.max_rows(), routing.rows_until_update(cache.length()));
            last = std::min(end - 1, first + static_cast<size_t>(most));
            rows.clear();
            for (size_t t = first; t < last; ++t)
                rows.push_back({tokens[t], &cache, &routing, t + 1 >= from});
            context.forward(rows, pass);
            take(first, from > first + 1 ? std::min(from - 1, last) - first : 0);
            const auto done = static_cast<int64_t>(std::max(from - 1, last));
            if (options.progress &&
                !options.progress("scoring", done, static_cast<int64_t>(out.loss.size())))
                throw Error("token losses", "the scoring was stopped");
        }
    }
};

}  // namespace

double negative_log_likelihood(std::span<const float> logits, int32_t target) noexcept {
    return log_sum_exp(logits) - logits[target];
}

void wanted_losses(ForwardContext& context, std::span<const int32_t> targets,
                   std::span<float> losses) {
    const int wanted = context.wanted();
    MUSTER_ASSERT(targets.size() == static_cast<size_t>(wanted) && losses.size() == targets.size());
    for (int begin = 0; begin < wanted; begin += kHeadRows) {
        const int n = std::min(kHeadRows, wanted - begin);
        const MatrixView<const float> logits = context.logits(begin, n);
        context.executor().run(n, [&](int i, int) {
            const std::span<const float> row(logits.row(i), static_cast<size_t>(logits.cols));
            losses[begin + i] =
                static_cast<float>(negative_log_likelihood(row, targets[begin + i]));
        });
    }
}

RequestRouting evaluation_routing(const ModelConfig& config, const RoutingPolicy& policy) {
    RequestRouting routing(config, policy);
    refuse_timed(routing);
    return routing;
}

TokenLosses token_losses(ForwardContext& context, KvCache& cache, RequestRouting& routing,
                         std::span<const int32_t> tokens, const LossOptions& options) {
    const int limit = std::min(context.model().config().context, cache.capacity());
    const int size = options.window > 0 ? options.window : limit;
    if (size < 2 || size > cache.capacity() + 1)
        throw Error("token losses", "a window of " + std::to_string(size) +
                                        " tokens, expected 2 to " +
                                        std::to_string(cache.capacity() + 1));
    const int stride = options.stride > 0 ? options.stride : std::max(1, size / 2);
    if (stride >= size)
        throw Error("token losses", "a stride of " + std::to_string(stride) +
                                        " tokens, expected less than the window of " +
                                        std::to_string(size));
    if (options.pass.fixed_routes.empty()) refuse_timed(routing);
    routing.restart();
    Scoring scoring{context, cache, routing, tokens, options, {}, {}};
    scoring.out.layers = context.model().config().num_layers();
    if (tokens.size() < 2) return std::move(scoring.out);
    for (const int32_t id : tokens)
        if (id < 0 || id >= context.model().config().vocab)
            throw Error("token losses",
                        "token id " + std::to_string(id) + " is not in the vocabulary");
    scoring.out.loss.resize(tokens.size() - 1);
    scoring.out.experts.resize((tokens.size() - 1) * scoring.out.layers);
    size_t scored = 1;  // the first token has no prediction
    for (size_t begin = 0; scored < tokens.size(); begin += stride) {
        const size_t end = std::min(tokens.size(), begin + size);
        scoring.window(begin, scored, end);
        scored = end;
    }
    return std::move(scoring.out);
}

}  // namespace muster
