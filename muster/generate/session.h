// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "muster/core/executor.h"
#include "muster/core/progress.h"
#include "muster/generate/sampler.h"
#include "muster/model/forward.h"

namespace muster {

struct SessionOptions {
    int context = 0;       ///< most tokens held; 0: the model's context length
    int max_rows = 256;    ///< rows of one prefill pass
    RoutingPolicy policy;  ///< `model`: the checkpoint's default
    uint64_t seed = 0;     ///< for random selection
    TraceSink* trace = nullptr;
};

enum class StopReason {
    end_of_text,   ///< the model wrote its end token
    max_tokens,    ///< as many tokens as were asked for
    context_full,  ///< no room for another token
    callback,      ///< the callback asked to stop
};
/// One phrase for people, e.g. "the context of 2048 tokens is full".
std::string describe(StopReason reason, int context);

/// One token as it is written.
struct GeneratedToken {
    int32_t id = 0;
    std::string text;         ///< complete characters only; may be empty, then the rest follows
    double mean_experts = 0;  ///< routed experts of the row that predicted it, mean over MoE layers
    double loss = 0;          ///< -log p of the model itself, in nats
    std::span<const int32_t> experts;  ///< [L] the same per layer (dense layers 0); during the call
};

struct GenerateOptions {
    int max_tokens = -1;  ///< -1: until the end of the text or of the context
    SamplerOptions sampler;
    bool ignore_end = false;  ///< go on after the end token
    /// Called per token, the end token excepted; return false to stop. May be empty. When it ends
    /// inside a character, a last call brings the bytes held back with id -1.
    std::function<bool(const GeneratedToken&)> on_token;
    Progress progress;  ///< of the prompt; return false to stop
};

struct GenerateResult {
    std::vector<int32_t> tokens;  ///< without the end token
    std::string text;
    StopReason stop = StopReason::max_tokens;
    int prompt_tokens = 0;
    int reused_tokens = 0;  ///< of the prompt, found in the cache
    double prompt_seconds = 0;
    double seconds = 0;       ///< of writing, without the prompt
    double mean_experts = 0;  ///< routed experts per written token, mean over MoE layers; 0 without
};

/// One conversation: a KV cache, a routing policy and the scratch memory to go on. Model and
/// executor outlive it. Not thread-safe.
class Session {
  public:
    /// Throws Error when the policy cannot work on the model or in generation.
    Session(const Model& model, Executor& executor, const SessionOptions& options = {});

    /// Reads `prompt` (token ids, at least one) and writes on. The longest prefix that the cache
    /// holds already is not computed again. Throws Error when the prompt is empty, has ids outside
    /// the vocabulary or does not fit the context. Afterwards the cache holds prompt and answer,
    /// but for the answer's last token.
    GenerateResult generate(std::span<const int32_t> prompt, const GenerateOptions& options);

    /// The tokens in the cache.
    std::span<const int32_t> tokens() const noexcept { return cache_.tokens(); }
    int context() const noexcept { return cache_.capacity(); }
    const RequestRouting& routing() const noexcept { return routing_; }
    ForwardContext& forward_context() noexcept { return forward_; }

    /// Prompt cache on disk: see KvCache. load_cache() gives the number of tokens found.
    void save_cache(const std::filesystem::path& path) const;
    int load_cache(const std::filesystem::path& path);

  private:
    struct Writing;
    StopReason write(Writing& writing);
    bool prefill(std::span<const int32_t> tokens, const Progress& progress);
    CacheIdentity identity() const;

    const Model& model_;
    SessionOptions options_;
    RequestRouting routing_;
    KvCache cache_;
    ForwardContext forward_;
    std::vector<BatchRow> rows_;
};

}  // namespace muster
