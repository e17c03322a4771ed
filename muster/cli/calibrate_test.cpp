// SPDX-License-Identifier: Apache-2.0
// calibrate in process, on a tiny random model, and its plans in the commands that use them.
#include "muster/cli/calibrate.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "muster/cli/test_terminal.h"

namespace muster::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class Calibrate : public ::testing::Test {
  protected:
    Calibrate() {
        t.terminal.data_paths = {model / ""};
        std::string long_text;
        for (int i = 0; i < 20; ++i)
            long_text += "the theme of letter " + std::to_string(i * i) + ", ";
        write_file(model / "long.txt", long_text);
    }
    std::string at(const std::string& name) const { return (model / name).string(); }
    /// `muster calibrate default long.txt -o OUTPUT MORE...`
    std::vector<std::string> words(const std::string& output,
                                   std::vector<std::string> more = {}) const {
        std::vector<std::string> all{"calibrate", "default", at("long.txt"), "-o", output};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
    json document(std::vector<std::string> all) {
        all.push_back("--json");
        EXPECT_EQ(t.run(all), 0) << t.err.str();
        return json::parse(t.out.str(), nullptr, false);
    }
    /// One sentence at the end of `err`, and no plan.
    void expect_error(const std::vector<std::string>& all, const std::string& says) {
        EXPECT_EQ(t.run(all), 1) << says;
        const std::string err = t.err.str();
        const size_t last = err.rfind('\n', err.size() - 2) + 1;  // npos + 1 is 0
        EXPECT_TRUE(err.substr(last).starts_with("muster: [")) << err;
        EXPECT_THAT(err.substr(last), HasSubstr(says));
        EXPECT_EQ(t.out.str(), "");
        EXPECT_FALSE(std::filesystem::exists(model / "new.json"));
    }

    TinyModel model;
    TestTerminal t;
};

TEST_F(Calibrate, WritesAPlanAndShowsItsEvidence) {
    ASSERT_EQ(t.run(words(at("plan.json"))), 0) << t.err.str();
    for (const char* word : {"layer", "contrast", "budget", "dormant", "top-k:2"})
        EXPECT_THAT(t.out.str(), HasSubstr(word));
    EXPECT_THAT(t.out.str(), HasSubstr("--routing plan:" + at("plan.json")));
    EXPECT_THAT(t.err.str(), HasSubstr("windows")) << "the cost is said first";
    EXPECT_FALSE(std::filesystem::exists(model / "plan.json.state"));
    const json plan = json::parse(read_file(model / "plan.json"));
    int total = 0;
    ASSERT_EQ(plan.at("layers").size(), 3u);
    for (const json& layer : plan.at("layers")) total += layer.at("budget").get<int>();
    EXPECT_EQ(total, 2 * 3) << "as many activations as the baseline";
}

TEST_F(Calibrate, DocumentIsThePlanAndMore) {
    const json d = document(words(at("plan.json"), {"--routes", "2", "--experts", "3"}));
    const json plan = json::parse(read_file(model / "plan.json"));
    for (const auto& [key, value] : plan.items()) EXPECT_EQ(d.at(key), value) << key;
    EXPECT_GT(d.at("windows"), 1);
    EXPECT_TRUE(d.contains("contrast_reliability"));
    EXPECT_TRUE(d.contains("impact_reliability"));
    ASSERT_EQ(d.at("misrouting").size(), 3u);
    EXPECT_EQ(d.at("misrouting")[1].at("layer"), 1);
    ASSERT_EQ(t.run(words(at("plan.json"), {"--routes", "2"})), 0) << t.err.str();
    EXPECT_THAT(t.out.str(), HasSubstr("routes"));
}

TEST_F(Calibrate, BudgetsByLossShowWhatNumbersDo) {
    ASSERT_EQ(t.run(words(at("plan.json"), {"--budgets", "loss"})), 0) << t.err.str();
    EXPECT_THAT(t.out.str(), HasSubstr("one expert fewer"));
    EXPECT_THAT(t.out.str(), HasSubstr("chosen on half of the windows"));
    const json plan = json::parse(read_file(model / "plan.json"));
    EXPECT_EQ(plan.at("settings").at("budgets"), "loss");
    for (const json& layer : plan.at("layers")) EXPECT_GE(layer.at("numbers").size(), 2u);
    EXPECT_EQ(t.run(words(at("plan.json"), {"--budgets", "gain"})), 2);
}

TEST_F(Calibrate, MeasuresTheLayersAskedFor) {
    const auto measured = [&](const char* layers) {
        document(words(at("plan.json"), {"--layers", layers}));
        const json plan = json::parse(read_file(model / "plan.json"));
        std::string list;
        for (size_t l = 0; l < plan.at("layers").size(); ++l) {
            int64_t tokens = 0;
            for (const json& e : plan.at("layers")[l].at("experts"))
                tokens += e.at("tokens").get<int64_t>();
            if (tokens > 0) list += std::to_string(l);
        }
        return list;
    };
    EXPECT_EQ(measured("0"), "0");
    EXPECT_EQ(measured("1-2"), "12");
    EXPECT_EQ(measured("2,0"), "02");
    EXPECT_EQ(measured("0-0,1-2"), "012");
    for (const char* bad : {"a", "1,", ",1", "1-", "2-1", "0 1", "1.5", "70000", "0--1"})
        expect_error(words(at("new.json"), {"--layers", bad}), bad);
    expect_error(words(at("new.json"), {"--layers", "3"}), "layer");
    expect_error(words(at("new.json"), {"--layers", "0-9"}), "layer");
}

TEST_F(Calibrate, ErrorsAreOneSentence) {
    const std::string out = at("new.json");
    write_file(model / "empty.txt", "");
    write_file(model / "short.txt", "the");
    expect_error({"calibrate", "default", at("empty.txt"), "-o", out}, "text");
    expect_error({"calibrate", "default", at("short.txt"), "-o", out}, "32");
    expect_error({"calibrate", "default", "/nowhere.txt", "-o", out}, "nowhere.txt");
    expect_error({"calibrate", "/nowhere.gguf", at("long.txt"), "-o", out}, "nowhere.gguf");
    expect_error(words(out, {"--experts", "7"}), "7");
    expect_error(words(out, {"--hard", "0.1"}), "calibrat");
    expect_error(words(out, {"--noise", "-1"}), "calibrat");
    expect_error(words(out, {"--confidence", "1"}), "confidence");
    expect_error(words(out, {"--time=-1"}), "minutes");
    expect_error(words("/nowhere/plan.json"), "/nowhere/plan.json");
    std::filesystem::create_directories(model / "directory");
    expect_error(words(at("directory")), "directory");
    EXPECT_EQ(t.run(words(out, {"--ablation", "none"})), 2);
    EXPECT_EQ(t.run(words(out, {"--clusters", "1"})), 2);
    EXPECT_EQ(t.run({"calibrate", "default", at("long.txt")}), 2) << "no output";
}

TEST_F(Calibrate, GoesOnAfterCtrlC) {
    const auto expected = document(words(at("whole.json"), {"--no-check"}));
    int calls = 0, most = 40;
    t.terminal.interrupted = [&] { return ++calls > most; };
    EXPECT_EQ(t.run(words(at("plan.json"), {"--no-check"})), 130);
    EXPECT_THAT(t.err.str(), HasSubstr("stopped after"));
    EXPECT_THAT(t.err.str(), Not(HasSubstr("stopped after 0 "))) << "something to go on from";
    EXPECT_THAT(t.err.str(), HasSubstr(at("plan.json.state")));
    EXPECT_EQ(t.out.str(), "");
    EXPECT_TRUE(std::filesystem::exists(model / "plan.json.state"));
    EXPECT_FALSE(std::filesystem::exists(model / "plan.json"));
    t.terminal.interrupted = {};
    expect_error(words(at("new.json"), {"--state", at("plan.json.state"), "--draws", "3"}),
                 "plan.json.state");
    EXPECT_EQ(document(words(at("plan.json"), {"--no-check"})), expected);
    EXPECT_EQ(read_file(model / "plan.json"), read_file(model / "whole.json"));
    EXPECT_FALSE(std::filesystem::exists(model / "plan.json.state"));
    // What is no state is refused, not overwritten.
    write_file(model / "notes.txt", "dear diary");
    expect_error(words(at("new.json"), {"--state", at("notes.txt")}), "notes.txt");
    EXPECT_EQ(read_file(model / "notes.txt"), "dear diary");
}

TEST_F(Calibrate, PlansWorkInEveryCommand) {
    ASSERT_EQ(t.run(words(at("plan.json"), {"--clusters", "2"})), 0) << t.err.str();
    const std::string plan = "plan:" + at("plan.json"), text = at("heldout/letters.txt");
    const json e = document({"eval", "default", text, "--routing", "top-k:2", "--routing", plan});
    ASSERT_EQ(e.at("policies").size(), 2u);
    EXPECT_EQ(e.at("policies")[1].at("policy"), plan);
    EXPECT_EQ(e.at("policies")[1].at("all").at("experts_per_token"),
              e.at("policies")[0].at("all").at("experts_per_token"));
    const json r = document({"run", "default", "-p", "the", "-n", "6", "--ignore-end", "--routing",
                             plan, "--seed", "1"});
    EXPECT_EQ(r.at("routing"), plan);
    for (const json& token : r.at("tokens")) {
        int total = 0;
        for (const json& n : token.at("layers")) total += n.get<int>();
        EXPECT_EQ(total, 2 * 3);
    }
    document({"bench", "default", "--prompt", "8", "--decode", "4", "--repeats", "1", "--routing",
              plan});
    EXPECT_EQ(
        document({"trace", "default", text, "-o", at("t.jsonl"), "--routing", plan}).at("routing"),
        plan);
}

TEST_F(Calibrate, PlansOfOtherModelsAreRefused) {
    ASSERT_EQ(t.run(words(at("plan.json"))), 0) << t.err.str();
    ASSERT_EQ(t.run({"quantize", "default", at("q.gguf"), "Q8_0"}), 0) << t.err.str();
    const std::string plan = "plan:" + at("plan.json"), text = at("heldout/letters.txt");
    for (const std::vector<std::string>& command :
         {std::vector<std::string>{"eval", at("q.gguf"), text},
          {"run", at("q.gguf"), "-p", "the"},
          {"bench", at("q.gguf")},
          {"trace", at("q.gguf"), text, "-o", at("new.json")}}) {
        auto all = command;
        all.insert(all.end(), {"--routing", plan});
        expect_error(all, "another model");
        all.back() = "plan:" + at("none.json");
        expect_error(all, "none.json");
        all.back() = "plan:" + text;
        expect_error(all, "letters.txt");
    }
}

}  // namespace
}  // namespace muster::cli
