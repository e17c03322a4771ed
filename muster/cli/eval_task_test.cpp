// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/eval_task.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "muster/cli/test_terminal.h"

namespace muster::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class EvalTask : public ::testing::Test {
  protected:
    EvalTask() {
        t.terminal.data_paths = {model / ""};
        write_file(model / "piqa.jsonl",
                   "{\"goal\": \"a\", \"sol1\": \"the other\", \"sol2\": \"n\", \"label\": 0}\n"
                   "{\"goal\": \"b\", \"sol1\": \"the\", \"sol2\": \"theme\", \"label\": 1}\n"
                   "{\"goal\": \"c\", \"sol1\": \"of\", \"sol2\": \"or\", \"label\": 1}\n");
        write_file(model / "cloze.jsonl",
                   "{\"domain\": \"often\", \"context\": \"one two\", \"target\": \"three\"}\n"
                   "{\"domain\": \"rare\", \"text\": \"four five six\"}\n");
    }
    std::string file(const char* name) { return (model / name).string(); }

    TinyModel model;
    TestTerminal t;
};

TEST_F(EvalTask, ComparesPoliciesAndWritesRecords) {
    std::vector<std::string> words{
        "eval",  "default",   file("piqa.jsonl"), "--task",    "piqa",         "--routing",
        "model", "--routing", "top-k:1",          "--records", file("r.jsonl")};
    ASSERT_EQ(t.run(words), 0) << t.err.str();
    for (const char* word : {"3 items of piqa", "top-k:1", "acc", "acc_norm", "mc2", "items/s"})
        EXPECT_THAT(t.out.str(), HasSubstr(word));
    std::istringstream lines(read_file(model / "r.jsonl"));
    double acc = 0;
    int count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
        const json r = json::parse(line);
        EXPECT_EQ(r.at("policy"), count < 3 ? "model" : "top-k:1");
        EXPECT_EQ(r.at("choices").size(), 2u);
        if (count < 3) acc += r.at("metrics").at("acc").get<double>() / 3;
    }
    EXPECT_EQ(count, 6);
    words.push_back("--json");
    ASSERT_EQ(t.run(words), 0);
    const json d = json::parse(t.out.str());
    EXPECT_EQ(d.at("task"), "piqa");
    EXPECT_EQ(d.at("compute"), "f32");
    EXPECT_NEAR(d.at("policies")[0].at("metrics").at("acc").at("mean"), acc, 1e-12);
    EXPECT_EQ(d.at("policies")[1].at("experts_per_token"), 1);
}

TEST_F(EvalTask, ShotsAndGroups) {
    std::vector<std::string> words{
        "eval", "default",      file("cloze.jsonl"), "--task",  "cloze", "--shots",
        "1",    "--shots-file", file("s.txt"),       "--items", "2"};
    write_file(model / "s.txt", "seven eight\n");
    ASSERT_EQ(t.run(words), 0) << t.err.str();
    for (const char* word : {"after 1 shot", "perplexity", "often", "rare", "nats"})
        EXPECT_THAT(t.out.str(), HasSubstr(word));
    words[6] = "2";
    EXPECT_EQ(t.run(words), 1);
    EXPECT_THAT(t.err.str(), HasSubstr("[shots]"));
}

TEST_F(EvalTask, WhatCannotWorkIsOneSentence) {
    const auto refusal = [&](std::vector<std::string> more, int code = 1) {
        more.insert(more.begin(), {"eval", "default"});
        EXPECT_EQ(t.run(more), code);
        EXPECT_EQ(t.err.str().find('\n'), t.err.str().size() - 1) << t.err.str();
        EXPECT_EQ(t.out.str(), "");
        return t.err.str();
    };
    write_file(model / "bad.jsonl", "{\"goal\": \"a\", \"sol1\": \"x\", \"sol2\": \"y\", ");
    const std::string records = file("kept.jsonl");
    write_file(records, "old");
    EXPECT_THAT(refusal({file("bad.jsonl"), "--task", "piqa"}), HasSubstr("bad.jsonl:1]"));
    EXPECT_THAT(refusal({file("no.jsonl"), "--task", "piqa"}), HasSubstr("no.jsonl"));
    EXPECT_THAT(refusal({file("piqa.jsonl"), "--task", "piqa", "--routing", "top-k:99", "--records",
                         records}),
                HasSubstr("99"));
    EXPECT_THAT(
        refusal({file("piqa.jsonl"), "--task", "piqa", "--window", "4", "--records", records}),
        HasSubstr("piqa item 1"));
    t.terminal.interrupted = [] { return true; };
    refusal({file("piqa.jsonl"), "--task", "piqa", "--records", records}, 130);
    t.terminal.interrupted = nullptr;
    EXPECT_EQ(read_file(records), "old") << "nothing is written half";
    EXPECT_THAT(refusal({file("piqa.jsonl"), "--task", "piqa", "--records", "/nowhere/r"}),
                HasSubstr("/nowhere"));
    refusal({file("piqa.jsonl"), "--task", "chess"}, 2);
    refusal({file("piqa.jsonl"), "--records", records}, 2);
    refusal({file("piqa.jsonl"), "--task", "piqa", "--exit-lens"}, 2);
    refusal({file("piqa.jsonl"), "--task", "piqa", "--shots", "1"}, 2);
    refusal({file("piqa.jsonl"), "--task", "piqa", "--tokens", "5"}, 2);
}

TEST_F(EvalTask, ExitLens) {
    std::vector<std::string> words{"eval",        "default",   file("heldout/letters.txt"),
                                   "--exit-lens", "--routing", "top-k:3"};
    ASSERT_EQ(t.run(words), 0) << t.err.str();
    for (const char* word : {"top-k:3, layer", "settle", "exit layer", "share after"})
        EXPECT_THAT(t.out.str(), HasSubstr(word));
    words.push_back("--json");
    ASSERT_EQ(t.run(words), 0);
    const json d = json::parse(t.out.str());
    EXPECT_EQ(d.at("format"), "muster-exit-lens");
    EXPECT_EQ(d.at("policies")[0].at("experts_total").at("mean"), 9);
}

}  // namespace
}  // namespace muster::cli
