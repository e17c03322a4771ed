// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "muster/checkpoint/gguf.h"
#include "muster/core/atomic_file.h"
#include "muster/core/test_directory.h"
#include "muster/quant/convert.h"
#include "tools/make_checkpoint/gguf_output.h"

namespace muster::checkpoints {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class MakeCheckpoint : public ::testing::Test {
  protected:
    std::vector<std::filesystem::path> write(const CheckpointSpec& spec, const GgufOptions& options,
                                             const std::string& name) {
        const GgufFile source(MUSTER_SOURCE_DIR "/models/default.gguf");
        return write_gguf(spec, Tokenizer::from_gguf(source).vocabulary(), options,
                          directory_ / name);
    }

    TemporaryDirectory directory_;
};

CheckpointSpec small(const char* name) {
    CheckpointSpec spec = preset(name);
    spec.layers = std::min(spec.layers, 2);
    spec.vocab = 300;
    return spec;
}

std::vector<float> values(const CheckpointSpec& spec, const std::string& name) {
    for (const TensorPlan& plan : plan_tensors(spec)) {
        if (plan.name != name) continue;
        std::vector<float> all(static_cast<size_t>(plan.rows() * plan.cols()));
        for (int64_t r = 0; r < plan.rows(); ++r)
            fill_row(spec, plan, r, std::span(all).subspan(r * plan.cols(), plan.cols()));
        return all;
    }
    ADD_FAILURE() << name;
    return {};
}

TEST(RandomBlocks, HaveTheWantedSizeAndMean) {
    for (const DType dtype : all_dtypes()) {
        if (dtype == DType::f32 || dtype == DType::i32) continue;
        constexpr int64_t kCount = 256 * 256;
        std::vector<std::byte> bytes(static_cast<size_t>(dtype_bytes(dtype, kCount)));
        std::vector<float> decoded(kCount);
        Random random(3);
        random_blocks(dtype, 0.02, random, bytes);
        decode_row(dtype, bytes.data(), decoded.data(), kCount);
        double sum = 0, squares = 0;
        for (const float x : decoded) {
            sum += x;
            squares += static_cast<double>(x) * x;
        }
        // MXFP4's scales are powers of two: off by at most sqrt(2).
        const double tolerance = dtype == DType::mxfp4 ? 0.42 : 0.05;
        const double rms = std::sqrt(squares / kCount);
        EXPECT_NEAR(rms / 0.02, 1, tolerance) << dtype_info(dtype).name;
        EXPECT_LT(std::abs(sum / kCount), 0.2 * rms) << dtype_info(dtype).name;
    }
}

TEST_F(MakeCheckpoint, SeedDecidesEveryByte) {
    CheckpointSpec spec = small("tiny-qwen3moe");
    const GgufOptions options{parse_file_type("q8_0"), false, 0};
    const std::string first = read_file(write(spec, options, "a.gguf")[0]);
    EXPECT_EQ(first, read_file(write(spec, options, "b.gguf")[0]));
    spec.seed = 2;
    EXPECT_NE(first, read_file(write(spec, options, "c.gguf")[0]));
}

TEST_F(MakeCheckpoint, EveryFamilyInEveryFormatIsAWholeFile) {
    for (const std::string& name : preset_names()) {
        if (!name.starts_with("tiny-")) continue;
        for (const char* type : {"bf16", "q4_k_m", "mxfp4_moe", "iq4_xs"}) {
            const CheckpointSpec spec = small(name.c_str());
            const auto path = write(spec, {parse_file_type(type), true, 0}, "x.gguf")[0];
            const GgufFile file(path);
            EXPECT_EQ(file.string("general.architecture"), architecture(spec.family));
            EXPECT_EQ(file.strings("tokenizer.ggml.tokens").size(), 300u);
            EXPECT_EQ(file.tensors().size(), plan_tensors(spec).size());
            for (const TensorPlan& plan : plan_tensors(spec))
                EXPECT_NO_THROW(file.tensor(plan.name, plan.shape)) << name << ' ' << plan.name;
        }
    }
}

TEST_F(MakeCheckpoint, PartsHoldTheSameTensors) {
    const CheckpointSpec spec = small("tiny-mixtral");
    const GgufFile whole(write(spec, {parse_file_type("f16"), false, 0}, "whole.gguf")[0]);
    const auto paths = write(spec, {parse_file_type("f16"), false, 2'000'000}, "parts.gguf");
    EXPECT_GT(paths.size(), 2u);
    const WeightMap parts = open_gguf(paths.front());
    ASSERT_EQ(parts.tensors().size(), whole.tensors().size());
    for (const auto& [name, view] : whole.tensors())
        EXPECT_TRUE(
            std::equal(view.data, view.data + view.bytes(), parts.tensor(name, view.shape).data))
            << name;
}

TEST(Weights, LayoutsOfLatentAttentionHoldTheSameValues) {
    const CheckpointSpec split = small("tiny-deepseek2");
    const CheckpointSpec whole = small("tiny-deepseek2-old");
    const LatentAttention& a = split.latent;
    const auto kv = values(whole, "blk.1.attn_kv_b.weight");
    const auto k = values(split, "blk.1.attn_k_b.weight");
    const auto v = values(split, "blk.1.attn_v_b.weight");
    const int head = 3, rank = 77, inner = 11;
    const int first = head * (a.nope_dim + a.value_dim);
    EXPECT_EQ(kv[(first + inner) * a.kv_rank + rank],
              k[(head * a.kv_rank + rank) * a.nope_dim + inner]);
    EXPECT_EQ(kv[(first + a.nope_dim + inner) * a.kv_rank + rank],
              v[(head * a.value_dim + inner) * a.kv_rank + rank]);
    EXPECT_EQ(values(whole, "blk.0.attn_output.weight"), values(split, "blk.0.attn_output.weight"));
}

TEST(Weights, ClearRoutesHaveGaps) {
    const CheckpointSpec spec = small("tiny-olmoe");
    const auto embedding = values(spec, "token_embd.weight");
    const auto router = values(spec, "blk.1.ffn_gate_inp.weight");
    for (int token = 0; token < 50; ++token) {
        std::vector<double> logits(spec.experts);
        for (int e = 0; e < spec.experts; ++e)
            for (int i = 0; i < spec.experts; ++i)
                logits[e] += static_cast<double>(router[e * spec.d_model + i]) *
                             embedding[token * spec.d_model + i];
        std::ranges::sort(logits);
        for (int e = 1; e < spec.experts; ++e) EXPECT_GT(logits[e] - logits[e - 1], 0.2);
    }
}

TEST(Specification, SaysWhatCannotWork) {
    CheckpointSpec spec = preset("tiny-mixtral");
    spec.used = 9;
    EXPECT_THAT([&] { check(spec); }, ThrowsMessage<Error>(HasSubstr("one expert per token")));
    EXPECT_THAT([] { preset("nothing"); }, ThrowsMessage<Error>(HasSubstr("tiny-gpt-oss")));
    EXPECT_THAT([] { parse_file_type("q9"); }, ThrowsMessage<Error>(HasSubstr("q4_k_m")));
    for (const std::string& name : preset_names()) EXPECT_NO_THROW(check(preset(name))) << name;
}

}  // namespace
}  // namespace muster::checkpoints
