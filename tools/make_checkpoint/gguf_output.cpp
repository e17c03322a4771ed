// SPDX-License-Identifier: Apache-2.0
#include "tools/make_checkpoint/gguf_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "muster/checkpoint/gguf.h"
#include "muster/core/error.h"
#include "muster/quant/convert.h"

namespace muster::checkpoints {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 22;

/// Gives the rows of a tensor, in its format, to `sink`.
void produce(const CheckpointSpec& spec, const TensorPlan& plan, DType dtype, bool random,
             const GgufWriter::Sink& sink) {
    const int64_t row_bytes = dtype_bytes(dtype, plan.cols());
    const int64_t step = std::max<int64_t>(1, kPieceBytes / row_bytes);
    std::vector<std::byte> piece;
    std::vector<float> values(static_cast<size_t>(plan.cols()));
    Random generator(stream_seed(spec, plan));
    for (int64_t first = 0; first < plan.rows(); first += step) {
        const int64_t count = std::min(step, plan.rows() - first);
        piece.resize(static_cast<size_t>(count * row_bytes));
        if (random && dtype != DType::f32) {
            random_blocks(dtype, plan.deviation, generator, piece);
        } else {
            for (int64_t r = 0; r < count; ++r) {
                fill_row(spec, plan, first + r, values);
                encode_row(dtype, values.data(), piece.data() + r * row_bytes, plan.cols());
            }
        }
        sink(piece);
    }
}

class Metadata {
  public:
    Metadata(const CheckpointSpec& spec, GgufWriter& writer)
        : s_(spec), w_(writer), prefix_(std::string(architecture(spec.family)) + ".") {}

    void write(const FileType& type) {
        w_.set_string("general.architecture", architecture(s_.family));
        w_.set_string("general.name", s_.name);
        w_.set_u32("general.file_type", type.number);
        w_.set_u32("general.quantization_version", 2);
        u32("block_count", s_.layers);
        u32("context_length", s_.context);
        u32("embedding_length", s_.d_model);
        u32("vocab_size", s_.vocab);
        const bool moe_width = s_.family == Family::olmoe || s_.family == Family::granitemoe ||
                               s_.family == Family::llama;
        u32("feed_forward_length", moe_width && s_.experts > 0 ? s_.expert_width
                                   : s_.dense_width > 0        ? s_.dense_width
                                                               : s_.expert_width);
        f32("attention.layer_norm_rms_epsilon", s_.norm_eps);
        attention();
        scaling();
        if (s_.experts > 0) experts(moe_width);
        if (s_.family == Family::granitemoe) {
            f32("embedding_scale", s_.embedding_scale);
            f32("residual_scale", s_.residual_scale);
            if (s_.attention_scale > 0) f32("attention.scale", s_.attention_scale);
            f32("logit_scale", logit_scale(s_));
        }
    }

  private:
    void u32(const char* key, int64_t value) {
        w_.set_u32(prefix_ + key, static_cast<uint32_t>(value));
    }
    void f32(const char* key, double value) {
        w_.set_f32(prefix_ + key, static_cast<float>(value));
    }

    void attention() {
        const LatentAttention& a = s_.latent;
        f32("rope.freq_base", s_.rope_theta);
        u32("attention.head_count", s_.heads);
        if (a.kv_rank == 0) {
            u32("attention.head_count_kv", s_.kv_heads);
            u32("rope.dimension_count", s_.head_dim);
            u32("attention.key_length", s_.head_dim);
            u32("attention.value_length", s_.head_dim);
        } else {
            // Split files present latent attention as one key/value head of the latent's width.
            u32("attention.head_count_kv", a.split ? 1 : s_.kv_heads);
            u32("rope.dimension_count", a.rope_dim);
            if (a.query_rank > 0) u32("attention.q_lora_rank", a.query_rank);
            u32("attention.kv_lora_rank", a.kv_rank);
            u32("attention.key_length", a.split ? a.kv_rank + a.rope_dim : s_.head_dim);
            u32("attention.value_length", a.split ? a.kv_rank : a.value_dim);
            if (a.split) {
                u32("attention.key_length_mla", s_.head_dim);
                u32("attention.value_length_mla", a.value_dim);
            }
        }
        if (s_.window > 0) u32("attention.sliding_window", s_.window);
    }

    void scaling() {
        const bool yarn = s_.scaling.kind == RopeScaling::Kind::yarn;
        if (!yarn && s_.scaling.kind != RopeScaling::Kind::linear) return;
        w_.set_string(prefix_ + "rope.scaling.type", yarn ? "yarn" : "linear");
        f32("rope.scaling.factor", s_.scaling.factor);
        if (!yarn) return;
        u32("rope.scaling.original_context_length", s_.scaling.original_context);
        if (s_.scaling.mscale_all_dim > 0)
            f32("rope.scaling.yarn_log_multiplier", 0.1 * s_.scaling.mscale_all_dim);
    }

    void experts(bool moe_width) {
        u32("expert_count", s_.experts);
        u32("expert_used_count", s_.used);
        if (!moe_width) u32("expert_feed_forward_length", s_.expert_width);
        if (s_.family != Family::deepseek2) {
            if (s_.shared_width > 0) u32("expert_shared_feed_forward_length", s_.shared_width);
            return;
        }
        u32("leading_dense_block_count", s_.dense_layers);
        u32("expert_shared_count", s_.shared_experts);
        f32("expert_weights_scale", s_.weight_scale);
        w_.set_bool(prefix_ + "expert_weights_norm", s_.renorm);
        u32("expert_gating_func", s_.sigmoid ? 2 : 1);
        if (s_.groups > 1) {
            u32("expert_group_count", s_.groups);
            u32("expert_group_used_count", s_.groups_used);
        }
    }

    const CheckpointSpec& s_;
    GgufWriter& w_;
    std::string prefix_;
};

}  // namespace

Vocabulary fitted(Vocabulary vocabulary, int size) {
    const int before = vocabulary.size();
    vocabulary.pieces.resize(size);
    if (vocabulary.kind == Vocabulary::Kind::scores) vocabulary.scores.resize(size, -1e6f);
    vocabulary.types.resize(size, TokenType::unused);
    for (int i = before; i < size; ++i) vocabulary.pieces[i] = fmt::format("[unused{}]", i);
    std::erase_if(vocabulary.merges, [&](const PieceMerge& m) {
        return std::max({m.left, m.right, m.merged}) >= size;
    });
    std::erase_if(vocabulary.added, [&](const AddedTokenRule& rule) { return rule.id >= size; });
    for (int32_t* special :
         {&vocabulary.bos, &vocabulary.eos, &vocabulary.unk, &vocabulary.eot, &vocabulary.pad})
        if (*special >= size) *special = -1;
    return vocabulary;
}

std::vector<std::filesystem::path> write_gguf(const CheckpointSpec& spec,
                                              const Vocabulary& vocabulary,
                                              const GgufOptions& options,
                                              const std::filesystem::path& path) {
    GgufWriter writer;
    Metadata(spec, writer).write(options.type);
    write_vocabulary(fitted(vocabulary, spec.vocab), writer);
    for (const TensorPlan& plan : plan_tensors(spec)) {
        const DType dtype = tensor_format(options.type, spec, plan);
        writer.add_tensor(plan.name, dtype, plan.shape, [=, &spec](const GgufWriter::Sink& sink) {
            produce(spec, plan, dtype, options.random_blocks, sink);
        });
    }
    if (options.max_shard_bytes > 0) return writer.write_split(path, options.max_shard_bytes);
    writer.write(path);
    return {path};
}

}  // namespace muster::checkpoints
