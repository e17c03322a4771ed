// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "muster/core/executor.h"
#include "muster/generate/generation.h"
#include "muster/model/forward.h"

namespace muster {

struct SessionOptions {
    int context = 0;       ///< most tokens held; 0: the model's context length
    int max_rows = 256;    ///< rows of one prefill pass
    RoutingPolicy policy;  ///< `model`: the checkpoint's default
    uint64_t seed = 0;     ///< for random selection
    Compute compute = Compute::f32;
    DType kv = DType::f32;  ///< of keys and values: f32, f16 or q8_0
    TraceSink* trace = nullptr;
};

/// One conversation: a KV cache, a routing policy and the scratch memory to go on. Model and
/// executor outlive it. Not thread-safe.
class Session {
  public:
    /// Throws Error when the policy cannot work on the model or in generation.
    Session(const Model& model, Executor& executor, const SessionOptions& options = {});

    /// Reads `prompt` (token ids, at least one) and writes on. The longest prefix that the cache
    /// holds already is not computed again. Throws Error when the prompt is empty, has ids outside
    /// the vocabulary or does not fit the context, and what the callbacks throw. Afterwards the
    /// cache holds prompt and answer, but for the answer's last token.
    GenerateResult generate(std::span<const int32_t> prompt, const GenerateOptions& options);

    /// Goes on under another policy. What the cache holds stays as it was computed. Throws Error,
    /// with the policy as it was, when it cannot work.
    void set_policy(const RoutingPolicy& policy);

    /// The tokens in the cache.
    std::span<const int32_t> tokens() const noexcept { return cache_.tokens(); }
    int context() const noexcept { return cache_.capacity(); }
    const RequestRouting& routing() const noexcept { return routing_; }
    ForwardContext& forward_context() noexcept { return passes_.context(); }

    /// Prompt cache on disk: see KvCache. load_cache() gives the number of tokens found. Saving
    /// throws Error when the tokens were computed under several policies.
    void save_cache(const std::filesystem::path& path) const;
    int load_cache(const std::filesystem::path& path);

  private:
    CacheIdentity identity() const;

    const Model& model_;
    SessionOptions options_;
    std::vector<int32_t> end_tokens_;
    RequestRouting routing_;
    KvCache cache_;
    SharedPasses passes_;
    bool mixed_ = false;  ///< tokens of several policies may be in the cache
};

}  // namespace muster
