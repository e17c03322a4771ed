// SPDX-License-Identifier: Apache-2.0
#include "muster/evaluate/task_evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/evaluate/task_metrics.h"
#include "muster/generate/session.h"
#include "muster/generate/token_losses.h"
#include "muster/model/export.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using testing::TemporaryDirectory;

TaskItem choice_item(std::string id, std::string context, std::vector<Choice> choices) {
    TaskItem item;
    item.id = std::move(id);
    item.context = std::move(context);
    item.choices = std::move(choices);
    return item;
}

class Tasks : public ::testing::Test {
  protected:
    Tasks() : model_(load()) {
        options_.policies = {RoutingPolicy::parse("model"), RoutingPolicy::parse("top-k:1")};
        options_.on_record = [&](const TaskRecord& r) { records_.push_back(r); };
    }
    Model load() {
        testing::random_checkpoint(testing::tiny_olmoe()).write(directory_ / "run");
        export_gguf(directory_ / "run", directory_ / "model.gguf", DType::f32);
        return Model::load(directory_ / "model.gguf");
    }

    /// log p(continuation | context) by scoring the whole text.
    double log_probability(const std::string& context, const std::string& continuation,
                           const RoutingPolicy& policy) {
        RequestRouting routing(model_.config(), policy);
        KvCache cache(model_.config(), 48);
        ForwardContext forward(model_, team_, 48);
        const auto ids = model_.tokenizer().encode(context + continuation);
        const auto losses = token_losses(forward, cache, routing, ids);
        double sum = 0;
        for (size_t i = model_.tokenizer().encode(context).size() - 1; i < losses.loss.size(); ++i)
            sum -= losses.loss[i];
        return sum;
    }

    TemporaryDirectory directory_;
    Model model_;
    ThreadTeam team_{2};
    TaskOptions options_;
    std::vector<TaskRecord> records_;
};

TEST(TaskMetrics, AreThoseOfTheLiterature) {
    EXPECT_THAT(metric_names(TaskKind::choices),
                ElementsAre("acc", "acc_norm", "acc_bytes", "acc_tokens", "mc2"));
    TaskRecord r;
    // By sum the first wins, by characters (5, 8, 6) the second, by bytes (10, 8, 6) the first, by
    // tokens (2, 2, 4) the third.
    r.choices = {{"\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9", true, -6, 2, false},
                 {"abcdefgh", false, -7, 2, false},
                 {"abcdef", false, -8, 4, false}};
    const auto values = metric_values(TaskKind::choices, {}, r);
    EXPECT_EQ(values[0], 1);
    EXPECT_EQ(values[1], 0);
    EXPECT_EQ(values[2], 1);
    EXPECT_EQ(values[3], 0);
    EXPECT_NEAR(values[4], 1 / (1 + std::exp(-1) + std::exp(-2)), 1e-12);
    r.choices[2].right = true;
    EXPECT_EQ(metric_values(TaskKind::choices, {}, r)[3], 1);
    for (auto& c : r.choices) c.log_probability -= 5000;  // far below what exp can give
    EXPECT_NEAR(metric_values(TaskKind::choices, {}, r)[4],
                (1 + std::exp(-2)) / (1 + std::exp(-1) + std::exp(-2)), 1e-12);
    TaskItem item;
    item.answers = {"Blue Lake"};
    r.answer = "the blue lake";
    EXPECT_THAT(metric_values(TaskKind::answers, item, r), ElementsAre(1, 1));
    r.answer = "lake";
    EXPECT_THAT(metric_values(TaskKind::answers, item, r), ElementsAre(0, 2.0 / 3));
}

TEST(TaskMetrics, DifferencesArePairedItemByItem) {
    const std::vector<std::vector<double>> base{{1}, {0}, {1}, {0}}, values{{0}, {1}, {1}, {0}};
    const size_t all[] = {0, 1, 2, 3}, one[] = {1};
    const auto result = metric_results({"acc"}, values, base, all, 0.95);
    EXPECT_EQ(result[0].value.mean, 0.5);
    EXPECT_EQ(result[0].difference.mean, 0);
    EXPECT_LT(result[0].difference.low, 0);
    EXPECT_GT(result[0].difference.high, 0);
    EXPECT_EQ(metric_results({"acc"}, base, base, all, 0.95)[0].difference.high, 0);
    EXPECT_TRUE(std::isinf(metric_results({"acc"}, values, base, one, 0.95)[0].value.high));
}

TEST_F(Tasks, ChoicesAreScoredByTheirProbabilities) {
    std::vector<TaskItem> items{
        choice_item("1", "the theme", {{"is", true}, {"of the other", false}, {"zz", false}}),
        choice_item("2", "one two", {{"three", false}, {"four", true}}),
        choice_item("3", "one two", {{"six", true}, {"sixty", true}, {"seven", false}})};
    items[0].group = "x";
    const auto result = evaluate_task(model_, find_task("hellaswag"), items, team_, options_);
    EXPECT_EQ(result.items, 3);
    EXPECT_EQ(result.metric, "acc_norm");
    ASSERT_EQ(records_.size(), 6u);
    for (size_t p = 0; p < 2; ++p) {
        double acc = 0, mass = 0;
        for (size_t i = 0; i < items.size(); ++i) {
            const TaskRecord& r = records_[p * 3 + i];
            EXPECT_EQ(r.item, items[i].id);
            double best = -INFINITY, all = 0, right = 0;
            bool best_right = false;
            for (size_t c = 0; c < items[i].choices.size(); ++c) {
                const Choice& choice = items[i].choices[c];
                const double expected =
                    log_probability(items[i].context, " " + choice.text, options_.policies[p]);
                EXPECT_NEAR(r.choices[c].log_probability, expected, 1e-4);
                if (expected > best) best_right = choice.right;
                best = std::max(best, expected);
                all += std::exp(expected);
                if (choice.right) right += std::exp(expected);
            }
            EXPECT_EQ(r.metrics[0].second, best_right ? 1 : 0);
            EXPECT_NEAR(r.metrics[4].second, right / all, 1e-4);
            acc += r.metrics[0].second;
            mass += r.metrics[4].second;
        }
        const TaskPolicyResult& r = result.policies[p];
        EXPECT_NEAR(r.metrics[0].value.mean, acc / 3, 1e-12);
        EXPECT_NEAR(r.metrics[4].value.mean, mass / 3, 1e-12);
        EXPECT_EQ(r.mean_experts, p == 0 ? 2 : 1);
        EXPECT_EQ(r.experts, std::vector<double>(3, p == 0 ? 2 : 1));
        ASSERT_EQ(r.groups.size(), 1u);
        EXPECT_EQ(r.groups[0].items, 1);
    }
    EXPECT_NEAR(result.policies[1].metrics[4].difference.mean,
                result.policies[1].metrics[4].value.mean - result.policies[0].metrics[4].value.mean,
                1e-12);
    const auto json = nlohmann::json::parse(to_json(result));
    EXPECT_EQ(json["policies"][1]["metrics"]["mc2"]["mean"],
              result.policies[1].metrics[4].value.mean);
    EXPECT_EQ(nlohmann::json::parse(to_json(records_[0]))["choices"][1]["text"], "of the other");
}

TEST_F(Tasks, ClozeIsScoredAndGuessed) {
    // What the model would write makes a target that greedy decoding meets.
    Session session(model_, team_, {.policy = options_.policies[0]});
    GenerateOptions generate;
    generate.max_tokens = 2;
    generate.sampler.temperature = 0;
    generate.ignore_end = true;
    const auto ids = model_.tokenizer().encode("the other");
    const auto written = session.generate(ids, generate).tokens;
    std::vector<TaskItem> items{choice_item("1", "the other", {{"qqq", true}})};
    const auto result = evaluate_task(model_, find_task("cloze"), items, team_, options_);
    const double expected = log_probability("the other", " qqq", options_.policies[0]);
    EXPECT_NEAR(result.policies[0].metrics[1].value.mean, -expected, 1e-4);
    EXPECT_EQ(result.policies[0].metrics[0].value.mean, 0);
    const auto json = nlohmann::json::parse(to_json(result));
    EXPECT_NEAR(std::log(json["policies"][0]["metrics"]["perplexity"]["mean"].get<double>()),
                -expected, 1e-4);
    EXPECT_TRUE(json["policies"][0]["metrics"]["acc"]["low"].is_null()) << "one item";
    // As text only when its tokens read back as themselves.
    const std::string text = model_.tokenizer().decode(written);
    auto whole = ids;
    whole.insert(whole.end(), written.begin(), written.end());
    if (model_.tokenizer().encode("the other" + text) == whole) {
        items[0].delimiter = "";
        items[0].choices[0].text = text;
        EXPECT_EQ(evaluate_task(model_, find_task("cloze"), items, team_, options_)
                      .policies[0]
                      .metrics[0]
                      .value.mean,
                  1);
    }
}

TEST_F(Tasks, AnswersAreWrittenUntilAStopString) {
    options_.answer_tokens = 6;
    std::vector<TaskItem> items;
    for (int i = 0; i < 9; ++i) {
        TaskItem item;
        item.id = std::to_string(i);
        item.context = "question " + std::to_string(i * i);
        item.answers = {"nothing like it"};
        items.push_back(item);
    }
    // The answer that the model writes is right by definition.
    Session session(model_, team_, {.policy = options_.policies[0]});
    GenerateOptions generate;
    generate.max_tokens = 6;
    generate.sampler.temperature = 0;
    generate.stop = find_task("triviaqa").stop;
    const auto r = session.generate(model_.tokenizer().encode(items[4].context), generate);
    items[4].answers.push_back(r.text);
    const auto result = evaluate_task(model_, find_task("triviaqa"), items, team_, options_);
    ASSERT_EQ(records_.size(), 18u);
    EXPECT_EQ(records_[4].item, "4");
    EXPECT_EQ(records_[4].metrics[0].second, 1);
    EXPECT_EQ(records_[4].tokens, static_cast<int64_t>(r.tokens.size()));
    EXPECT_NEAR(result.policies[0].metrics[0].value.mean, 1.0 / 9, 1e-12);
    EXPECT_EQ(result.policies[1].mean_experts, 1);
    EXPECT_TRUE(nlohmann::json::parse(to_json(records_[0])).contains("answer"));
}

TEST_F(Tasks, SpeedsThatAreNotHeldAreTold) {
    TaskItem item;
    item.context = "Question: what?\nAnswer:";
    item.answers = {"this"};
    options_.policies = {RoutingPolicy::parse("speed:1e9"), RoutingPolicy::parse("top-k:1")};
    const auto result = evaluate_task(model_, find_task("triviaqa"), {item}, team_, options_);
    EXPECT_EQ(result.policies[0].speeds_missed, 1);
    EXPECT_NE(result.policies[0].speed_note.find("speed:1e+09 was not held"), std::string::npos);
    EXPECT_EQ(result.policies[1].speeds_missed, 0);
}

TEST_F(Tasks, BadRequestsAreRefused) {
    const std::vector<TaskItem> items{
        choice_item("1", "a long context, longer than the window", {{"b", true}, {"c", false}})};
    const Task& task = find_task("piqa");
    options_.window = 16;
    const auto result = evaluate_task(model_, task, items, team_, options_);
    EXPECT_EQ(result.cut, 1);
    EXPECT_GT(records_[0].dropped, 0);
    options_.progress = [](std::string_view, int64_t, int64_t) { return false; };
    EXPECT_THROW(evaluate_task(model_, task, items, team_, options_), Error);
    options_.progress = nullptr;
    EXPECT_THROW(evaluate_task(model_, task, {}, team_, options_), Error);
    options_.policies = {RoutingPolicy::parse("top-k:50")};
    EXPECT_THROW(evaluate_task(model_, task, items, team_, options_), Error);
    options_.policies = {RoutingPolicy::parse("speed:20")};
    EXPECT_THROW(evaluate_task(model_, task, items, team_, options_), Error);
    options_.policies = {{}};
    options_.window = 8;
    EXPECT_THROW(evaluate_task(model_, find_task("triviaqa"), items, team_, options_), Error);
}

}  // namespace
}  // namespace muster
