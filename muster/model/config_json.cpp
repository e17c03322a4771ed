// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "muster/core/error.h"
#include "muster/model/config.h"
#include "muster/model/names.h"

namespace muster {
namespace {

using nlohmann::json;

constexpr std::string_view kFormat = "muster-model";
constexpr int kVersion = 1;

json router_json(const RouterSpec& r) {
    return {{"score", score_name(r.score)},
            {"selection", selection_name(r.selection)},
            {"value", r.value},
            {"weight", weighting_name(r.weight)},
            {"scale", r.scale},
            {"renorm_floor", r.renorm_floor},
            {"min", r.min},
            {"max", r.max},
            {"groups", r.groups},
            {"groups_used", r.groups_used},
            {"group_top", r.group_top},
            {"capacity_factor", r.capacity_factor}};
}

/// What a training checkpoint has no members for.
json beyond_json(const ModelConfig& c) {
    const RopeScaling& r = c.rope_scaling;
    json layers = json::array();
    for (const FeedForwardConfig& ff : c.layers)
        layers.push_back({{"shared_gate", ff.shared_gate},
                          {"router_bias", ff.router_bias},
                          {"expert_bias", ff.expert_bias}});
    return {{"latent_attention",
             {{"kv_rank", c.latent.kv_rank},
              {"query_rank", c.latent.query_rank},
              {"value_dim", c.latent.value_dim}}},
            {"rope_dims", c.turned()},
            {"rope_scaling",
             {{"factor", r.factor},
              {"extrapolation", r.extrapolation},
              {"beta_fast", r.beta_fast},
              {"beta_slow", r.beta_slow},
              {"original_context", r.original_context},
              {"magnitude", r.magnitude}}},
            {"rope_factors", c.rope_factors},
            {"qkv_bias", c.qkv_bias},
            {"output_bias", c.output_bias},
            {"sinks", c.sinks},
            {"windows", c.windows},
            {"attention_scale", c.attention_scale},
            {"embedding_scale", c.embedding_scale},
            {"residual_scale", c.residual_scale},
            {"logit_scale", c.logit_scale},
            {"layers", layers}};
}

/// Reads members of one JSON object; every failure is an Error that names the member.
class Reader {
  public:
    Reader(const json& object, std::string where) : object_(object), where_(std::move(where)) {
        if (!object.is_object()) throw Error(where_, "expected a JSON object");
    }

    const json& at(const char* key) const {
        const auto found = object_.find(key);
        if (found == object_.end()) throw Error(where_, "\"" + std::string(key) + "\" is missing");
        return *found;
    }
    int integer(const char* key) const { return to_int(at(key), key); }
    double real(const char* key) const {
        const json& v = at(key);
        if (!v.is_number()) fail(key, "a number");
        return v.get<double>();
    }
    bool boolean(const char* key) const {
        const json& v = at(key);
        if (!v.is_boolean()) fail(key, "true or false");
        return v.get<bool>();
    }
    std::string string(const char* key) const {
        const json& v = at(key);
        if (!v.is_string()) fail(key, "a string");
        return v.get<std::string>();
    }
    const json& array(const char* key) const {
        const json& v = at(key);
        if (!v.is_array()) fail(key, "an array");
        return v;
    }
    std::vector<int> integers(const char* key) const {
        std::vector<int> out;
        for (const json& v : array(key)) out.push_back(to_int(v, key));
        return out;
    }
    std::vector<double> reals(const char* key) const {
        std::vector<double> out;
        for (const json& v : array(key)) {
            if (!v.is_number()) fail(key, "an array of numbers");
            out.push_back(v.get<double>());
        }
        return out;
    }

  private:
    [[noreturn]] void fail(const char* key, const char* expected) const {
        throw Error(where_, "\"" + std::string(key) + "\" is not " + expected);
    }
    int to_int(const json& v, const char* key) const {
        if (!v.is_number_integer()) fail(key, "a whole number");
        const bool too_large = v.is_number_unsigned() && v.get<uint64_t>() > uint64_t{INT32_MAX};
        const int64_t n = too_large ? INT64_MAX : v.get<int64_t>();
        if (n < INT32_MIN || n > INT32_MAX) fail(key, "a number of 32 bits");
        return static_cast<int>(n);
    }

    const json& object_;
    std::string where_;
};

RouterSpec read_router(const Reader& in) {
    RouterSpec r;
    r.score = parse_score(in.string("score"));
    r.selection = parse_selection(in.string("selection"));
    r.value = in.real("value");
    r.weight = parse_weighting(in.string("weight"));
    r.scale = static_cast<float>(in.real("scale"));
    r.renorm_floor = static_cast<float>(in.real("renorm_floor"));
    r.min = in.integer("min");
    r.max = in.integer("max");
    r.groups = in.integer("groups");
    r.groups_used = in.integer("groups_used");
    r.group_top = in.integer("group_top");
    r.capacity_factor = static_cast<float>(in.real("capacity_factor"));
    return r;
}

FeedForwardConfig read_layer(const json& object, const std::string& where) {
    const Reader in(object, where);
    FeedForwardConfig ff;
    ff.widths = in.integers("widths");
    ff.shared_width = in.integer("shared_width");
    ff.router = read_router(Reader(in.at("router"), where + " router"));
    ff.router.num_experts = ff.experts();
    return ff;
}

}  // namespace

std::string to_json(const ModelConfig& c) {
    json layers = json::array();
    for (const FeedForwardConfig& ff : c.layers) {
        layers.push_back({{"widths", ff.widths},
                          {"shared_width", ff.shared_width},
                          {"router", router_json(ff.router)}});
    }
    json out = {{"format", kFormat},
                {"version", kVersion},
                {"architecture", c.architecture},
                {"name", c.name},
                {"vocab", c.vocab},
                {"d_model", c.d_model},
                {"heads", c.heads},
                {"kv_heads", c.kv_heads},
                {"head_dim", c.head_dim},
                {"context", c.context},
                {"norm_eps", c.norm_eps},
                {"rope_theta", c.rope_theta},
                {"rope", rope_name(c.rope)},
                {"qk_norm", qk_norm_name(c.qk_norm)},
                {"tied_head", c.tied_head},
                {"activation", activation_name(c.activation)},
                {"gated", c.gated},
                {"policy", c.policy.to_string()},
                {"mean_experts", c.mean_experts},
                {"layers", layers}};
    if (!beyond_muster(c).empty()) out["beyond"] = beyond_json(c);
    return out.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

ModelConfig model_config_from_json(std::string_view text, std::string_view where) {
    const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (root.is_discarded()) throw Error(where, "this is no valid JSON");
    const Reader in(root, std::string(where));
    if (in.string("format") != kFormat) {
        throw Error(where, "the format is \"" + in.string("format") + "\", expected \"" +
                               std::string(kFormat) + "\"");
    }
    if (in.integer("version") != kVersion) {
        throw Error(where, "version " + std::to_string(in.integer("version")) +
                               " is not known, expected " + std::to_string(kVersion));
    }
    if (root.contains("beyond"))
        throw Error(where,
                    "\"beyond\" is there, expected a model that a training checkpoint can hold");
    ModelConfig c;
    c.architecture = in.string("architecture");
    c.name = in.string("name");
    c.vocab = in.integer("vocab");
    c.d_model = in.integer("d_model");
    c.heads = in.integer("heads");
    c.kv_heads = in.integer("kv_heads");
    c.head_dim = in.integer("head_dim");
    c.context = in.integer("context");
    c.norm_eps = static_cast<float>(in.real("norm_eps"));
    c.rope_theta = static_cast<float>(in.real("rope_theta"));
    c.rope = parse_rope(in.string("rope"));
    c.qk_norm = parse_qk_norm(in.string("qk_norm"));
    c.tied_head = in.boolean("tied_head");
    c.activation = parse_activation(in.string("activation"));
    c.gated = in.boolean("gated");
    c.policy = RoutingPolicy::parse(in.string("policy"));
    c.mean_experts = in.reals("mean_experts");
    int l = 0;
    for (const json& layer : in.array("layers")) {
        c.layers.push_back(read_layer(layer, std::string(where) + " layer " + std::to_string(l++)));
    }
    c.check();
    if (const std::string what = beyond_muster(c); !what.empty())
        throw Error(where,
                    "the model has " + what + ", expected one that a training checkpoint can hold");
    return c;
}

}  // namespace muster
