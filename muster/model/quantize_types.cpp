// SPDX-License-Identifier: Apache-2.0
#include "muster/model/quantize_types.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/error.h"

namespace muster {
namespace {

enum FileType : uint32_t {  // llama.h: llama_ftype
    kF32 = 0,
    kF16 = 1,
    kQ4_0 = 2,
    kQ4_1 = 3,
    kQ8_0 = 7,
    kQ5_0 = 8,
    kQ5_1 = 9,
    kQ2K = 10,
    kQ3KS = 11,
    kQ3KM = 12,
    kQ3KL = 13,
    kQ4KS = 14,
    kQ4KM = 15,
    kQ5KS = 16,
    kQ5KM = 17,
    kQ6K = 18,
    kQ2KS = 21,
    kIq4Nl = 25,
    kIq4Xs = 30,
    kBf16 = 32,
    kMxfp4Moe = 38
};

constexpr QuantizeTarget kTargets[] = {
    {"F32", kF32, DType::f32},         {"F16", kF16, DType::f16},
    {"BF16", kBf16, DType::bf16},      {"Q8_0", kQ8_0, DType::q8_0},
    {"Q6_K", kQ6K, DType::q6_k},       {"Q5_K_M", kQ5KM, DType::q5_k},
    {"Q5_K_S", kQ5KS, DType::q5_k},    {"Q5_1", kQ5_1, DType::q5_1},
    {"Q5_0", kQ5_0, DType::q5_0},      {"Q4_K_M", kQ4KM, DType::q4_k},
    {"Q4_K_S", kQ4KS, DType::q4_k},    {"Q4_1", kQ4_1, DType::q4_1},
    {"Q4_0", kQ4_0, DType::q4_0},      {"IQ4_NL", kIq4Nl, DType::iq4_nl},
    {"IQ4_XS", kIq4Xs, DType::iq4_xs}, {"MXFP4_MOE", kMxfp4Moe, DType::mxfp4},
    {"Q3_K_L", kQ3KL, DType::q3_k},    {"Q3_K_M", kQ3KM, DType::q3_k},
    {"Q3_K_S", kQ3KS, DType::q3_k},    {"Q2_K", kQ2K, DType::q2_k},
    {"Q2_K_S", kQ2KS, DType::q2_k},
};

enum class Role { embedding, q, k, v, qkv, kv_b, attention_output, ffn_down, output, other };

Role role_of(std::string_view name) {
    if (name == "output.weight") return Role::output;
    if (name == "token_embd.weight" || name == "per_layer_token_embd.weight")
        return Role::embedding;
    constexpr std::pair<std::string_view, Role> kParts[] = {
        {"attn_qkv.weight", Role::qkv}, {"attn_kv_b.weight", Role::kv_b},
        {"attn_v.weight", Role::v},     {"attn_k.weight", Role::k},
        {"attn_q.weight", Role::q},     {"attn_output.weight", Role::attention_output},
        {"ffn_down", Role::ffn_down}};
    for (const auto& [part, role] : kParts)
        if (name.find(part) != std::string_view::npos) return role;
    return Role::other;
}

bool like_v(Role role) { return role == Role::v || role == Role::qkv || role == Role::kv_b; }

/// N of blk.N.; -1 for tensors of no layer.
int layer_of(std::string_view name) {
    if (!name.starts_with("blk.")) return -1;
    int layer = -1;
    const auto [end, error] = std::from_chars(name.data() + 4, name.data() + name.size(), layer);
    return error == std::errc() && end != name.data() + name.size() && *end == '.' ? layer : -1;
}

/// Whether a tensor is a matrix that may lose precision.
bool may_quantize(std::string_view name, const TensorView& tensor) {
    if (tensor.dtype == DType::i32 || !name.ends_with("weight")) return false;
    const auto dimensions =
        tensor.shape.end() -
        std::find_if(tensor.shape.begin(), tensor.shape.end(), [](int64_t d) { return d != 1; });
    if (dimensions < 2) return false;
    constexpr std::string_view kKept[] = {
        "_norm.weight", "ffn_gate_inp",         "ffn_gate_tid2eid", "altup",
        "laurel",       "per_layer_model_proj", "position_embd",    "token_types",
        "ssm_conv1d",   "shortconv.conv",       "indexer.k_proj",   "indexer.q_proj",
        "time_mix_",    "attn_rel_b",           ".patch_embd",      ".rel_pos"};
    return std::ranges::none_of(
        kKept, [&](std::string_view part) { return name.find(part) != std::string_view::npos; });
}

/// What the choices depend on beside the tensor.
struct Facts {
    FileType type{};
    int layers = 0;
    int experts = 0;
    int v_matrices = 0;
    bool grouped = false;  ///< at least four query heads to a key head
    bool tied = false;     ///< the embedding is the output matrix too
    bool importance = false;
};

int64_t optional_integer(const WeightMap& model, const std::string& key, int64_t otherwise) {
    return model.has(key) ? model.integer(key) : otherwise;
}

/// An integer, or the greatest of an array of one per layer.
int64_t greatest(const WeightMap& model, const std::string& key, int64_t otherwise) {
    const auto found = model.metadata().find(key);
    if (found == model.metadata().end()) return otherwise;
    if (!std::holds_alternative<MetadataArray>(found->second)) return model.integer(key);
    const std::vector<int64_t> all = model.integers(key);
    return all.empty() ? otherwise : *std::ranges::max_element(all);
}

Facts facts_of(const WeightMap& model, const QuantizeTarget& target, bool importance) {
    Facts f;
    f.type = static_cast<FileType>(target.file_type);
    const std::string& arch = model.string("general.architecture");
    f.layers = static_cast<int>(optional_integer(model, arch + ".block_count", 0));
    f.experts = static_cast<int>(optional_integer(model, arch + ".expert_count", 0));
    const int64_t heads = greatest(model, arch + ".attention.head_count", 1);
    const int64_t kv = greatest(model, arch + ".attention.head_count_kv", heads);
    f.grouped = kv > 0 && heads / kv >= 4;
    f.tied = !model.has_tensor("output.weight");
    f.importance = importance;
    for (const auto& [name, tensor] : model.tensors()) f.v_matrices += like_v(role_of(name));
    return f;
}

bool more_bits(int i, int n) { return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2; }

/// `i`: which of the matrices like attn_v it is.
DType choose_v(const Facts& f, DType base, int i) {
    if (f.experts == 8) return DType::q8_0;
    switch (f.type) {
        case kQ2K:
            return f.grouped ? DType::q4_k : DType::q3_k;
        case kQ2KS:
            return f.grouped ? DType::q4_k : base;
        case kQ3KM:
            return i < 2 ? DType::q5_k : DType::q4_k;
        case kQ3KL:
            return DType::q5_k;
        case kIq4Nl:
        case kIq4Xs:
            return f.grouped ? DType::q5_k : base;
        case kQ4KM:
        case kQ5KM:
            return more_bits(i, f.v_matrices) ? DType::q6_k : base;
        case kQ4KS:
            return i < 4 ? DType::q5_k : base;
        default:
            return base;
    }
}

DType choose_down(const Facts& f, DType base, int layer) {
    const bool first = layer < f.layers / 8;
    switch (f.type) {
        case kQ2K:
            return DType::q3_k;
        case kQ2KS:
            return first ? DType::q4_k : base;
        case kQ3KM:
            return layer < f.layers / 16 ? DType::q5_k : DType::q4_k;
        case kQ3KL:
            return DType::q5_k;
        case kQ4KM:
        case kQ5KM:
            return more_bits(layer, f.layers) ? DType::q6_k : base;
        case kIq4Nl:
        case kIq4Xs:
            return first && !f.importance ? DType::q5_k : base;
        case kQ4KS:
            return first ? DType::q5_k : base;
        case kQ4_0:
            return first && f.importance ? DType::q4_1 : base;
        case kQ5_0:
            return first && f.importance ? DType::q5_1 : base;
        default:
            return base;
    }
}

DType choose_attention_output(const Facts& f, DType base) {
    if (f.experts == 8) {
        constexpr FileType kLow[] = {kQ2K, kQ3KS, kQ3KM, kIq4Nl, kQ4KS, kQ4KM, kIq4Xs};
        return std::ranges::find(kLow, f.type) != std::end(kLow) ? DType::q5_k : base;
    }
    if (f.type == kQ2K) return DType::q3_k;
    if (f.type == kQ3KM) return DType::q4_k;
    return f.type == kQ3KL ? DType::q5_k : base;
}

bool whole_blocks(const TensorView& tensor, DType dtype) {
    return tensor.shape.back() % dtype_info(dtype).block_elements == 0;
}

DType choose(const Facts& f, DType base, const TensorView& tensor, Role role, int layer, int v) {
    if (role == Role::output || (role == Role::embedding && f.tied)) {
        if (f.type == kMxfp4Moe || base == DType::q8_0 || !whole_blocks(tensor, base))
            return DType::q8_0;
        return DType::q6_k;
    }
    if (f.type == kMxfp4Moe)
        return tensor.shape.size() > 2 && tensor.shape[tensor.shape.size() - 3] > 1 ? DType::mxfp4
                                                                                    : DType::q8_0;
    if (like_v(role)) return choose_v(f, base, v);
    if (role == Role::k) return f.experts == 8 ? DType::q8_0 : base;
    if (role == Role::ffn_down) return choose_down(f, base, layer);
    if (role == Role::attention_output) return choose_attention_output(f, base);
    return base;
}

/// The format of smaller blocks and about as many bits.
DType smaller_blocks(DType dtype) {
    switch (dtype) {
        case DType::iq4_xs:
            return DType::iq4_nl;
        case DType::q2_k:
        case DType::q3_k:
            return DType::q4_0;
        case DType::q4_k:
            return DType::q5_0;
        case DType::q5_k:
            return DType::q5_1;
        case DType::q6_k:
            return DType::q8_0;
        default:
            return DType::f16;
    }
}

void check_layer(const WeightMap& model, std::string_view name, int layers) {
    if (layer_of(name) < layers) return;
    throw Error(model.name(), fmt::format("tensor {} is of layer {}, expected less than {} "
                                          "(block_count)",
                                          quote(name), layer_of(name), layers));
}

}  // namespace

QuantizeTarget parse_quantize_target(std::string_view name) {
    std::string upper(name);
    std::ranges::transform(upper, upper.begin(),
                           [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    if (upper == "Q3_K" || upper == "Q4_K" || upper == "Q5_K") upper += "_M";
    if (upper == "MXFP4") upper += "_MOE";
    for (const QuantizeTarget& target : kTargets)
        if (target.name == upper) return target;
    const std::string known = fmt::format("{}", fmt::join(quantize_target_names(), ", "));
    const bool codebook = upper.starts_with("IQ1") || upper.starts_with("IQ2") ||
                          upper.starts_with("IQ3") || upper.starts_with("TQ");
    throw Error(
        "quantize",
        fmt::format("{} {}, expected one of {}", quote(name),
                    codebook ? "is a format that is not supported" : "is no known type", known));
}

std::vector<std::string_view> quantize_target_names() {
    std::vector<std::string_view> names;
    for (const QuantizeTarget& target : kTargets) names.push_back(target.name);
    return names;
}

std::vector<TensorType> plan_tensor_types(const WeightMap& model, const QuantizeTarget& target,
                                          bool has_importance, bool pure) {
    const Facts facts = facts_of(model, target, has_importance);
    std::vector<TensorType> plan;
    for (const auto& [name, tensor] : model.tensors())
        plan.push_back({name, tensor.dtype, tensor.dtype, false});
    std::ranges::stable_sort(plan, {}, [](const TensorType& t) { return layer_of(t.name); });
    const bool mixed = !pure && dtype_info(target.base).block_elements > 1;
    int v = 0, down = 0;
    for (TensorType& t : plan) {
        const TensorView& tensor = model.tensors().find(t.name)->second;
        check_layer(model, t.name, facts.layers);
        if (!may_quantize(t.name, tensor)) continue;
        const Role role = role_of(t.name);
        // In dense models llama.cpp counts the matrices instead of reading their names.
        const int layer = facts.experts > 1 ? layer_of(t.name) : down;
        t.to = mixed ? choose(facts, target.base, tensor, role, layer, v) : target.base;
        v += like_v(role);
        down += role == Role::ffn_down;
        if (whole_blocks(tensor, t.to)) continue;
        t.fallback = true;
        t.to = smaller_blocks(t.to);
        if (!whole_blocks(tensor, t.to)) t.to = DType::f16;
    }
    return plan;
}

}  // namespace muster
