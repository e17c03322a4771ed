// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/perplexity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/evaluate/speed.h"
#include "muster/generate/token_losses.h"
#include "muster/model/export.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;

Model tiny_model(const TemporaryDirectory& directory) {
    testing::random_checkpoint(testing::tiny_olmoe()).write(directory / "run");
    export_gguf(directory / "run", directory / "model.gguf", DType::f32);
    return Model::load(directory / "model.gguf");
}

TEST(Documents, AreReadFromTextAndJsonLines) {
    const TemporaryDirectory directory;
    write_file(directory / "a.txt", "plain\ntext\n");
    write_file(directory / "b.jsonl",
               "{\"domain\": \"x\", \"text\": \"one\"}\n\n{\"text\": \"tw\\u00f6\"}\n"
               "{\"domain\": \"x\", \"text\": \"\"}");
    write_file(directory / "empty.txt", "");
    const auto documents =
        read_documents({directory / "a.txt", directory / "b.jsonl", directory / "empty.txt"});
    ASSERT_EQ(documents.size(), 3u);
    EXPECT_EQ(documents[0].text, "plain\ntext\n");
    EXPECT_EQ(documents[1].domain, "x");
    EXPECT_EQ(documents[2].text, "tw\xC3\xB6");
    const auto refusal = [&](const char* line) -> std::string {
        write_file(directory / "bad.jsonl", std::string("{\"text\": \"fine\"}\n") + line);
        try {
            read_documents({directory / "bad.jsonl"});
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    };
    EXPECT_THAT(refusal("{\"text\": 5}"), HasSubstr("bad.jsonl:2"));
    EXPECT_THAT(refusal("{\"body\": \"x\"}"), HasSubstr("\"text\""));
    EXPECT_THAT(refusal("[1]"), HasSubstr("JSON object"));
    EXPECT_THAT(refusal("{\"text\": \"x\""), HasSubstr("JSON object"));
    EXPECT_THROW(read_documents({directory / "missing.txt"}), Error);
}

TEST(Perplexity, AddsUpTokenLosses) {
    const TemporaryDirectory directory;
    const Model model = tiny_model(directory);
    ThreadTeam team(2);
    std::vector<Document> documents;
    documents.reserve(25);
    for (int i = 0; i < 24; ++i)
        documents.push_back({i % 3 == 0 ? "a" : "b", "text " + std::to_string(i * i) + " the end"});
    documents.push_back({"a", ""});
    EvaluateOptions options;
    options.policies = {RoutingPolicy::parse("model"), RoutingPolicy::parse("top-k:1"),
                        RoutingPolicy::parse("top-k:2")};
    const EvaluationResult result = evaluate_perplexity(model, documents, team, options);
    EXPECT_EQ(result.unit, "documents");
    EXPECT_EQ(result.policies.size(), 3u);

    ForwardContext context(model, team, 16);
    KvCache cache(model.config(), 48);
    for (size_t p = 0; p < 3; ++p) {
        RequestRouting routing(model.config(), options.policies[p]);
        double sum = 0, sum_a = 0;
        int64_t tokens = 0, bytes = 0;
        for (const Document& d : documents) {
            const auto losses =
                token_losses(context, cache, routing, model.tokenizer().encode(d.text));
            for (const float loss : losses.loss) (d.domain == "a" ? sum_a : sum) += loss;
            tokens += static_cast<int64_t>(losses.loss.size());
            bytes += static_cast<int64_t>(d.text.size());
        }
        sum += sum_a;
        const PolicyResult& r = result.policies[p];
        EXPECT_EQ(r.all.tokens, tokens);
        EXPECT_EQ(r.all.bytes, bytes);
        EXPECT_NEAR(r.all.loss, sum / static_cast<double>(tokens), 1e-4);
        EXPECT_NEAR(r.all.perplexity, std::exp(r.all.loss), 1e-9);
        EXPECT_NEAR(r.all.bits_per_byte, sum / std::log(2.0) / static_cast<double>(bytes), 1e-4);
        ASSERT_EQ(r.domains.size(), 2u);
        EXPECT_NEAR(r.domains[0].all.loss * static_cast<double>(r.domains[0].all.tokens), sum_a,
                    1e-4 * sum_a);
        EXPECT_EQ(r.domains[0].all.tokens + r.domains[1].all.tokens, tokens);
        const double k = p == 1 ? 1 : 2;
        EXPECT_EQ(r.experts, std::vector<double>(3, k));
        EXPECT_EQ(r.all.experts, k);
        EXPECT_EQ(r.activated, count_parameters(model.config()).activated({k, k, k}));
        EXPECT_LE(r.all.loss_interval.low, r.all.loss);
        EXPECT_GE(r.all.loss_interval.high, r.all.loss);
    }
    EXPECT_EQ(result.policies[0].difference.high, 0);
    EXPECT_NEAR(result.policies[1].difference.mean,
                result.policies[1].all.loss - result.policies[0].all.loss, 1e-9);
    EXPECT_NEAR(result.policies[2].difference.mean, 0, 1e-6);  // the same as `model`
    const auto json = nlohmann::json::parse(to_json(result));
    EXPECT_EQ(json["policies"][1]["policy"], "top-k:1");
    EXPECT_TRUE(json["policies"][1]["domains"].contains("b"));
}

TEST(Perplexity, FewDocumentsAreCutIntoBlocks) {
    const TemporaryDirectory directory;
    const Model model = tiny_model(directory);
    SerialExecutor executor;
    std::string text;
    for (int i = 0; i < 400; ++i) text += "words " + std::to_string(i) + " ";
    EvaluateOptions options;
    options.max_tokens = 1000;
    const EvaluationResult r = evaluate_perplexity(model, {{"", text}}, executor, options);
    EXPECT_EQ(r.units, 4);
    EXPECT_EQ(r.policies[0].all.tokens, 1000);
    EXPECT_THAT(r.unit, HasSubstr("256"));
    EXPECT_TRUE(r.policies[0].domains.empty());
    EXPECT_THROW(evaluate_perplexity(model, {}, executor, options), Error);
    options.policies = {RoutingPolicy::parse("top-k:50")};
    EXPECT_THROW(evaluate_perplexity(model, {{"", text}}, executor, options), Error);
    options.policies = {{}};
    options.progress = [](std::string_view, int64_t, int64_t) { return false; };
    EXPECT_THROW(evaluate_perplexity(model, {{"", text}}, executor, options), Error);
}

TEST(Speed, ReportsRatesAndBytes) {
    const TemporaryDirectory directory;
    const Model model = tiny_model(directory);
    ThreadTeam team(2);
    SpeedOptions options;
    options.policies = {RoutingPolicy::parse("top-k:1"), RoutingPolicy::parse("top-k:6")};
    options.prompt_tokens = 16;
    options.decode_tokens = 4;
    options.depth = 5;
    options.repeats = 2;
    const SpeedReport report = measure_speed(model, team, options);
    ASSERT_EQ(report.results.size(), 2u);
    EXPECT_GT(report.memory_bytes_per_second, 1e8);
    EXPECT_EQ(report.results[0].experts, 1);
    EXPECT_GT(report.results[0].decode.low, 0);
    // Five more experts in each of three layers, each three matrices of 32 x 32 floats.
    EXPECT_NEAR(report.results[1].bytes_per_token - report.results[0].bytes_per_token,
                5 * 3 * 3 * 32 * 32 * 4, 1);
    EXPECT_TRUE(nlohmann::json::accept(to_json(report)));
    options.prompt_tokens = 0;
    EXPECT_THROW(measure_speed(model, team, options), Error);
}

}  // namespace
}  // namespace muster
