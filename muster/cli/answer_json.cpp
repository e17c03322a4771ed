// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/answer_json.h"

#include <utility>
#include <vector>

namespace muster::cli {
namespace {

double rate(int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

ordered_json speed_json(const SpeedOutcome& speed) {
    static constexpr const char* kReach[] = {"held", "too_high", "too_low"};
    return {{"target", speed.target},
            {"tokens_per_second", speed.tokens_per_second},
            {"experts_per_token", speed.experts},
            {"held", speed.held()},
            {"reach", kReach[static_cast<int>(speed.reach)]},
            {"fixed_seconds", speed.fixed_seconds},
            {"expert_seconds", speed.expert_seconds}};
}

}  // namespace

void append_token(const GeneratedToken& token, ordered_json& tokens) {
    if (token.id < 0) {
        if (!tokens.empty())
            tokens.back()["text"] = tokens.back()["text"].get<std::string>() + token.text;
        return;
    }
    tokens.push_back(
        {{"id", token.id},
         {"text", token.text},
         {"loss", token.loss},
         {"experts", token.mean_experts},
         {"layers", std::vector<int32_t>(token.experts.begin(), token.experts.end())}});
}

ordered_json answer_json(const RoutingPolicy& policy, uint64_t seed, const GenerateResult& r,
                         ordered_json tokens) {
    static constexpr const char* kStop[] = {"end_of_text", "max_tokens", "context_full",
                                            "interrupted", "stop_string"};
    const int computed = r.prompt_tokens - r.reused_tokens;
    ordered_json out{{"routing", policy.to_string()},
                     {"seed", seed},
                     {"prompt_tokens", r.prompt_tokens},
                     {"reused_tokens", r.reused_tokens},
                     {"prompt_seconds", r.prompt_seconds},
                     {"prompt_tokens_per_second", rate(computed, r.prompt_seconds)},
                     {"text", r.text},
                     {"tokens", std::move(tokens)},
                     {"stop", kStop[static_cast<int>(r.stop)]},
                     {"seconds", r.seconds},
                     {"tokens_per_second", rate(static_cast<int64_t>(r.tokens.size()), r.seconds)},
                     {"experts_per_token", r.mean_experts}};
    if (r.speed) out["speed"] = speed_json(*r.speed);
    return out;
}

}  // namespace muster::cli
