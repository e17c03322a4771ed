// SPDX-License-Identifier: Apache-2.0
// One request on its way from prompt to answer, and the passes that many of them share.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "muster/core/progress.h"
#include "muster/generate/sampler.h"
#include "muster/generate/stop_strings.h"
#include "muster/generate/utf8_stream.h"
#include "muster/model/forward.h"

namespace muster {

enum class StopReason {
    end_of_text,   ///< the model wrote an end token
    max_tokens,    ///< as many tokens as were asked for
    context_full,  ///< no room for another token
    callback,      ///< the callback asked to stop, or the request was cancelled
    stop_string,   ///< one of the stop strings was written
};
/// One phrase for people, e.g. "the context of 2048 tokens is full".
std::string describe(StopReason reason, int context);

/// One token as it is written.
struct GeneratedToken {
    int32_t id = 0;
    std::string text;         ///< complete characters only; may be empty, then the rest follows
    double mean_experts = 0;  ///< routed experts of the row that predicted it, mean over MoE layers
    double loss = 0;          ///< -log p of the model itself, in nats
    int row = 0;              ///< of the last pass, that predicted it
    std::span<const int32_t> experts;  ///< [L] the same per layer (dense layers 0); during the call
};

struct GenerateOptions {
    int max_tokens = -1;  ///< -1: until the end of the text or of the context
    SamplerOptions sampler;
    bool ignore_end = false;        ///< go on after end tokens
    std::vector<std::string> stop;  ///< strings that end the answer; they do not belong to it
    /// Called per token, the end token excepted; return false to stop. May be empty. When it ends
    /// inside a character, a last call brings the bytes held back with id -1.
    std::function<bool(const GeneratedToken&)> on_token;
    Progress progress;  ///< of the prompt; return false to stop
};

/// How a `speed:` policy did.
struct SpeedOutcome {
    double target = 0;             ///< tokens per second
    double tokens_per_second = 0;  ///< of the tokens after the first 64, or of the last half
    double experts = 0;            ///< of the same tokens, mean over MoE layers
    /// Of a speed that was not held, whether it could be.
    SpeedReach reach = SpeedReach::held;
    /// Where it could not: the experts per layer at the end that it lies beyond, and their speed by
    /// the linear model.
    double limit_experts = 0;
    double limit_tokens_per_second = 0;
    /// The linear model of a token's cost: seconds beside the experts, and for one expert in every
    /// layer; 0 when too few tokens were written.
    double fixed_seconds = 0;
    double expert_seconds = 0;

    /// Within 5 % of the target.
    bool held() const noexcept;
};

/// What there is to say about a speed that was not held, e.g. "speed:500 cannot be reached: 212
/// tokens/s with 1 experts per layer, the fewest"; empty when it was.
std::string describe(const SpeedOutcome& outcome);

struct GenerateResult {
    std::vector<int32_t> tokens;  ///< without the end token
    std::string text;             ///< without the stop string
    StopReason stop = StopReason::max_tokens;
    int prompt_tokens = 0;
    int reused_tokens = 0;  ///< of the prompt, found in the cache
    double prompt_seconds = 0;
    double seconds = 0;       ///< of writing, without the prompt
    double mean_experts = 0;  ///< routed experts per written token, mean over MoE layers; 0 without
    std::optional<SpeedOutcome> speed;  ///< under `speed:`
};

/// The routing of a request: a sequence of its own. Throws Error when the policy cannot work on the
/// model or needs whole batches of tokens.
RequestRouting generation_routing(const ModelConfig& config, const RoutingPolicy& policy);

/// Where a generation lives; outlives it.
struct GenerationPlace {
    const Model& model;
    std::span<const int32_t> end_tokens;  ///< sorted
    KvCache& cache;
    RequestRouting& routing;
};

/// A prompt being read into a cache and an answer being written. It says which rows of the next
/// pass it wants and takes their outcome; it allocates nothing per token but for the texts. Not
/// thread-safe.
class Generation {
  public:
    /// The longest prefix of the prompt that the cache holds is kept, under controlled policies as
    /// far as the controllers' state is known. Throws Error when the prompt is empty, has ids
    /// outside the vocabulary or does not fit the cache, or the sampler's options make no sense.
    Generation(const GenerationPlace& place, std::vector<int32_t> prompt, GenerateOptions options);
    Generation(const Generation&) = delete;
    Generation& operator=(const Generation&) = delete;

    /// What a constructor would refuse. Throws Error.
    static void check(const ModelConfig& config, std::span<const int32_t> prompt, int context,
                      const GenerateOptions& options);

    bool finished() const noexcept { return finished_; }
    std::chrono::steady_clock::time_point started() const noexcept { return started_; }
    int reused_tokens() const noexcept { return result_.reused_tokens; }
    /// Rows that it could give to the next pass: tokens of the prompt left, as far as the routing
    /// allows, or the last token written; 0 when finished.
    int rows_left() const noexcept;
    bool reading() const noexcept { return read_ < prompt_.size(); }
    /// Appends its next `count` rows (1 to rows_left()); the last one is wanted when it is the
    /// prompt's last or a written token.
    void add_rows(int count, std::vector<BatchRow>& rows);
    /// The outcome of the rows added: `logits` [vocab] of the wanted one, or none; the number of
    /// the last one in the pass and its `experts` [L]. Throws Error when a logit is NaN or
    /// infinite, and what the callbacks throw.
    void take(std::span<const float> logits, int row, std::span<const int32_t> experts);

    /// Ends it, as by its callback.
    void cancel();
    /// Ends it with an error.
    void fail(std::exception_ptr error) noexcept;

    /// Once finished: the result, or what fail() was given is thrown.
    GenerateResult result();

  private:
    using Clock = std::chrono::steady_clock;
    /// Of a written token.
    struct Pace {
        float seconds, experts;
    };
    bool enough() const noexcept;
    bool is_end(int32_t token) const noexcept;
    void note_prompt(int count);
    void write(const Sampled& next, std::span<const int32_t> experts);
    bool emit();
    void finish(StopReason reason);
    void pace(std::span<const int32_t> experts);
    std::optional<SpeedOutcome> speed_outcome() const;

    GenerationPlace place_;
    std::vector<int32_t> prompt_;
    GenerateOptions options_;
    Sampler sampler_;
    Utf8Stream characters_;
    StopStrings stops_;
    GenerateResult result_;
    GeneratedToken token_;  ///< the last one written
    size_t read_ = 0;       ///< tokens of the prompt that the cache holds
    int given_ = 0;         ///< rows of the pass under way
    double experts_ = 0;    ///< sum over written tokens
    bool finished_ = false;
    std::exception_ptr error_;
    Clock::time_point started_, written_;  ///< written_: when the first token could be
    Clock::time_point last_;               ///< when the last token was
    std::vector<Pace> paces_;              ///< under `speed:`
};

/// Runs passes that generations share. Generations may come and go between passes. Not thread-safe.
class SharedPasses {
  public:
    /// `prompt_rows`: most rows of prompts in a pass that also writes, so that long prompts do not
    /// hold up the others; 0: as many as there is room for.
    SharedPasses(const Model& model, Executor& executor, int max_rows, Compute compute,
                 int prompt_rows = 0);

    /// One pass: a row of every generation that writes, then prompts, in the order given, as far as
    /// there is room. At most max_rows generations. Errors end the generation that they belong to;
    /// a pass that fails is run again for each generation alone.
    void run(std::span<Generation* const> generations, const PassOptions& options);

    ForwardContext& context() noexcept { return forward_; }

  private:
    struct Part {
        Generation* generation;
        int first, count;  ///< rows
        bool wanted;       ///< the last row
    };
    void plan(std::span<Generation* const> generations);
    void add(Generation& generation, int count);
    void forward(const PassOptions& options);
    void forward_apart(const PassOptions& options);
    void hand_out();

    ForwardContext forward_;
    int prompt_rows_;
    std::vector<BatchRow> rows_, alone_;
    std::vector<Part> parts_;
};

}  // namespace muster
