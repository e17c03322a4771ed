// SPDX-License-Identifier: Apache-2.0
#include "tools/make_checkpoint/families_reference.h"

#include <gtest/gtest.h>

#include "muster/core/test_directory.h"
#include "muster/core/thread_team.h"
#include "muster/cpu/isa.h"
#include "muster/model/forward.h"
#include "tools/make_checkpoint/gguf_output.h"

namespace muster::checkpoints {
namespace {

constexpr int kTokens = 40;

struct Case {
    const char* name;
    const char* preset;
    void (*change)(CheckpointSpec& spec);
};

const Case kCases[] = {
    {"gpt_oss", "tiny-gpt-oss", [](CheckpointSpec& s) { s.window = 9; }},
    {"gpt_oss_unclear_routes", "tiny-gpt-oss",
     [](CheckpointSpec& s) {
         s.window = 9;
         s.clear_routes = false;
     }},
    {"deepseek2", "tiny-deepseek2", [](CheckpointSpec&) {}},
    {"deepseek2_old", "tiny-deepseek2-old", [](CheckpointSpec&) {}},
    {"deepseek2_lite", "tiny-deepseek2-lite", [](CheckpointSpec&) {}},
    {"deepseek2_unclear_routes", "tiny-deepseek2",
     [](CheckpointSpec& s) { s.clear_routes = false; }},
};

class FamiliesReference : public ::testing::TestWithParam<Case> {};

/// Against doubles every value of the stream carries the rounding of a sum of at most 512 terms,
/// sqrt(512) 2^-24 of itself, from each of 7 products in 3 layers: 6e-6 of the logits, as a root
/// mean square. The largest of 20000 differences is 4.5 times that, 3e-5; the bound leaves a factor
/// of 3 for what softmax makes of errors in scores.
TEST_P(FamiliesReference, EngineEqualsItOnEveryInstructionSet) {
    CheckpointSpec spec = preset(GetParam().preset);
    spec.layers = 3;
    spec.vocab = 512;
    GetParam().change(spec);
    const TemporaryDirectory directory;
    const auto path = directory / "model.gguf";
    const GgufFile source(MUSTER_SOURCE_DIR "/models/default.gguf");
    write_gguf(spec, Tokenizer::from_gguf(source).vocabulary(), {parse_file_type("f32"), false, 0},
               path);
    std::vector<int32_t> tokens;
    for (int t = 0; t < kTokens; ++t) tokens.push_back((3 + 41 * t + 7 * t * t) % spec.vocab);
    const GgufFile file(path);
    const auto expected = FamilyReference(spec, file).logits(tokens);
    double squares = 0;
    for (const auto& row : expected)
        for (const double z : row) squares += z * z;
    const double size = std::sqrt(squares / (kTokens * spec.vocab));

    const Model model = Model::load(path);
    ThreadTeam team(2);
    for (const Isa isa : available_isas()) {
        set_isa(isa);
        ForwardContext context(model, team, kTokens);
        KvCache cache(model.config(), kTokens);
        RequestRouting routing(model.config());
        std::vector<BatchRow> rows;
        for (const int32_t id : tokens) rows.push_back({id, &cache, &routing, true});
        context.forward(rows);
        const MatrixView<float> logits = context.logits(0, kTokens);
        double worst = 0;
        for (int t = 0; t < kTokens; ++t)
            for (int i = 0; i < spec.vocab; ++i)
                worst = std::max(worst, std::abs(logits(t, i) - expected[t][i]));
        EXPECT_LT(worst, 1e-4 * size) << isa_name(isa);
    }
    set_isa(available_isas().back());
}

INSTANTIATE_TEST_SUITE_P(Tiny, FamiliesReference, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace muster::checkpoints
