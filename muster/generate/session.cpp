// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/session.h"

#include <algorithm>
#include <utility>

#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/generate/end_tokens.h"
#include "muster/routing/activation_plan.h"

namespace muster {
namespace {

int context_of(const Model& model, const SessionOptions& options) {
    const int context = options.context > 0 ? options.context : model.config().context;
    if (options.context < 0)
        throw Error("session",
                    "context " + std::to_string(options.context) + ", expected 1 or more");
    return context;
}

}  // namespace

Session::Session(const Model& model, Executor& executor, const SessionOptions& options)
    : model_(model),
      options_(options),
      end_tokens_(end_tokens(model)),
      routing_(generation_routing(model.config(), options.policy)),
      cache_(model.config(), context_of(model, options), options.kv),
      passes_(model, executor, std::min(options.max_rows, cache_.capacity()), options.compute) {
    routing_.set_seed(options.seed);
}

GenerateResult Session::generate(std::span<const int32_t> prompt, const GenerateOptions& options) {
    Generation generation({model_, end_tokens_, cache_, routing_}, {prompt.begin(), prompt.end()},
                          options);
    if (generation.reused_tokens() == 0) mixed_ = false;
    Generation* const alone[] = {&generation};
    PassOptions pass;
    pass.trace = options_.trace;
    while (!generation.finished()) passes_.run(alone, pass);
    return generation.result();
}

void Session::set_policy(const RoutingPolicy& policy) {
    RequestRouting routing = generation_routing(model_.config(), policy);
    mixed_ = mixed_ || (cache_.length() > 0 && policy.to_string() != routing_.policy().to_string());
    routing_ = std::move(routing);
    routing_.set_seed(options_.seed);
    options_.policy = policy;
}

CacheIdentity Session::identity() const {
    const RoutingPolicy& policy = routing_.policy();
    std::string text = policy.to_string();
    if (routing_.random()) text += "@" + std::to_string(routing_.seed());
    // A plan's name may come to stand for another plan.
    const auto plan = model_.config().plans.find(policy.plan);
    if (policy.selection == Selection::plan && plan != model_.config().plans.end()) {
        uint64_t content = 0;
        for (const char c : plan->second->to_json())
            content = mix64(content ^ static_cast<unsigned char>(c));
        text += "#" + std::to_string(content);
    }
    return {model_.hash(), std::move(text)};
}

void Session::save_cache(const std::filesystem::path& path) const {
    if (mixed_)
        throw Error("session", "the cache holds tokens of several routing policies, expected one");
    cache_.save(path, identity(), routing_.controller_state());
}

int Session::load_cache(const std::filesystem::path& path) {
    const std::vector<double> state = cache_.load(path, identity());
    mixed_ = false;
    try {
        routing_.restore_controllers(state);
    } catch (const Error&) {
        cache_.truncate(0);
        throw;
    }
    return cache_.length();
}

}  // namespace muster
