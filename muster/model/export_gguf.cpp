// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include "muster/checkpoint/gguf.h"
#include "muster/core/error.h"
#include "muster/model/export.h"
#include "muster/model/names.h"
#include "muster/model/training_checkpoint.h"

namespace muster {
namespace {

/// llama.cpp's general.file_type.
uint32_t file_type(DType dtype) {
    switch (dtype) {
        case DType::f16:
            return 1;
        case DType::q8_0:
            return 7;
        case DType::bf16:
            return 32;
        default:
            return 0;
    }
}

class GgufExport {
  public:
    GgufExport(const TrainingCheckpoint& source, DType dtype)
        : source_(source),
          config_(source.config()),
          dtype_(dtype),
          olmoe_(beyond_olmoe(config_).empty()),
          arch_(olmoe_ ? "olmoe" : "muster") {}

    void run(const std::filesystem::path& out, const Progress& progress) {
        write_general();
        olmoe_ ? write_olmoe_keys() : write_muster_keys();
        write_vocabulary(source_.vocabulary(), writer_);
        const int layers = config_.num_layers();
        add_ends();
        for (int l = 0; l < layers; ++l) {
            report_export(progress, "converting layers", l, layers);
            add_attention(l);
            add_feed_forward(l);
        }
        report_export(progress, "converting layers", layers, layers);
        writer_.write(out);
    }

  private:
    std::string key(const char* name) const { return arch_ + "." + name; }

    void write_general() {
        writer_.set_string("general.architecture", arch_);
        if (!config_.name.empty()) writer_.set_string("general.name", config_.name);
        writer_.set_u32("general.file_type", file_type(dtype_));
        if (dtype_ == DType::q8_0) writer_.set_u32("general.quantization_version", 2);
        writer_.set_u32(key("block_count"), config_.num_layers());
        writer_.set_u32(key("context_length"), config_.context);
        writer_.set_u32(key("embedding_length"), config_.d_model);
        writer_.set_u32(key("attention.head_count"), config_.heads);
        writer_.set_u32(key("attention.head_count_kv"), config_.kv_heads);
        writer_.set_f32(key("attention.layer_norm_rms_epsilon"), config_.norm_eps);
        writer_.set_f32(key("rope.freq_base"), config_.rope_theta);
        writer_.set_u32(key("expert_used_count"), equivalent_top_k(config_));
        writer_.set_string("muster.routing.policy", config_.policy.to_string());
        if (!config_.mean_experts.empty())
            writer_.set_f32s("muster.mean_experts",
                             {config_.mean_experts.begin(), config_.mean_experts.end()});
    }

    void write_olmoe_keys() {
        const FeedForwardConfig& ff = config_.layers[0];
        const RouterSpec& r = ff.router;
        writer_.set_u32("olmoe.feed_forward_length", ff.widths[0]);
        writer_.set_u32("olmoe.expert_count", ff.experts());
        writer_.set_u32("olmoe.rope.dimension_count", config_.head_dim);
        const bool plain = r.selection == Selection::top_k &&
                           r.value == equivalent_top_k(config_) && r.min == 1 && r.max == 0;
        if (!plain) write_router_keys();
    }

    void write_muster_keys() {
        std::vector<int32_t> counts, widths, shared;
        for (const FeedForwardConfig& ff : config_.layers) {
            counts.push_back(ff.experts());
            widths.insert(widths.end(), ff.widths.begin(), ff.widths.end());
            shared.push_back(ff.shared_width);
        }
        writer_.set_u32("muster.attention.key_length", config_.head_dim);
        writer_.set_string("muster.attention.qk_norm", std::string(qk_norm_name(config_.qk_norm)));
        writer_.set_string("muster.rope.layout", std::string(rope_name(config_.rope)));
        writer_.set_string("muster.feed_forward.activation",
                           std::string(activation_name(config_.activation)));
        writer_.set_bool("muster.feed_forward.gated", config_.gated);
        writer_.set_i32s("muster.expert_count", counts);
        writer_.set_i32s("muster.expert_feed_forward_length", widths);
        writer_.set_i32s("muster.expert_shared_feed_forward_length", shared);
        write_router_keys();
    }

    template <typename T, typename Get>
    std::vector<T> per_layer(Get get) const {
        std::vector<T> values;
        values.reserve(config_.layers.size());
        for (const FeedForwardConfig& ff : config_.layers)
            values.push_back(static_cast<T>(get(ff.router)));
        return values;
    }

    void write_router_keys() {
        const auto words = [&](const char* name, auto get) {
            writer_.set_strings(name, per_layer<std::string>(get));
        };
        const auto reals = [&](const char* name, auto get) {
            writer_.set_f32s(name, per_layer<float>(get));
        };
        const auto integers = [&](const char* name, auto get) {
            writer_.set_i32s(name, per_layer<int32_t>(get));
        };
        using R = const RouterSpec&;
        words("muster.router.score", [](R r) { return score_name(r.score); });
        words("muster.router.selection", [](R r) { return selection_name(r.selection); });
        words("muster.router.weight", [](R r) { return weighting_name(r.weight); });
        reals("muster.router.value", [](R r) { return r.value; });
        reals("muster.router.scale", [](R r) { return r.scale; });
        reals("muster.router.renorm_floor", [](R r) { return r.renorm_floor; });
        reals("muster.router.capacity_factor", [](R r) { return r.capacity_factor; });
        integers("muster.router.min", [](R r) { return r.min; });
        integers("muster.router.max", [](R r) { return r.max; });
        integers("muster.router.groups", [](R r) { return r.groups; });
        integers("muster.router.groups_used", [](R r) { return r.groups_used; });
        integers("muster.router.group_top", [](R r) { return r.group_top; });
    }

    /// The format of a weight matrix whose rows have `cols` values.
    DType format(int64_t cols) const {
        return cols % dtype_info(dtype_).block_elements == 0 ? dtype_ : DType::f32;
    }
    void add(std::string name, std::string_view from, std::vector<int64_t> shape, DType dtype) {
        const TensorView& t = source_.tensor(from, shape);
        if (t.dtype == dtype) {
            writer_.add_tensor(std::move(name), t);
        } else {
            std::vector<std::byte> bytes = source_.converted(from, shape, dtype);
            writer_.add_tensor(std::move(name), dtype, std::move(shape), std::move(bytes));
        }
    }
    void add_matrix(std::string name, std::string_view from, int64_t rows, int64_t cols) {
        add(std::move(name), from, {rows, cols}, format(cols));
    }
    void add_vector(std::string name, std::string_view from, int64_t size) {
        add(std::move(name), from, {size}, DType::f32);
    }

    void add_ends() {
        const int64_t v = config_.vocab, d = config_.d_model;
        add_matrix("token_embd.weight", tensor_names::kEmbedding, v, d);
        add_vector("output_norm.weight", tensor_names::kFinalNorm, d);
        const auto head = config_.tied_head ? tensor_names::kEmbedding : tensor_names::kHead;
        if (olmoe_ || !config_.tied_head) add_matrix("output.weight", head, v, d);
    }

    void add_attention(int l) {
        const int64_t d = config_.d_model, dim = config_.head_dim;
        const int64_t q = config_.heads * dim, kv = config_.kv_heads * dim;
        const auto matrix = [&](const char* to, std::string_view from, int64_t rows, int64_t cols) {
            add_matrix(block(l, to), tensor_names::layer(l, from), rows, cols);
        };
        const auto vector = [&](const char* to, std::string_view from, int64_t size) {
            add_vector(block(l, to), tensor_names::layer(l, from), size);
        };
        vector("attn_norm", tensor_names::kAttentionNorm, d);
        vector("ffn_norm", tensor_names::kFeedForwardNorm, d);
        matrix("attn_q", tensor_names::kQuery, q, d);
        matrix("attn_k", tensor_names::kKey, kv, d);
        matrix("attn_v", tensor_names::kValue, kv, d);
        matrix("attn_output", tensor_names::kOutput, d, q);
        if (config_.qk_norm == QkNorm::none) return;
        const bool full = config_.qk_norm == QkNorm::full;
        vector("attn_q_norm", tensor_names::kQueryNorm, full ? q : dim);
        vector("attn_k_norm", tensor_names::kKeyNorm, full ? kv : dim);
    }

    static std::string block(int l, const std::string& rest) {
        return "blk." + std::to_string(l) + "." + rest + ".weight";
    }

    void add_feed_forward(int l) {
        const FeedForwardConfig& ff = config_.layers[l];
        const int64_t d = config_.d_model;
        if (!ff.dense())
            add(block(l, "ffn_gate_inp"), tensor_names::layer(l, tensor_names::kRouter),
                {ff.experts(), d}, DType::f32);
        for (const char* what : {"gate", "up", "down"}) {
            if (!config_.gated && std::string_view(what) == "gate") continue;
            const std::string name = "ffn_" + std::string(what);
            if (!ff.dense() && ff.equal_widths()) {
                add_stack(block(l, name + "_exps"), l, what);
            } else {
                for (int e = 0; e < ff.experts(); ++e)
                    add_expert(block(l, ff.dense() ? name : name + "." + std::to_string(e)), l, e,
                               what);
            }
            if (ff.shared_width > 0) add_shared(block(l, name + "_shexp"), l, what);
        }
    }

    std::vector<int64_t> shape(std::string_view what, int64_t width) const {
        if (what == "down") return {config_.d_model, width};
        return {width, config_.d_model};
    }

    void add_expert(std::string name, int l, int e, std::string_view what) {
        const auto dims = shape(what, config_.layers[l].widths[e]);
        add_matrix(std::move(name), tensor_names::expert(l, e, what), dims[0], dims[1]);
    }

    void add_shared(std::string name, int l, std::string_view what) {
        const auto dims = shape(what, config_.layers[l].shared_width);
        const auto from = what == "gate" ? tensor_names::kSharedGate
                          : what == "up" ? tensor_names::kSharedUp
                                         : tensor_names::kSharedDown;
        add_matrix(std::move(name), tensor_names::layer(l, from), dims[0], dims[1]);
    }

    /// All experts of a layer in one tensor [E, rows, cols].
    void add_stack(std::string name, int l, std::string_view what) {
        const FeedForwardConfig& ff = config_.layers[l];
        const auto dims = shape(what, ff.widths[0]);
        const DType dtype = format(dims[1]);
        std::vector<std::byte> bytes;
        bytes.reserve(ff.experts() * dtype_bytes(dtype, dims[0] * dims[1]));
        for (int e = 0; e < ff.experts(); ++e) {
            const std::vector<std::byte> part =
                source_.converted(tensor_names::expert(l, e, what), dims, dtype);
            bytes.insert(bytes.end(), part.begin(), part.end());
        }
        writer_.add_tensor(std::move(name), dtype, {ff.experts(), dims[0], dims[1]},
                           std::move(bytes));
    }

    const TrainingCheckpoint& source_;
    const ModelConfig& config_;
    DType dtype_;
    bool olmoe_;
    std::string arch_;
    GgufWriter writer_;
};

}  // namespace

void export_gguf(const std::filesystem::path& checkpoint, const std::filesystem::path& out,
                 DType dtype, const Progress& progress) {
    if (dtype == DType::i32)
        throw Error("export", "i32 holds no weights, expected f32, f16, bf16 or q8_0");
    const TrainingCheckpoint source(checkpoint);
    expect_outside(checkpoint, out.parent_path());
    GgufExport(source, dtype).run(out, progress);
}

}  // namespace muster
