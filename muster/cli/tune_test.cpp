// SPDX-License-Identifier: Apache-2.0
// tune in process, on a tiny random model.
#include "muster/cli/tune.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "muster/cli/test_terminal.h"

namespace muster::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class Tune : public ::testing::Test {
  protected:
    Tune() {
        t.terminal.data_paths = {model / ""};
        std::string long_text;
        for (int i = 0; i < 160; ++i)
            long_text += "the theme of letter " + std::to_string(i * i) + ", ";
        write_file(model / "long.txt", long_text);
    }
    std::string at(const std::string& name) const { return (model / name).string(); }
    /// `muster tune default long.txt MORE...`, in fewer steps.
    std::vector<std::string> words(std::vector<std::string> more = {}) const {
        std::vector<std::string> all{"tune", "default", at("long.txt"), "--steps", "2"};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
    json document(std::vector<std::string> all) {
        all.push_back("--json");
        EXPECT_EQ(t.run(all), 0) << t.err.str();
        return json::parse(t.out.str(), nullptr, false);
    }
    /// One sentence, and no evidence.
    void expect_error(const std::vector<std::string>& all, const std::string& says) {
        EXPECT_EQ(t.run(all), 1) << says;
        EXPECT_THAT(t.err.str(), HasSubstr(says));
        EXPECT_TRUE(t.err.str().starts_with("muster: [")) << t.err.str();
        EXPECT_EQ(t.err.str().find('\n'), t.err.str().size() - 1) << t.err.str();
        EXPECT_EQ(t.out.str(), "");
        EXPECT_FALSE(std::filesystem::exists(model / "new.json"));
    }

    TinyModel model;
    TestTerminal t;
};

TEST_F(Tune, ShowsWhatItTriedAndChose) {
    ASSERT_EQ(t.run(words({"--max-perplexity", "+50%"})), 0) << t.err.str();
    for (const char* word : {"tried", "allowed", "top-k:1", "top-p:", "relative:", "perplexity"})
        EXPECT_THAT(t.out.str(), HasSubstr(word));
    const std::string out = t.out.str();
    const size_t chosen = out.rfind("--routing ");
    ASSERT_NE(chosen, std::string::npos);
    std::string policy = out.substr(chosen + 10);
    policy = policy.substr(0, policy.find_first_of(" \n"));
    EXPECT_EQ(t.run({"eval", "default", at("long.txt"), "--routing", policy}), 0) << t.err.str();
}

TEST_F(Tune, DocumentAndEvidenceAreOne) {
    const json d = document(words({"--max-perplexity", "+50%", "-o", at("tuned.json")}));
    EXPECT_EQ(json::parse(read_file(model / "tuned.json")), d);
    EXPECT_EQ(d.at("model"), "default");
    EXPECT_EQ(d.at("tried")[0].at("policy"), "model");
    EXPECT_EQ(d.at("tried")[0].at("allowed"), true);
    // With half as much again allowed, a random model gives up experts.
    EXPECT_EQ(d.at("confirmed").at("policies")[1].at("policy"), d.at("chosen"));
    const double most =
        1.5 * d.at("confirmed").at("policies")[0].at("all").at("perplexity").get<double>();
    EXPECT_LE(d.at("confirmed").at("policies")[1].at("all").at("perplexity"), most);
    EXPECT_LT(d.at("confirmed").at("policies")[1].at("all").at("experts_per_token"),
              d.at("confirmed").at("policies")[0].at("all").at("experts_per_token"));
}

TEST_F(Tune, GlobalPoliciesHaveNoNumbersOfLayers) {
    const json d = document(words({"--global", "--max-perplexity", "+50%"}));
    for (const json& tried : d.at("tried"))
        EXPECT_THAT(tried.at("policy").get<std::string>(), Not(HasSubstr("/")));
    bool by_layer = false;
    const json layers = document(words({"--max-perplexity", "+0.1%"}));
    for (const json& tried : layers.at("tried"))
        by_layer |= tried.at("policy").get<std::string>().find('/') != std::string::npos;
    EXPECT_TRUE(by_layer);
}

TEST_F(Tune, AllowedRisesAreShares) {
    const auto tried = [&](const char* rise) {
        return document(words({"--global", "--max-perplexity", rise})).at("tried");
    };
    const json expected = tried("+20%");
    for (const char* same : {"20%", "0.2", "+0.2"}) EXPECT_EQ(tried(same), expected) << same;
    tried("0");
    for (const char* bad : {"x", "", "+", "%", "1%%", "1 %", "nan", "inf", "1e999", "1,5%"})
        expect_error(words({"--max-perplexity", bad, "-o", at("new.json")}), "max-perplexity");
    expect_error(words({"--max-perplexity=-1%"}), "max-perplexity");
}

TEST_F(Tune, ErrorsAreOneSentence) {
    write_file(model / "empty.txt", "");
    const std::string out = at("new.json");
    expect_error({"tune", "default", at("empty.txt"), "-o", out}, "text");
    expect_error({"tune", "default", at("heldout/letters.txt"), "-o", out}, "tune");
    expect_error({"tune", "default", "/nowhere.txt", "-o", out}, "nowhere.txt");
    expect_error({"tune", "/nowhere.gguf", at("long.txt"), "-o", out}, "nowhere.gguf");
    expect_error(words({"--global", "-o", "/nowhere/x.json"}), "/nowhere/x.json");
    expect_error(words({"--global", "-o", at("heldout")}), "heldout");
    expect_error(words({"--global", "--confidence", "1"}), "confidence");
    EXPECT_EQ(t.run(words({"--steps", "31"})), 2);
}

TEST_F(Tune, StopsOnInterrupt) {
    int calls = 0;
    t.terminal.interrupted = [&] { return ++calls > 20; };
    EXPECT_EQ(t.run(words({"--no-check", "-o", at("new.json")})), 130);
    EXPECT_THAT(t.err.str(), HasSubstr("stopped"));
    EXPECT_EQ(t.out.str(), "");
    EXPECT_FALSE(std::filesystem::exists(model / "new.json"));
}

}  // namespace
}  // namespace muster::cli
