// SPDX-License-Identifier: Apache-2.0
#include "muster/model/summary.h"

#include <nlohmann/json.hpp>

#include "muster/model/kv_cache.h"
#include "muster/model/request_routing.h"
#include "muster/model/training_checkpoint.h"

namespace muster {
namespace {

using nlohmann::json;

int64_t bank_bytes(const ExpertBank& bank) {
    int64_t bytes = 0;
    for (const Expert& e : bank.experts) {
        for (const WeightMatrix* m : {&e.gate, &e.up, &e.down})
            if (!m->empty()) bytes += m->bytes();
    }
    return bytes;
}

}  // namespace

ModelSummary summarize(const Model& model) {
    ModelSummary s;
    s.config = model.config();
    s.parameters = count_parameters(s.config);
    for (const auto& [name, t] : model.file().tensors()) {
        s.tensors.push_back({name, t.dtype, t.shape, t.bytes()});
        s.weight_bytes += t.bytes();
    }
    for (size_t l = 0; l < s.config.layers.size(); ++l)
        if (!s.config.layers[l].dense())
            s.expert_bytes += bank_bytes(model.weights().layers[l].experts);
    s.kv_bytes = KvCache::bytes(s.config, s.config.context);
    const RequestRouting own(s.config);
    bool known = true;
    for (int l = 0; l < s.config.num_layers(); ++l) {
        s.routed.push_back(expected_experts(s.config, own, l));
        known = known && s.routed.back() >= 0;
    }
    s.activated = known ? s.parameters.activated(s.routed) : -1;
    s.vocabulary =
        "SentencePiece BPE, " + std::to_string(model.tokenizer().vocab_size()) + " pieces";
    return s;
}

std::string to_json(const ModelSummary& s) {
    json tensors = json::array();
    for (const ModelSummary::Tensor& t : s.tensors)
        tensors.push_back({{"name", t.name},
                           {"dtype", dtype_info(t.dtype).name},
                           {"shape", t.shape},
                           {"bytes", t.bytes}});
    json routed = json::array();
    for (const double r : s.routed) routed.push_back(r < 0 ? json(nullptr) : json(r));
    const ParameterCounts& p = s.parameters;
    const json out = {{"config", json::parse(to_json(s.config))},
                      {"parameters",
                       {{"total", p.total},
                        {"embedding", p.embedding},
                        {"head", p.head},
                        {"per_token_fixed", p.per_token_fixed},
                        {"per_expert", p.per_expert}}},
                      {"experts_per_token", routed},
                      {"expert_used_count", equivalent_top_k(s.config)},
                      {"activated_parameters", s.activated < 0 ? json(nullptr) : json(s.activated)},
                      {"weight_bytes", s.weight_bytes},
                      {"expert_bytes", s.expert_bytes},
                      {"kv_bytes", s.kv_bytes},
                      {"vocabulary", s.vocabulary},
                      {"tensors", tensors}};
    return out.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace muster
