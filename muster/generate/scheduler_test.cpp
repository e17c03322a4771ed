// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <map>
#include <thread>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/generate/session.h"
#include "muster/model/export.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using testing::random_tokens;
using testing::TemporaryDirectory;

struct Answer {
    GenerateResult result;
    std::vector<double> losses;
    std::string error;
    int done = 0;
};

class SchedulerTest : public ::testing::Test {
  protected:
    SchedulerTest() {
        testing::random_checkpoint(testing::tiny_olmoe()).write(directory_ / "run");
        export_gguf(directory_ / "run", directory_ / "model.gguf", DType::f32);
        model_ = std::make_unique<Model>(Model::load(directory_ / "model.gguf"));
    }
    /// Request i of a series: policies, lengths, samplers and limits differ.
    Request request(int i) const {
        static const char* const kPolicies[] = {"model", "top-k:1", "top-p:0.5", "relative:0.3",
                                                "random:2"};
        Request r;
        r.prompt = random_tokens(model_->config(), 3 + 5 * (i % 4), static_cast<uint64_t>(i));
        r.policy = RoutingPolicy::parse(kPolicies[i % 5]);
        r.generate.max_tokens = 4 + 3 * (i % 3);
        r.generate.sampler.temperature = i % 2 == 0 ? 0 : 0.8;
        r.generate.sampler.seed = static_cast<uint64_t>(100 + i);
        r.generate.ignore_end = true;
        return r;
    }
    /// Lets the request write into `answer`.
    static Request recorded(Request r, Answer& answer) {
        r.generate.on_token = [&answer](const GeneratedToken& token) {
            if (token.id >= 0) answer.losses.push_back(token.loss);
            return true;
        };
        r.on_done = [&answer](Completion c) {
            ++answer.done;
            answer.result = std::move(c.result);
            try {
                if (c.error) std::rethrow_exception(c.error);
            } catch (const std::exception& e) {
                answer.error = e.what();
            }
        };
        return r;
    }
    Answer alone(const Request& request) {
        SessionOptions o;
        o.policy = request.policy;
        o.seed = request.generate.sampler.seed;
        Session session(*model_, team_, o);
        Answer answer;
        GenerateOptions generate = request.generate;
        generate.on_token = [&](const GeneratedToken& token) {
            if (token.id >= 0) answer.losses.push_back(token.loss);
            return true;
        };
        answer.result = session.generate(request.prompt, generate);
        return answer;
    }
    SchedulerOptions options(int sequences, int max_rows = 16) const {
        SchedulerOptions o;
        o.sequences = sequences;
        o.max_rows = max_rows;
        return o;
    }

    TemporaryDirectory directory_;
    std::unique_ptr<Model> model_;
    ThreadTeam team_{2};
};

// Logits of about 3 in size from sums of 32 products, through three layers: f32 rounding stays
// below 1e-4 in the loss, where the routes are equal; these gaps are far from ties.
constexpr double kTolerance = 1e-4;

TEST_F(SchedulerTest, AnswersAreThoseOfASessionAlone) {
    constexpr int kRequests = 12;
    for (const int rows : {3, 7, 64}) {
        SchedulerOptions o = options(3, rows);
        o.prompt_rows = rows == 64 ? 4 : 0;
        Scheduler scheduler(*model_, team_, o);
        std::vector<Answer> answers(kRequests);
        for (int i = 0; i < kRequests; ++i) scheduler.submit(recorded(request(i), answers[i]));
        scheduler.drain();
        for (int i = 0; i < kRequests; ++i) {
            const Answer expected = alone(request(i));
            EXPECT_EQ(answers[i].done, 1);
            EXPECT_EQ(answers[i].error, "");
            EXPECT_EQ(answers[i].result.tokens, expected.result.tokens) << i;
            EXPECT_EQ(answers[i].result.text, expected.result.text) << i;
            EXPECT_EQ(answers[i].result.stop, expected.result.stop);
            EXPECT_NEAR(answers[i].result.mean_experts, expected.result.mean_experts, 1e-12);
            ASSERT_EQ(answers[i].losses.size(), expected.losses.size());
            for (size_t t = 0; t < expected.losses.size(); ++t)
                EXPECT_NEAR(answers[i].losses[t], expected.losses[t], kTolerance) << i << " " << t;
        }
        EXPECT_EQ(scheduler.load().active, 0);
        EXPECT_FALSE(scheduler.step());
    }
}

// Controllers, banned and forced experts, switches of shared experts: nothing leaks from row to
// row, whoever shares a pass and however many threads work on it. Experts are compared, not only
// tokens.
TEST_F(SchedulerTest, EveryPolicyIsItselfInSharedPasses) {
    ModelConfig config = testing::tiny_olmoe();
    config.architecture = "muster";
    config.context = 160;
    for (FeedForwardConfig& ff : config.layers) ff.shared_width = 8;
    testing::random_checkpoint(config).write(directory_ / "shared");
    export_gguf(directory_ / "shared", directory_ / "shared.gguf", DType::f32);
    model_ = std::make_unique<Model>(Model::load(directory_ / "shared.gguf"));
    const char* const policies[] = {"model",
                                    "mean:3",
                                    "mean:1.5/3/5,max=5",
                                    "top-k:2,ban=0.1,ban=1.2,force=2.5",
                                    "top-k:2,shared=off",
                                    "top-p:0.5,max=3",
                                    "relative:0.4,min=2",
                                    "top-k:1/2/6",
                                    "mean:4,ban=0.0,ban=1.0,ban=2.0,shared=off",
                                    "random:3"};
    struct Written {
        std::vector<int32_t> tokens, experts;
    };
    const auto request = [&](size_t i, Written& out) {
        Request r;
        r.prompt = random_tokens(model_->config(), 20 + 13 * static_cast<int>(i), i);
        r.policy = RoutingPolicy::parse(policies[i]);
        r.generate.max_tokens = 20;
        r.generate.sampler.seed = i;
        r.generate.ignore_end = true;
        r.generate.on_token = [&out](const GeneratedToken& token) {
            if (token.id >= 0) out.tokens.push_back(token.id);
            out.experts.insert(out.experts.end(), token.experts.begin(), token.experts.end());
            return true;
        };
        return r;
    };
    std::vector<Written> alone(std::size(policies));
    for (size_t i = 0; i < alone.size(); ++i) {
        const Request r = request(i, alone[i]);
        SessionOptions o;
        o.policy = r.policy;
        o.seed = r.generate.sampler.seed;
        Session(*model_, team_, o).generate(r.prompt, r.generate);
        EXPECT_EQ(alone[i].experts.size(), 60u);
    }
    for (const int threads : {1, 2, 3}) {
        ThreadTeam team(threads);
        Scheduler scheduler(*model_, team, options(4 * threads, 16 * threads));
        std::vector<Written> shared(alone.size());
        for (size_t i = 0; i < shared.size(); ++i) scheduler.submit(request(i, shared[i]));
        scheduler.drain();
        for (size_t i = 0; i < alone.size(); ++i) {
            EXPECT_EQ(shared[i].tokens, alone[i].tokens) << policies[i] << " " << threads;
            EXPECT_EQ(shared[i].experts, alone[i].experts) << policies[i] << " " << threads;
        }
    }
}

// In integers, over arranged weights and f16 keys: a row's products are the same bits in any batch;
// attention over positions that are cut elsewhere, and bf16 where prompts share keys, are not.
TEST_F(SchedulerTest, AnswersInIntegersAreThoseOfASessionAlone) {
    constexpr int kRequests = 8;
    export_gguf(directory_ / "run", directory_ / "q8.gguf", DType::q8_0);
    LoadOptions load;
    load.panels = &team_;
    model_ = std::make_unique<Model>(Model::load(directory_ / "q8.gguf", load));
    SchedulerOptions o = options(4, 64);
    o.compute = Compute::int8;
    o.kv = DType::f16;
    Scheduler scheduler(*model_, team_, o);
    std::vector<Answer> answers(kRequests);
    for (int i = 0; i < kRequests; ++i) scheduler.submit(recorded(request(i), answers[i]));
    scheduler.drain();
    for (int i = 0; i < kRequests; ++i) {
        SessionOptions alone;
        alone.policy = request(i).policy;
        alone.seed = request(i).generate.sampler.seed;
        alone.compute = o.compute;
        alone.kv = o.kv;
        Session session(*model_, team_, alone);
        const GenerateResult expected = session.generate(request(i).prompt, request(i).generate);
        EXPECT_EQ(answers[i].result.tokens, expected.tokens) << i;
    }
}

TEST_F(SchedulerTest, RequestsShareAPassAndBeginInOrder) {
    Scheduler scheduler(*model_, team_, options(2));
    std::vector<Answer> answers(3);
    for (int i = 0; i < 3; ++i) {
        Request r = request(0);
        r.generate.max_tokens = 3;
        scheduler.submit(recorded(std::move(r), answers[i]));
    }
    EXPECT_EQ(scheduler.load().waiting, 3u);
    EXPECT_TRUE(scheduler.step());  // both prompts of 3 tokens, and their first tokens
    EXPECT_EQ(scheduler.load().active, 2);
    EXPECT_EQ(scheduler.load().waiting, 1u);
    EXPECT_EQ(answers[0].losses.size(), 1u);
    EXPECT_EQ(answers[1].losses.size(), 1u);
    scheduler.step();
    scheduler.step();
    EXPECT_EQ(answers[0].done + answers[1].done, 2);
    EXPECT_EQ(answers[2].losses.size(), 0u);
    scheduler.drain();
    EXPECT_EQ(answers[2].result.tokens, answers[0].result.tokens);
    // The same prompt under the same policy: all but its last token stands in a cache.
    EXPECT_EQ(answers[2].result.reused_tokens, 2);
}

TEST_F(SchedulerTest, CachesOfOtherPoliciesAreNotReused) {
    Scheduler scheduler(*model_, team_, options(1));
    for (const char* policy : {"top-k:2", "top-k:1", "mean:2", "mean:2"}) {
        Request r = request(1);
        r.policy = RoutingPolicy::parse(policy);
        Answer answer;
        scheduler.submit(recorded(r, answer));
        scheduler.drain();
        EXPECT_EQ(answer.result.reused_tokens, 0) << policy;
        EXPECT_EQ(answer.result.tokens, alone(r).result.tokens) << policy;
    }
}

TEST_F(SchedulerTest, StopStringsEndAnswers) {
    Request r = request(0);
    r.generate.max_tokens = 12;
    const std::string text = alone(r).result.text;
    ASSERT_GT(text.size(), 4u);
    r.generate.stop = {text.substr(2, 2)};
    Scheduler scheduler(*model_, team_, options(2));
    Answer answer;
    scheduler.submit(recorded(r, answer));
    scheduler.drain();
    EXPECT_EQ(answer.result.stop, StopReason::stop_string);
    EXPECT_EQ(answer.result.text, text.substr(0, text.find(r.generate.stop[0])));
}

TEST_F(SchedulerTest, RequestsCanBeCancelledAnywhere) {
    Scheduler scheduler(*model_, team_, options(1));
    std::vector<Answer> answers(3);
    std::vector<uint64_t> ids;
    for (int i = 0; i < 3; ++i) {
        Request r = request(0);
        r.generate.max_tokens = 20;
        ids.push_back(scheduler.submit(recorded(std::move(r), answers[i])));
    }
    scheduler.step();
    scheduler.cancel(ids[0]);  // writes
    scheduler.cancel(ids[1]);  // waits
    scheduler.cancel(99);
    scheduler.drain();
    scheduler.cancel(ids[2]);  // is done
    scheduler.drain();
    EXPECT_EQ(answers[0].result.stop, StopReason::callback);
    EXPECT_EQ(answers[0].result.tokens.size(), 1u);
    EXPECT_EQ(answers[1].result.stop, StopReason::callback);
    EXPECT_TRUE(answers[1].result.tokens.empty());
    EXPECT_EQ(answers[2].result.tokens.size(), 20u);
    for (const Answer& a : answers) EXPECT_EQ(a.done, 1);
}

TEST_F(SchedulerTest, WhatIsLeftIsEndedWithTheScheduler) {
    std::vector<Answer> answers(2);
    {
        Scheduler scheduler(*model_, team_, options(1));
        for (Answer& a : answers) scheduler.submit(recorded(request(0), a));
        scheduler.step();
    }
    for (const Answer& a : answers) {
        EXPECT_EQ(a.done, 1);
        EXPECT_EQ(a.result.stop, StopReason::callback);
    }
}

TEST_F(SchedulerTest, RefusesWhatCannotWork) {
    SchedulerOptions o = options(1);
    o.waiting = 1;
    Scheduler scheduler(*model_, team_, o);
    const auto refused = [&](Request r) {
        try {
            scheduler.submit(std::move(r));
        } catch (const Error& e) {
            return std::string(e.what());
        }
        return std::string("accepted");
    };
    EXPECT_THAT(refused({}), HasSubstr("empty"));
    Request r = request(0);
    r.prompt.assign(49, 1);
    EXPECT_THAT(refused(r), HasSubstr("at most 48"));
    r.prompt = {1, 99999};
    EXPECT_THAT(refused(r), HasSubstr("99999"));
    r = request(0);
    r.policy = RoutingPolicy::parse("expert-choice:2");
    EXPECT_THAT(refused(r), HasSubstr("whole batches"));
    r = request(0);
    r.generate.sampler.top_p = 7;
    EXPECT_THAT(refused(r), HasSubstr("top-p"));
    EXPECT_EQ(refused(request(0)), "accepted");
    EXPECT_THAT(refused(request(1)), HasSubstr("waiting"));
    EXPECT_THROW(Scheduler(*model_, team_, options(0)), Error);
    EXPECT_THROW(Scheduler(*model_, team_, options(4, 3)), Error);
}

TEST_F(SchedulerTest, AnErrorEndsItsOwnRequestOnly) {
    Scheduler scheduler(*model_, team_, options(3));
    std::vector<Answer> answers(3);
    for (int i = 0; i < 3; ++i) {
        Request r = recorded(request(i), answers[i]);
        if (i == 1)
            r.generate.on_token = [](const GeneratedToken&) -> bool {
                throw std::runtime_error("the reader failed");
            };
        scheduler.submit(std::move(r));
    }
    scheduler.drain();
    EXPECT_EQ(answers[1].error, "the reader failed");
    EXPECT_EQ(answers[0].result.tokens, alone(request(0)).result.tokens);
    EXPECT_EQ(answers[2].result.tokens, alone(request(2)).result.tokens);
}

// A token whose embedding is infinite makes the pass fail that it takes part in.
TEST_F(SchedulerTest, AFailingPassIsRunAgainForEachAlone) {
    const auto embedding = testing::random_checkpoint(testing::tiny_olmoe())
                               .tensors.at(std::string(tensor_names::kEmbedding))
                               .values;
    const auto row = [](const float* values) {
        return std::string(reinterpret_cast<const char*>(values), 32 * sizeof(float));
    };
    std::string bytes = read_file(directory_ / "model.gguf");
    const size_t place = bytes.find(row(embedding.data() + 77 * 32));
    ASSERT_NE(place, std::string::npos);
    const std::vector<float> infinite(32, std::numeric_limits<float>::infinity());
    write_file(directory_ / "damaged.gguf", bytes.replace(place, 128, row(infinite.data())));
    LoadOptions unchecked;
    unchecked.check_values = false;
    const Model model = Model::load(directory_ / "damaged.gguf", unchecked);
    Scheduler scheduler(model, team_, options(2));
    std::vector<Answer> answers(2);
    Request r;
    r.prompt = {1, 280, 40};
    r.generate.max_tokens = 5;
    r.generate.sampler.temperature = 0;
    r.generate.ignore_end = true;
    scheduler.submit(recorded(r, answers[0]));
    r.prompt = {1, 77, 40};
    scheduler.submit(recorded(r, answers[1]));
    scheduler.drain();
    EXPECT_EQ(answers[0].error, "");
    EXPECT_EQ(answers[0].result.tokens.size(), 5u);
    EXPECT_NE(answers[1].error, "");
}

TEST_F(SchedulerTest, ThreadsSubmitAndCancelWhileOneRuns) {
    constexpr int kThreads = 3, kEach = 6;
    Scheduler scheduler(*model_, team_, options(4));
    std::atomic<int> done{0}, tokens{0};
    std::jthread worker([&](std::stop_token stop) { scheduler.run(stop); });
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < kThreads; ++t)
            threads.emplace_back([&, t] {
                for (int i = 0; i < kEach; ++i) {
                    Request r = request(t + i);
                    r.generate.on_token = [&](const GeneratedToken&) {
                        tokens.fetch_add(1);
                        return true;
                    };
                    r.on_done = [&](Completion) { done.fetch_add(1); };
                    const uint64_t id = scheduler.submit(std::move(r));
                    if (i % 3 == 2) scheduler.cancel(id);
                    scheduler.load();
                }
            });
    }
    while (done < kThreads * kEach) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    worker.request_stop();
    worker.join();
    EXPECT_EQ(done, kThreads * kEach);
    EXPECT_GT(tokens, 0);
}

}  // namespace
}  // namespace muster
