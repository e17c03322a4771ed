// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/session.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "muster/core/error.h"
#include "muster/generate/utf8_stream.h"

namespace muster {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

double mean_over_moe_layers(const ModelConfig& config, std::span<const int32_t> experts) {
    double sum = 0;
    int layers = 0;
    for (size_t l = 0; l < experts.size(); ++l) {
        if (config.layers[l].dense()) continue;
        sum += experts[l];
        ++layers;
    }
    return layers > 0 ? sum / layers : 0;
}

int context_of(const Model& model, const SessionOptions& options) {
    const int context = options.context > 0 ? options.context : model.config().context;
    if (options.context < 0)
        throw Error("session",
                    "context " + std::to_string(options.context) + ", expected 1 or more");
    return context;
}

size_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
    return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

}  // namespace

std::string describe(StopReason reason, int context) {
    switch (reason) {
        case StopReason::end_of_text:
            return "the model ended its text";
        case StopReason::max_tokens:
            return "the number of tokens asked for is reached";
        case StopReason::context_full:
            return "the context of " + std::to_string(context) + " tokens is full";
        case StopReason::callback:
            return "stopped";
    }
    return "";
}

Session::Session(const Model& model, Executor& executor, const SessionOptions& options)
    : model_(model),
      options_(options),
      routing_(model.config(), options.policy),
      cache_(model.config(), context_of(model, options)),
      forward_(model, executor, std::max(1, std::min(options.max_rows, cache_.capacity()))) {
    if (routing_.needs_whole_batch())
        throw Error("session", "policy `" + options.policy.to_string() +
                                   "` needs whole batches of tokens, expected one that decides "
                                   "token by token, such as top-k:2");
    rows_.reserve(forward_.max_rows());
}

bool Session::prefill(std::span<const int32_t> tokens, const Progress& progress) {
    const PassOptions pass{.trace = options_.trace,
                           .intervention = nullptr,
                           .fixed_routes = {},
                           .seed = options_.seed};
    const size_t most = forward_.max_rows();
    for (size_t i = 0; i < tokens.size(); i += most) {
        const size_t end = std::min(tokens.size(), i + most);
        rows_.clear();
        for (size_t t = i; t < end; ++t)
            rows_.push_back({tokens[t], &cache_, &routing_, t + 1 == tokens.size()});
        forward_.forward(rows_, pass);
        if (progress && !progress("reading the prompt", static_cast<int64_t>(end),
                                  static_cast<int64_t>(tokens.size())))
            return end == tokens.size();
    }
    return true;
}

/// What generate() writes and how it goes on.
struct Session::Writing {
    const GenerateOptions& options;
    GenerateResult result;
    Utf8Stream stream;
    double experts = 0;

    /// Passes a token on; false: the callback wants no more.
    bool emit(GeneratedToken& token) {
        result.text += token.text;
        return !options.on_token || options.on_token(token);
    }
    void flush() {
        GeneratedToken rest;
        rest.id = -1;
        rest.text = stream.flush();
        if (!rest.text.empty()) emit(rest);
    }
};

StopReason Session::write(Writing& w) {
    const ModelConfig& config = model_.config();
    const int32_t end = model_.tokenizer().vocabulary().eos;
    const PassOptions pass{.trace = options_.trace,
                           .intervention = nullptr,
                           .fixed_routes = {},
                           .seed = options_.seed};
    Sampler sampler(w.options.sampler);
    const auto enough = [&] {
        return w.options.max_tokens >= 0 &&
               static_cast<int>(w.result.tokens.size()) >= w.options.max_tokens;
    };
    int row = forward_.rows() - 1;
    while (!enough()) {
        const MatrixView<const float> logits = forward_.logits(0, 1);
        const std::span<const float> values(logits.data, static_cast<size_t>(logits.cols));
        if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
            throw Error("model",
                        "a logit is NaN or infinite: the weights or the cache are damaged");
        const Sampled next = sampler.sample(values);
        if (next.token == end && !w.options.ignore_end) return StopReason::end_of_text;
        GeneratedToken token;
        token.id = next.token;
        token.text = w.stream.push(model_.tokenizer().token_bytes(next.token));
        token.experts = forward_.experts_of(row);
        token.mean_experts = mean_over_moe_layers(config, token.experts);
        token.loss = -next.log_probability;
        w.experts += token.mean_experts;
        w.result.tokens.push_back(next.token);
        if (!w.emit(token)) return StopReason::callback;
        if (enough()) break;
        if (cache_.length() >= cache_.capacity()) return StopReason::context_full;
        const BatchRow input{next.token, &cache_, &routing_, true};
        forward_.forward({&input, 1}, pass);
        row = 0;
    }
    return StopReason::max_tokens;
}

GenerateResult Session::generate(std::span<const int32_t> prompt, const GenerateOptions& options) {
    if (prompt.empty()) throw Error("session", "the prompt is empty, expected at least one token");
    if (prompt.size() > static_cast<size_t>(cache_.capacity()))
        throw Error("session", "the prompt has " + std::to_string(prompt.size()) +
                                   " tokens, expected at most " +
                                   std::to_string(cache_.capacity()) + ", the context");
    options.sampler.check();
    Writing w{options, {}, {}, 0};
    // The last token is always computed: its logits are needed.
    const size_t reused = std::min(common_prefix(prompt, cache_.tokens()), prompt.size() - 1);
    cache_.truncate(static_cast<int>(reused));
    w.result.prompt_tokens = static_cast<int>(prompt.size());
    w.result.reused_tokens = static_cast<int>(reused);
    const auto start = Clock::now();
    const bool read = prefill(prompt.subspan(reused), options.progress);
    w.result.prompt_seconds = seconds_since(start);
    const auto written = Clock::now();
    w.result.stop = read ? write(w) : StopReason::callback;
    w.flush();
    w.result.seconds = seconds_since(written);
    const size_t tokens = w.result.tokens.size();
    w.result.mean_experts = tokens > 0 ? w.experts / static_cast<double>(tokens) : 0;
    return std::move(w.result);
}

CacheIdentity Session::identity() const { return {model_.hash(), routing_.policy().to_string()}; }

void Session::save_cache(const std::filesystem::path& path) const {
    cache_.save(path, identity(), routing_.controller_state());
}

int Session::load_cache(const std::filesystem::path& path) {
    const std::vector<double> state = cache_.load(path, identity());
    try {
        routing_.restore_controllers(state);
    } catch (const Error&) {
        cache_.truncate(0);
        throw;
    }
    return cache_.length();
}

}  // namespace muster
