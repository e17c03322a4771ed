// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "muster/core/error.h"

namespace muster {
namespace {

template <typename TimePoint>
double seconds_between(TimePoint a, TimePoint b) {
    return std::chrono::duration<double>(b - a).count();
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

size_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
    return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first -
                               a.begin());
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
        case StopReason::stop_string:
            return "a stop string was written";
    }
    return "";
}

bool SpeedOutcome::held() const noexcept {
    return std::abs(tokens_per_second - target) <= 0.05 * target;
}

std::string describe(const SpeedOutcome& o) {
    if (o.held() || o.tokens_per_second <= 0) return "";
    const std::string what = fmt::format("speed:{:.6g} ", o.target);
    if (o.expert_seconds == 0)
        return what + "was not held: so short an answer ends before anything is measured";
    const auto speed = [](double x) { return fmt::format("{:.{}f}", x, x < 100 ? 1 : 0); };
    const std::string came = fmt::format("{} tokens/s with {:.3g} experts per layer",
                                         speed(o.tokens_per_second), o.experts);
    if (o.reach == SpeedReach::held) return what + "was not held: " + came;
    const bool high = o.reach == SpeedReach::too_high;
    const std::string limit = high ? "the fewest" : "the most that the policy allows";
    const std::string text = what + (high ? "cannot be reached: " : "cannot be held: ") + came;
    if (std::abs(o.experts - o.limit_experts) < 0.005 * o.limit_experts) return text + ", " + limit;
    return text + fmt::format("; {:.3g}, {}, would give about {}", o.limit_experts, limit,
                              speed(o.limit_tokens_per_second));
}

RequestRouting generation_routing(const ModelConfig& config, const RoutingPolicy& policy) {
    RequestRouting routing(config, policy);
    if (routing.needs_whole_batch())
        throw Error("session", "policy `" + policy.to_string() +
                                   "` needs whole batches of tokens, expected one that decides "
                                   "token by token, such as top-k:2");
    return routing;
}

void Generation::check(const ModelConfig& config, std::span<const int32_t> prompt, int context,
                       const GenerateOptions& options) {
    if (prompt.empty()) throw Error("session", "the prompt is empty, expected at least one token");
    if (prompt.size() > static_cast<size_t>(context))
        throw Error("session", "the prompt has " + std::to_string(prompt.size()) +
                                   " tokens, expected at most " + std::to_string(context) +
                                   ", the context");
    for (const int32_t id : prompt)
        if (id < 0 || id >= config.vocab)
            throw Error("session", "token id " + std::to_string(id) + ", expected 0 to " +
                                       std::to_string(config.vocab - 1));
    options.sampler.check();
}

Generation::Generation(const GenerationPlace& place, std::vector<int32_t> prompt,
                       GenerateOptions options)
    : place_(place),
      prompt_(std::move(prompt)),
      options_(std::move(options)),
      sampler_(options_.sampler),
      stops_(options_.stop),
      started_(Clock::now()),
      written_(started_) {
    const int context = place.cache.capacity();
    check(place.model.config(), prompt_, context, options_);
    // The last token is always computed: its logits are needed.
    read_ = std::min(common_prefix(prompt_, place.cache.tokens()), prompt_.size() - 1);
    read_ = static_cast<size_t>(place.routing.resume(static_cast<int>(read_)));
    place.cache.truncate(static_cast<int>(read_));
    result_.prompt_tokens = static_cast<int>(prompt_.size());
    result_.reused_tokens = static_cast<int>(read_);
    const int room = context - result_.prompt_tokens + 1;
    result_.tokens.reserve(
        static_cast<size_t>(options_.max_tokens >= 0 ? std::min(options_.max_tokens, room) : room));
    if (place.routing.timed()) paces_.reserve(result_.tokens.capacity());
}

int Generation::rows_left() const noexcept {
    if (finished_) return 0;
    if (!reading()) return 1;
    return std::min(static_cast<int>(prompt_.size() - read_),
                    place_.routing.rows_until_update(static_cast<int64_t>(read_)));
}

void Generation::add_rows(int count, std::vector<BatchRow>& rows) {
    MUSTER_ASSERT(count >= 1 && count <= rows_left());
    given_ = count;
    if (!reading()) {
        rows.push_back({token_.id, &place_.cache, &place_.routing, true});
        return;
    }
    const size_t end = read_ + static_cast<size_t>(count);
    for (size_t t = read_; t < end; ++t)
        rows.push_back({prompt_[t], &place_.cache, &place_.routing, t + 1 == prompt_.size()});
}

bool Generation::enough() const noexcept {
    return options_.max_tokens >= 0 &&
           static_cast<int>(result_.tokens.size()) >= options_.max_tokens;
}

bool Generation::is_end(int32_t token) const noexcept {
    return !options_.ignore_end &&
           std::binary_search(place_.end_tokens.begin(), place_.end_tokens.end(), token);
}

void Generation::note_prompt(int count) {
    read_ += static_cast<size_t>(count);
    const bool go_on =
        !options_.progress || options_.progress("reading the prompt", static_cast<int64_t>(read_),
                                                static_cast<int64_t>(prompt_.size()));
    if (reading()) {
        if (!go_on) finish(StopReason::callback);
        return;
    }
    last_ = written_ = Clock::now();
    result_.prompt_seconds = seconds_between(started_, written_);
    if (enough()) finish(StopReason::max_tokens);
}

void Generation::take(std::span<const float> logits, int row, std::span<const int32_t> experts) {
    if (reading()) {
        note_prompt(given_);
    } else if (place_.routing.timed()) {
        pace(experts);
    }
    if (finished_ || reading()) return;
    if (!std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }))
        throw Error("model", "a logit is NaN or infinite: the weights or the cache are damaged");
    const Sampled next = sampler_.sample(logits);
    if (is_end(next.token)) return finish(StopReason::end_of_text);
    token_.row = row;
    write(next, experts);
}

void Generation::pace(std::span<const int32_t> experts) {
    const auto now = Clock::now();
    const double seconds = seconds_between(last_, now);
    last_ = now;
    place_.routing.pace(experts, seconds);
    paces_.push_back({static_cast<float>(seconds),
                      static_cast<float>(mean_over_moe_layers(place_.model.config(), experts))});
}

std::optional<SpeedOutcome> Generation::speed_outcome() const {
    constexpr size_t kSettling = 64;
    const SpeedController* speed = place_.routing.speed();
    if (speed == nullptr) return std::nullopt;
    SpeedOutcome out{.target = speed->target(),
                     .fixed_seconds = speed->fixed_seconds(),
                     .expert_seconds = speed->expert_seconds()};
    double seconds = 0;
    const size_t first = std::min(kSettling, paces_.size() / 2);
    for (size_t i = first; i < paces_.size(); ++i) {
        seconds += paces_[i].seconds;
        out.experts += paces_[i].experts;
    }
    const auto tokens = static_cast<double>(paces_.size() - first);
    if (tokens == 0 || seconds <= 0) return out;
    out.tokens_per_second = tokens / seconds;
    out.experts /= tokens;
    if (out.held()) return out;
    out.reach = speed->reach(out.tokens_per_second, out.experts);
    if (out.reach == SpeedReach::held) return out;
    out.limit_experts = speed->limit(out.reach);
    out.limit_tokens_per_second =
        speed->speed_with(out.limit_experts, out.tokens_per_second, out.experts);
    return out;
}

void Generation::write(const Sampled& next, std::span<const int32_t> experts) {
    token_.id = next.token;
    token_.text = stops_.push(characters_.push(place_.model.tokenizer().token_bytes(next.token)));
    token_.experts = experts;
    token_.mean_experts = mean_over_moe_layers(place_.model.config(), experts);
    token_.loss = -next.log_probability;
    experts_ += token_.mean_experts;
    result_.tokens.push_back(next.token);
    if (!emit()) return finish(StopReason::callback);
    if (stops_.met()) return finish(StopReason::stop_string);
    if (enough()) return finish(StopReason::max_tokens);
    if (place_.cache.length() >= place_.cache.capacity()) finish(StopReason::context_full);
}

bool Generation::emit() {
    result_.text += token_.text;
    return !options_.on_token || options_.on_token(token_);
}

void Generation::finish(StopReason reason) {
    finished_ = true;
    result_.stop = reason;
    const auto now = Clock::now();
    if (reading()) {
        result_.prompt_seconds = seconds_between(started_, now);
    } else {
        result_.seconds = seconds_between(written_, now);
    }
    result_.speed = speed_outcome();
    const size_t tokens = result_.tokens.size();
    result_.mean_experts = tokens > 0 ? experts_ / static_cast<double>(tokens) : 0;
    token_ = {};
    token_.id = -1;
    token_.text = stops_.push(characters_.flush());
    token_.text += stops_.flush();
    if (!token_.text.empty()) emit();
}

void Generation::cancel() {
    if (!finished_) finish(StopReason::callback);
}

void Generation::fail(std::exception_ptr error) noexcept {
    finished_ = true;
    error_ = std::move(error);
}

GenerateResult Generation::result() {
    MUSTER_ASSERT(finished_);
    if (error_) std::rethrow_exception(error_);
    return std::move(result_);
}

}  // namespace muster
