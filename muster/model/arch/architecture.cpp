// SPDX-License-Identifier: Apache-2.0
#include "muster/model/arch/architecture.h"

#include <charconv>
#include <iterator>

#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/error.h"
#include "muster/model/names.h"

namespace muster {

std::span<const Architecture* const> architectures() noexcept {
    static constexpr const Architecture* kAll[] = {&kOlmoe, &kMuster,     &kQwen3Moe, &kQwen2Moe,
                                                   &kLlama, &kGraniteMoe, &kGptOss,   &kDeepSeek2};
    return kAll;
}

const TensorView& TensorReader::tensor(std::string_view name, const std::vector<int64_t>& shape) {
    const TensorView& found = file_.tensor(name, shape);
    read_.emplace(name);
    return found;
}

void TensorReader::refuse_unread(std::string_view architecture) const {
    for (const auto& [name, tensor] : file_.tensors()) {
        if (read_.contains(name)) continue;
        throw Error(file_.name(), "tensor " + quote(name) + " is not known in architecture " +
                                      std::string(architecture) +
                                      ", expected only tensors that its layers compute with");
    }
}

namespace binding {
namespace {

const TensorView& weight_tensor(TensorReader& file, std::string_view name,
                                const std::vector<int64_t>& shape) {
    const TensorView& t = file.tensor(name, shape);
    if (t.dtype == DType::i32)
        throw Error(file.file().name(),
                    "tensor " + std::string(name) + " is i32, expected a format of weights");
    return t;
}

/// The shortest decimal number that a stored f32 stands for: 0.6 went in as a double.
double as_written(double stored) {
    char digits[32];
    const auto end =
        std::to_chars(std::begin(digits), std::end(digits), static_cast<float>(stored));
    double value = stored;
    std::from_chars(digits, end.ptr, value);
    return value;
}

/// Per-layer values of an array key; throws when their number is another.
template <typename T>
const std::vector<T>& per_layer(const std::vector<T>& values, const WeightMap& file,
                                std::string_view key, size_t layers) {
    if (values.size() != layers)
        throw Error(file.name(), "key " + std::string(key) + " has " +
                                     std::to_string(values.size()) + " values, expected " +
                                     std::to_string(layers) + ", one per layer");
    return values;
}

}  // namespace

WeightMatrix matrix(TensorReader& file, std::string_view name, int64_t rows, int64_t cols) {
    const TensorView& t = weight_tensor(file, name, {rows, cols});
    return {.dtype = t.dtype, .data = t.data, .rows = rows, .cols = cols};
}

std::vector<WeightMatrix> matrices(TensorReader& file, std::string_view name, int64_t count,
                                   int64_t rows, int64_t cols) {
    const TensorView& t = weight_tensor(file, name, {count, rows, cols});
    std::vector<WeightMatrix> out;
    WeightMatrix w{.dtype = t.dtype, .data = t.data, .rows = rows, .cols = cols};
    for (int64_t i = 0; i < count; ++i, w.data += w.bytes()) out.push_back(w);
    return out;
}

std::span<const float> vector(TensorReader& file, std::string_view name, int64_t size) {
    return vectors(file, name, 1, size);
}

std::span<const float> vectors(TensorReader& file, std::string_view name, int64_t count,
                               int64_t size) {
    const TensorView& t = count == 1 ? file.tensor(name, {size}) : file.tensor(name, {count, size});
    if (t.dtype != DType::f32)
        throw Error(file.file().name(), "tensor " + std::string(name) + " is " +
                                            std::string(dtype_info(t.dtype).name) +
                                            ", expected f32");
    return {reinterpret_cast<const float*>(t.data), static_cast<size_t>(count * size)};
}

std::string layer_name(int layer, std::string_view rest) {
    return "blk." + std::to_string(layer) + "." + std::string(rest);
}

void bind_ends(TensorReader& file, const ModelConfig& c, bool tied_allowed, ModelWeights& weights) {
    if (c.rope_factors) weights.rope_factors = vector(file, "rope_freqs.weight", c.turned() / 2);
    weights.embedding = matrix(file, "token_embd.weight", c.vocab, c.d_model);
    weights.final_norm = vector(file, "output_norm.weight", c.d_model);
    const bool tied = tied_allowed && !file.has_tensor("output.weight");
    weights.head = tied ? weights.embedding : matrix(file, "output.weight", c.vocab, c.d_model);
}

void bind_layer(TensorReader& file, const ModelConfig& c, int l, LayerWeights& w,
                std::string_view feed_forward_norm) {
    const int64_t d = c.d_model;
    const int64_t q = int64_t{c.heads} * c.head_dim, kv = int64_t{c.kv_heads} * c.head_dim;
    w.attention_norm = vector(file, layer_name(l, "attn_norm.weight"), d);
    w.feed_forward_norm = vector(file, layer_name(l, feed_forward_norm), d);
    w.query = matrix(file, layer_name(l, "attn_q.weight"), q, d);
    w.key = matrix(file, layer_name(l, "attn_k.weight"), kv, d);
    w.value = matrix(file, layer_name(l, "attn_v.weight"), kv, d);
    w.output = matrix(file, layer_name(l, "attn_output.weight"), d, q);
    if (c.qk_norm != QkNorm::none) {
        const bool full = c.qk_norm == QkNorm::full;
        w.query_norm = vector(file, layer_name(l, "attn_q_norm.weight"), full ? q : c.head_dim);
        w.key_norm = vector(file, layer_name(l, "attn_k_norm.weight"), full ? kv : c.head_dim);
    }
    const auto bias = [&](std::string_view rest, int64_t size) -> std::span<const float> {
        const std::string name = layer_name(l, rest);
        if (!file.has_tensor(name)) return {};
        return vector(file, name, size);
    };
    if (c.qkv_bias) {
        w.query_bias = bias("attn_q.bias", q);
        w.key_bias = bias("attn_k.bias", kv);
        w.value_bias = bias("attn_v.bias", kv);
    }
    if (c.output_bias) w.output_bias = bias("attn_output.bias", d);
    if (c.sinks) w.sinks = vector(file, layer_name(l, "attn_sinks.weight"), c.heads);
    bind_router(file, c, l, w);
}

void bind_router(TensorReader& file, const ModelConfig& c, int l, LayerWeights& w) {
    const FeedForwardConfig& ff = c.layers[l];
    if (ff.dense()) return;
    w.router = matrix(file, layer_name(l, "ffn_gate_inp.weight"), ff.experts(), c.d_model);
    if (ff.router_bias)
        w.router_bias = vector(file, layer_name(l, "ffn_gate_inp.bias"), ff.experts());
}

namespace {

/// ffn_gate_up_exps: of each expert first the rows of its gate, then those of up; biases likewise.
void bind_fused_experts(TensorReader& file, const ModelConfig& c, int l, LayerWeights& w) {
    const int64_t experts = c.layers[l].experts(), width = c.layers[l].widths[0], d = c.d_model;
    const auto both =
        matrices(file, layer_name(l, "ffn_gate_up_exps.weight"), experts, 2 * width, d);
    const auto down = matrices(file, layer_name(l, "ffn_down_exps.weight"), experts, d, width);
    w.experts = {.experts = {}, .activation = c.activation, .gated = true, .d_model = d};
    std::span<const float> both_bias, down_bias;
    if (c.layers[l].expert_bias) {
        both_bias = vectors(file, layer_name(l, "ffn_gate_up_exps.bias"), experts, 2 * width);
        down_bias = vectors(file, layer_name(l, "ffn_down_exps.bias"), experts, d);
    }
    for (int64_t e = 0; e < experts; ++e) {
        Expert& expert = w.experts.experts.emplace_back();
        expert.gate = expert.up = both[e];
        expert.gate.rows = expert.up.rows = width;
        expert.up.data = both[e].row(width);
        expert.down = down[e];
        if (both_bias.empty()) continue;
        expert.gate_bias = both_bias.subspan(e * 2 * width, width);
        expert.up_bias = both_bias.subspan((e * 2 + 1) * width, width);
        expert.down_bias = down_bias.subspan(e * d, d);
    }
    w.experts.check();
}

void bind_bank(TensorReader& file, const ModelConfig& c, int l, LayerWeights& w) {
    const int64_t experts = c.layers[l].experts(), width = c.layers[l].widths[0], d = c.d_model;
    if (file.has_tensor(layer_name(l, "ffn_up.0.weight"))) {
        w.experts = {
            .experts = {}, .activation = c.activation, .gated = c.gated, .d_model = c.d_model};
        for (int64_t e = 0; e < experts; ++e)
            w.experts.experts.push_back(
                bind_expert(file, c, l, static_cast<int>(width), "." + std::to_string(e)));
        return;
    }
    const auto tensor = [&](std::string_view what, int64_t rows, int64_t cols) -> const auto& {
        return weight_tensor(file, layer_name(l, what), {experts, rows, cols});
    };
    TensorView gate;
    if (c.gated) gate = tensor("ffn_gate_exps.weight", width, d);
    TensorView up = tensor("ffn_up_exps.weight", width, d);
    TensorView down = tensor("ffn_down_exps.weight", d, width);
    // The file may have dropped leading dimensions of one.
    if (c.gated) gate.shape = {experts, width, d};
    up.shape = {experts, width, d};
    down.shape = {experts, d, width};
    w.experts = make_stacked_bank(gate, up, down, c.activation);
}

}  // namespace

void bind_stacked_experts(TensorReader& file, const ModelConfig& c, int l, LayerWeights& w) {
    if (c.gated && file.has_tensor(layer_name(l, "ffn_gate_up_exps.weight")))
        return bind_fused_experts(file, c, l, w);
    bind_bank(file, c, l, w);
    const int64_t experts = c.layers[l].experts(), width = c.layers[l].widths[0], d = c.d_model;
    if (!c.layers[l].expert_bias) return;
    const auto biases = [&](const char* what, int64_t size, std::span<const float> Expert::*bias) {
        const std::span<const float> all = vectors(file, layer_name(l, what), experts, size);
        for (int64_t e = 0; e < experts; ++e)
            w.experts.experts[e].*bias = all.subspan(e * size, size);
    };
    if (c.gated) biases("ffn_gate_exps.bias", width, &Expert::gate_bias);
    biases("ffn_up_exps.bias", width, &Expert::up_bias);
    biases("ffn_down_exps.bias", d, &Expert::down_bias);
}

Expert bind_expert(TensorReader& file, const ModelConfig& c, int l, int width,
                   std::string_view suffix) {
    const auto name = [&](const char* what) {
        return layer_name(l, "ffn_" + std::string(what) + std::string(suffix) + ".weight");
    };
    Expert e;
    if (c.gated) e.gate = matrix(file, name("gate"), width, c.d_model);
    e.up = matrix(file, name("up"), width, c.d_model);
    e.down = matrix(file, name("down"), c.d_model, width);
    return e;
}

void bind_dense(TensorReader& file, const ModelConfig& c, int l, LayerWeights& w) {
    w.experts = {.experts = {bind_expert(file, c, l, c.layers[l].widths[0], "")},
                 .activation = c.activation,
                 .gated = c.gated,
                 .d_model = c.d_model};
}

void bind_shared(TensorReader& file, const ModelConfig& c, int l, LayerWeights& w) {
    const FeedForwardConfig& ff = c.layers[l];
    if (ff.shared_width == 0) return;
    w.shared = {.experts = {bind_expert(file, c, l, ff.shared_width, "_shexp")},
                .activation = c.activation,
                .gated = c.gated,
                .d_model = c.d_model};
    if (ff.shared_gate)
        w.shared_gate = vector(file, layer_name(l, "ffn_gate_inp_shexp.weight"), c.d_model);
}

bool has_routing(const WeightMap& file) { return file.has("muster.router.selection"); }

void read_routing(const WeightMap& file, ModelConfig& c) {
    const size_t n = c.layers.size();
    if (file.has("muster.routing.policy"))
        c.policy = RoutingPolicy::parse(file.string("muster.routing.policy"));
    if (file.has("muster.mean_experts"))
        c.mean_experts =
            per_layer(file.reals("muster.mean_experts"), file, "muster.mean_experts", n);
    for (double& mean : c.mean_experts) mean = as_written(mean);
    if (!has_routing(file)) return;
    const auto words = [&](const char* key) -> const auto& {
        return per_layer(file.strings(key), file, key, n);
    };
    const auto reals = [&](const char* key) { return per_layer(file.reals(key), file, key, n); };
    const auto integers = [&](const char* key) {
        return per_layer(file.integers(key), file, key, n);
    };
    const auto small = [&](int64_t number) {
        constexpr int64_t kMost = 1 << 24;
        if (number < 0 || number > kMost)
            throw Error(file.name(), "a muster.router key holds " + std::to_string(number) +
                                         ", expected 0 to " + std::to_string(kMost));
        return static_cast<int>(number);
    };
    const auto& score = words("muster.router.score");
    const auto& selection = words("muster.router.selection");
    const auto& weight = words("muster.router.weight");
    const auto value = reals("muster.router.value"), scale = reals("muster.router.scale"),
               floor = reals("muster.router.renorm_floor"),
               capacity = reals("muster.router.capacity_factor");
    const auto min = integers("muster.router.min"), max = integers("muster.router.max"),
               groups = integers("muster.router.groups"),
               used = integers("muster.router.groups_used"),
               top = integers("muster.router.group_top");
    for (size_t l = 0; l < n; ++l) {
        RouterSpec& r = c.layers[l].router;
        r.score = parse_score(score[l]);
        r.selection = parse_selection(selection[l]);
        r.weight = parse_weighting(weight[l]);
        r.value = as_written(value[l]);
        r.scale = static_cast<float>(scale[l]);
        r.renorm_floor = static_cast<float>(floor[l]);
        r.capacity_factor = static_cast<float>(capacity[l]);
        r.min = small(min[l]);
        r.max = small(max[l]);
        r.groups = small(groups[l]);
        r.groups_used = small(used[l]);
        r.group_top = small(top[l]);
    }
}

}  // namespace binding

}  // namespace muster
