// SPDX-License-Identifier: Apache-2.0
// Files whose experts' gate and up are one tensor compute what files with two compute, to the bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "muster/checkpoint/gguf.h"
#include "muster/core/error.h"
#include "muster/core/test_directory.h"
#include "muster/core/thread_team.h"
#include "muster/model/forward.h"
#include "tools/make_checkpoint/gguf_output.h"

namespace muster::checkpoints {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// Each expert's part of `gate`, then its part of `up`.
std::vector<std::byte> joined(const TensorView& gate, const TensorView& up) {
    const int64_t experts = gate.shape[0], bytes = gate.bytes() / experts;
    std::vector<std::byte> out;
    for (int64_t e = 0; e < experts; ++e)
        for (const TensorView* t : {&gate, &up})
            out.insert(out.end(), t->data + e * bytes, t->data + (e + 1) * bytes);
    return out;
}

void write_fused(const GgufFile& from, const std::filesystem::path& path) {
    GgufWriter writer;
    for (const auto& [key, value] : from.metadata()) writer.copy(from, key);
    for (const auto& [name, tensor] : from.tensors()) {
        const size_t at = name.find("ffn_gate_exps");
        if (name.find("ffn_up_exps") != std::string::npos) continue;
        if (at == std::string::npos) {
            writer.add_tensor(name, tensor);
            continue;
        }
        const std::string block = name.substr(0, at), end = name.substr(at + 13);
        std::vector<int64_t> shape = tensor.shape;
        shape[1] *= 2;
        writer.add_tensor(block + "ffn_gate_up_exps" + end, tensor.dtype, shape,
                          joined(tensor, from.tensors().at(block + "ffn_up_exps" + end)));
    }
    writer.write(path);
}

std::vector<float> logits(const std::filesystem::path& path, Compute compute) {
    constexpr int kTokens = 12;
    ThreadTeam team(2);
    const Model model = Model::load(path, {.panels = compute == Compute::int8 ? &team : nullptr});
    ForwardContext context(model, team, kTokens, compute);
    KvCache cache(model.config(), kTokens);
    RequestRouting routing(model.config());
    std::vector<BatchRow> rows;
    for (int t = 0; t < kTokens; ++t)
        rows.push_back({(5 + 37 * t) % model.config().vocab, &cache, &routing, true});
    context.forward(rows);
    const MatrixView<float> out = context.logits(0, kTokens);
    return {out.data, out.data + out.rows * out.cols};
}

TEST(FusedExperts, ComputeWhatSeparateOnesDo) {
    const TemporaryDirectory directory;
    const GgufFile source(MUSTER_SOURCE_DIR "/models/default.gguf");
    for (const char* name : {"tiny-qwen3moe", "tiny-gpt-oss", "tiny-deepseek2"}) {
        CheckpointSpec spec = preset(name);
        spec.layers = 2;
        spec.vocab = 300;
        write_gguf(spec, Tokenizer::from_gguf(source).vocabulary(),
                   {parse_file_type("q8_0"), true, 0}, directory / "apart.gguf");
        const GgufFile apart(directory / "apart.gguf");
        write_fused(apart, directory / "fused.gguf");
        for (const Compute compute : {Compute::f32, Compute::int8})
            EXPECT_EQ(logits(directory / "apart.gguf", compute),
                      logits(directory / "fused.gguf", compute))
                << name;
    }
}

TEST(FusedExperts, OfAnotherShapeAreRefused) {
    const TemporaryDirectory directory;
    const GgufFile source(MUSTER_SOURCE_DIR "/models/default.gguf");
    CheckpointSpec spec = preset("tiny-qwen3moe");
    spec.layers = 2;
    spec.vocab = 300;
    write_gguf(spec, Tokenizer::from_gguf(source).vocabulary(), {parse_file_type("q8_0"), true, 0},
               directory / "apart.gguf");
    const GgufFile apart(directory / "apart.gguf");
    GgufWriter writer;
    for (const auto& [key, value] : apart.metadata()) writer.copy(apart, key);
    for (const auto& [name, tensor] : apart.tensors()) {
        writer.add_tensor(name, tensor);
        if (name == "blk.0.ffn_up_exps.weight")
            writer.add_tensor("blk.0.ffn_gate_up_exps.weight", tensor);  // half of what it must be
    }
    writer.write(directory / "bad.gguf");
    EXPECT_THAT([&] { Model::load(directory / "bad.gguf"); },
                ThrowsMessage<Error>(HasSubstr("blk.0.ffn_gate_up_exps.weight")));
}

}  // namespace
}  // namespace muster::checkpoints
