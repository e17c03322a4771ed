// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "muster/evaluate/perplexity.h"

namespace muster {
namespace {

using nlohmann::json;

json interval_json(const Interval& i) {
    return {{"mean", i.mean}, {"low", i.low}, {"high", i.high}};
}

json summary_json(const LossSummary& s) {
    return {{"tokens", s.tokens},
            {"bytes", s.bytes},
            {"loss", s.loss},
            {"loss_interval", interval_json(s.loss_interval)},
            {"perplexity", s.perplexity},
            {"bits_per_byte", s.bits_per_byte},
            {"experts_per_token", s.experts}};
}

json policy_json(const PolicyResult& p) {
    json domains = json::object(), differences = json::object();
    for (const DomainResult& d : p.domains) domains[d.domain] = summary_json(d.all);
    for (const auto& [domain, interval] : p.domain_differences)
        differences[domain] = interval_json(interval);
    return {
        {"policy", p.policy},
        {"all", summary_json(p.all)},
        {"domains", domains},
        {"experts_per_layer", p.experts},
        {"activations_of_a_token", {{"least", p.least_activations}, {"most", p.most_activations}}},
        {"activated_parameters", p.activated},
        {"tokens_per_second", p.tokens_per_second},
        {"seconds", p.seconds},
        {"difference", interval_json(p.difference)},
        {"domain_differences", differences}};
}

}  // namespace

std::string to_json(const EvaluationResult& result) {
    json policies = json::array();
    for (const PolicyResult& p : result.policies) policies.push_back(policy_json(p));
    const json out = {{"format", "muster-evaluation"}, {"version", 1},
                      {"documents", result.documents}, {"units", result.units},
                      {"unit", result.unit},           {"threads", result.threads},
                      {"policies", policies}};
    return out.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace muster
