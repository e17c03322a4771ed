// SPDX-License-Identifier: Apache-2.0
// What the sinks of an evaluation see: recorder, trace, statistics, atlas.
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/evaluate/expert_atlas.h"
#include "muster/evaluate/pass_recorder.h"
#include "muster/evaluate/perplexity.h"
#include "muster/evaluate/statistics_sink.h"
#include "muster/evaluate/trace_writer.h"
#include "muster/generate/session.h"
#include "muster/model/export.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;

/// Keeps everything.
class Keeper final : public TokenSink {
  public:
    struct Token {
        size_t document, position;
        int32_t id;
        float loss;
        std::vector<std::vector<int32_t>> experts;
        std::vector<float> entropy;
    };
    void document(const Document& document, std::span<const int32_t> tokens) override {
        names.push_back(document.domain);
        texts.emplace_back(tokens.begin(), tokens.end());
    }
    void token(const ScoredToken& t) override {
        Token kept{names.size() - 1, t.position, t.id, t.loss, {}, {}};
        for (const LayerRoutes& l : t.layers) {
            kept.experts.emplace_back(l.experts.begin(), l.experts.end());
            kept.entropy.push_back(l.entropy);
            EXPECT_EQ(l.experts.size(), l.weights.size());
        }
        tokens.push_back(std::move(kept));
    }
    std::vector<std::string> names;
    std::vector<std::vector<int32_t>> texts;
    std::vector<Token> tokens;
};

class Sinks : public ::testing::Test {
  protected:
    static Model make(const testing::TemporaryDirectory& directory) {
        // A dense layer, then two that route, with dynamic counts.
        testing::random_checkpoint(testing::tiny_muster()).write(directory / "run");
        export_gguf(directory / "run", directory / "model.gguf", DType::f32);
        return Model::load(directory / "model.gguf");
    }
    EvaluationResult evaluate(std::vector<TokenSink*> sinks, int window = 0) {
        EvaluateOptions options;
        options.window = window;
        options.max_rows = 7;  // passes that end within windows
        options.policies = {RoutingPolicy::parse("model"), RoutingPolicy::parse("top-k:1")};
        options.sinks = std::move(sinks);
        return evaluate_perplexity(model, documents, team, options);
    }

    testing::TemporaryDirectory directory;
    Model model = make(directory);
    ThreadTeam team{2};
    std::vector<Document> documents{{"a", "the theme of the other thing that is there"},
                                    {"b", "\xC3\xA9 this and that, the end of it all"},
                                    {"a", "a third text"}};
};

TEST(ScoreEntropy, IsThatOfTheShares) {
    EXPECT_NEAR(score_entropy(std::vector<float>{2, 2, 2, 2}), std::log(4), 1e-6);
    EXPECT_NEAR(score_entropy(std::vector<float>{3, 0, 0}), 0, 1e-9);
    EXPECT_NEAR(score_entropy(std::vector<float>{0.3f, 0.1f}),
                -0.75 * std::log(0.75) - 0.25 * std::log(0.25), 1e-6);
    EXPECT_EQ(score_entropy(std::vector<float>{0, 0}), 0);
}

TEST_F(Sinks, SeeEveryTokenOnceWhateverTheWindow) {
    for (const int window : {0, 8}) {
        Keeper keeper;
        const EvaluationResult result = evaluate({&keeper}, window);
        EXPECT_THAT(keeper.names, ElementsAre("a", "b", "a"));
        ASSERT_EQ(static_cast<int64_t>(keeper.tokens.size()), result.policies[0].all.tokens);
        double loss = 0;
        std::vector<double> experts(3);
        size_t document = 0, position = 0;
        for (const Keeper::Token& t : keeper.tokens) {
            position = t.document == document ? position + 1 : 1;
            document = t.document;
            EXPECT_EQ(t.position, position);
            EXPECT_EQ(t.id, keeper.texts[document][position]);
            EXPECT_TRUE(t.experts[0].empty()) << "dense";
            EXPECT_EQ(t.entropy[0], 0);
            EXPECT_GT(t.entropy[1], 0);
            loss += t.loss;
            for (size_t l = 0; l < 3; ++l) experts[l] += static_cast<double>(t.experts[l].size());
        }
        const auto n = static_cast<double>(keeper.tokens.size());
        EXPECT_NEAR(loss / n, result.policies[0].all.loss, 1e-9);
        for (size_t l = 1; l < 3; ++l)
            EXPECT_NEAR(experts[l] / n, result.policies[0].experts[l], 1e-9) << "layer " << l;
    }
}

TEST_F(Sinks, ProgressComesWithinTexts) {
    EvaluateOptions options;
    options.window = 8;  // the first text alone has several windows
    std::vector<int64_t> seen;
    options.progress = [&](std::string_view, int64_t done, int64_t total) {
        EXPECT_LE(done, total);
        EXPECT_GE(done, seen.empty() ? 0 : seen.back());
        seen.push_back(done);
        return true;
    };
    const EvaluationResult result = evaluate_perplexity(model, documents, team, options);
    EXPECT_EQ(seen.back(), result.policies[0].all.tokens);
    EXPECT_GT(seen.size(), 2 * documents.size());
    seen.clear();
    options.progress = [&](std::string_view, int64_t done, int64_t) {
        seen.push_back(done);
        return seen.size() < 2;
    };
    EXPECT_THROW(evaluate_perplexity(model, documents, team, options), Error);
    EXPECT_EQ(seen.size(), 2u) << "within the first text";
}

TEST_F(Sinks, TraceIsOneLinePerToken) {
    std::string text;
    TraceWriter writer(model, {}, [&](std::string_view line) { text += line; });
    Keeper keeper;
    evaluate({&writer, &keeper});
    std::istringstream lines(text);
    std::string line;
    ASSERT_TRUE(std::getline(lines, line));
    const json head = json::parse(line);
    EXPECT_EQ(head.at("format"), "muster-trace");
    EXPECT_EQ(head.at("experts"), json({0, 5, 6}));
    for (const Keeper::Token& t : keeper.tokens) {
        ASSERT_TRUE(std::getline(lines, line));
        const json d = json::parse(line);
        EXPECT_EQ(d.at("document"), t.document);
        EXPECT_EQ(d.at("domain"), keeper.names[t.document]);
        EXPECT_EQ(d.at("position"), t.position);
        EXPECT_EQ(d.at("id"), t.id);
        EXPECT_NEAR(d.at("loss").get<double>(), t.loss, 1e-5 * t.loss);
        EXPECT_EQ(d.at("experts"), json(t.experts));
        EXPECT_EQ(d.at("weights")[1].size(), t.experts[1].size());
        EXPECT_TRUE(d.at("entropy")[0].is_null());
        EXPECT_NEAR(d.at("entropy")[2].get<double>(), t.entropy[2], 1e-4);
    }
    EXPECT_FALSE(std::getline(lines, line));
    EXPECT_EQ(writer.tokens(), static_cast<int64_t>(keeper.tokens.size()));
}

TEST_F(Sinks, StatisticsCountTheSame) {
    StatisticsSink counted(model, {});
    Keeper keeper;
    evaluate({&counted, &keeper});
    const RoutingStatistics& s = counted.statistics();
    EXPECT_EQ(s.model_hash, model.hash());
    EXPECT_EQ(s.policies.at("model"), static_cast<int64_t>(keeper.tokens.size()));
    EXPECT_TRUE(s.layers[0].load.empty());
    std::vector<int64_t> load(6);
    std::vector<double> loss(6);
    for (const Keeper::Token& t : keeper.tokens)
        for (const int32_t e : t.experts[2]) ++load[e], loss[e] += t.loss;
    EXPECT_EQ(s.layers[2].load, load);
    EXPECT_EQ(s.layers[2].scored, load);
    for (size_t e = 0; e < 6; ++e) EXPECT_NEAR(s.layers[2].loss[e], loss[e], 1e-6);
}

TEST_F(Sinks, SessionsCountPromptAndAnswer) {
    PassStatistics counted(model);
    SessionOptions options;
    options.trace = &counted;
    Session session(model, team, options);
    GenerateOptions generate;
    generate.max_tokens = 5;
    generate.ignore_end = true;
    double loss = 0;
    generate.on_token = [&](const GeneratedToken& t) {
        if (t.id >= 0) counted.predicted(t.row, t.loss), loss += t.loss;
        return true;
    };
    const auto prompt = model.tokenizer().encode("the theme");
    session.generate(prompt, generate);
    // The last written token is in no pass.
    const auto rows = static_cast<int64_t>(prompt.size()) + 4;
    EXPECT_EQ(counted.statistics().policies.at("model"), rows);
    const LoadStatistics& layer = counted.statistics().layers[2];
    EXPECT_EQ(layer.tokens, rows);
    int64_t scored = 0;
    double losses = 0;
    for (size_t e = 0; e < 6; ++e) scored += layer.scored[e], losses += layer.loss[e];
    EXPECT_EQ(scored, 5 * 2) << "two experts for each written token";
    EXPECT_NEAR(losses, 2 * loss, 1e-4);
}

TEST_F(Sinks, AtlasAddsUp) {
    AtlasCollector collector(model, {});
    Keeper keeper;
    evaluate({&collector, &keeper});
    const ExpertAtlas& atlas = collector.atlas();
    ASSERT_EQ(atlas.tokens(), keeper.tokens.size());
    EXPECT_THAT(atlas.domains, ElementsAre("a", "b"));
    EXPECT_EQ(atlas.moe_layers(), 2);
    EXPECT_EQ(atlas.documents.size(), 3u);
    std::string text = atlas.documents[1].lead;
    for (size_t t = 0; t < atlas.documents[1].tokens; ++t)
        text += atlas.strings[atlas.text[atlas.documents[1].first + t]];
    EXPECT_THAT(text, ::testing::HasSubstr(documents[1].text)) << "characters are whole again";
    const LayerAtlas& layer = atlas.layers[2];
    int64_t together = 0, sum = 0, pairs = 0;
    for (const Keeper::Token& t : keeper.tokens) {
        const auto has = [&](int e) {
            return std::count(t.experts[2].begin(), t.experts[2].end(), e);
        };
        together += has(1) * has(4);
    }
    EXPECT_EQ(layer.pair(1, 4), together);
    for (const int64_t n : layer.by_domain) sum += n;
    for (const int64_t n : layer.pairs) pairs += n;
    EXPECT_EQ(sum, layer.load.activations());
    EXPECT_EQ(pairs, layer.load.tokens) << "one pair for each token of top-2";
}

}  // namespace
}  // namespace muster
