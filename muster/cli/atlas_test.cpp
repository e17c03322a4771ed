// SPDX-License-Identifier: Apache-2.0
// trace, atlas, stats, --stats and --chart in process, on a tiny random model.
#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>

#include "muster/cli/statistics_file.h"
#include "muster/cli/test_terminal.h"
#include "muster/core/atomic_file.h"

namespace muster::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class Seeing : public ::testing::Test {
  protected:
    Seeing() { t.terminal.data_paths = {model / ""}; }
    std::string at(const std::string& name) const { return (model / name).string(); }
    json document(std::vector<std::string> words) {
        words.push_back("--json");
        EXPECT_EQ(t.run(words), 0) << t.err.str();
        return json::parse(t.out.str(), nullptr, false);
    }
    /// One sentence, and no file.
    void expect_error(const std::vector<std::string>& words, const std::string& says,
                      const std::string& unwritten) {
        EXPECT_EQ(t.run(words), 1);
        EXPECT_THAT(t.err.str(), HasSubstr(says));
        EXPECT_TRUE(t.err.str().starts_with("muster: ["));
        EXPECT_EQ(t.err.str().find('\n'), t.err.str().size() - 1) << t.err.str();
        EXPECT_EQ(t.out.str(), "");
        for (const auto& entry : std::filesystem::directory_iterator(model / ""))
            EXPECT_THAT(entry.path().string(), Not(HasSubstr(unwritten)));
    }
    int64_t tokens_of(const std::string& stats) {
        const json d = document({"stats", stats});
        int64_t sum = 0;
        for (const auto& [policy, n] : d.at("policies").items()) sum += n.get<int64_t>();
        return sum;
    }

    TinyModel model;
    TestTerminal t;
    std::string letters = (model / "heldout/letters.txt").string();
};

TEST_F(Seeing, TraceWritesALinePerToken) {
    const json d = document({"trace", "default", letters, "-o", at("t.jsonl"), "--routing",
                             "top-k:3", "--tokens", "20", "--stats", at("s.json")});
    EXPECT_EQ(d.at("tokens"), 20);
    const std::string text = read_file(model / "t.jsonl");
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 21);
    EXPECT_THAT(text, HasSubstr("\"routing\":\"top-k:3\""));
    EXPECT_THAT(text, HasSubstr("\"domain\":\"letters\""));
    EXPECT_EQ(tokens_of(at("s.json")), 20);
    ASSERT_EQ(t.run({"trace", "default", letters, "-o", at("t.jsonl")}), 0) << t.err.str();
    EXPECT_THAT(t.out.str(), HasSubstr("tokens"));
}

TEST_F(Seeing, StatisticsGrowFromRunToRun) {
    const std::string file = at("s.json");
    ASSERT_EQ(t.run({"run", "default", "-p", "the", "-n", "4", "--ignore-end", "--stats", file}), 0)
        << t.err.str();
    const int64_t first = tokens_of(file);
    EXPECT_GE(first, 4);
    document({"eval", "default", letters, "--tokens", "10", "--routing", "top-k:1", "--routing",
              "model", "--stats", file});
    EXPECT_EQ(tokens_of(file), first + 10);
    document({"atlas", "default", letters, "--tokens", "12", "-o", at("a.html"), "--stats", file});
    EXPECT_EQ(tokens_of(file), first + 22);
    const json d = document({"stats", file, file, "-o", at("both.json"), "--csv", at("both.csv")});
    EXPECT_EQ(d.at("policies").at("top-k:1"), 20);
    EXPECT_EQ(tokens_of(at("both.json")), 2 * (first + 22));
    EXPECT_TRUE(read_file(model / "both.csv").starts_with("layer,expert,tokens,"));
    ASSERT_EQ(t.run({"stats", file}), 0);
    EXPECT_THAT(t.out.str(), HasSubstr("busiest"));
}

TEST_F(Seeing, ABatchCountsWhatItsRequestsDoAlone) {
    std::string requests;
    for (const char* policy : {"model", "top-k:1", "mean:2.5", "top-k:3,ban=2.0"}) {
        for (const char* prompt : {"the theme of", "a"}) {
            requests += json{{"prompt", prompt}, {"routing", policy}, {"temperature", 0}}.dump();
            requests += '\n';
            ASSERT_EQ(t.run({"run", "default", "-p", prompt, "-n", "6", "--ignore-end",
                             "--temperature", "0", "--routing", policy, "--stats", at("r.json")}),
                      0)
                << t.err.str();
        }
    }
    write_file(model / "requests.jsonl", requests);
    ASSERT_EQ(t.run({"batch", "default", at("requests.jsonl"), "-n", "6", "--ignore-end",
                     "--sequences", "8", "--stats", at("b.json")}),
              0)
        << t.err.str();
    const RoutingStatistics alone = read_statistics(at("r.json"));
    const RoutingStatistics together = read_statistics(at("b.json"));
    EXPECT_EQ(together.policies, alone.policies);
    EXPECT_EQ(together.policies.size(), 4u);
    for (size_t l = 0; l < alone.layers.size(); ++l) {
        EXPECT_EQ(together.layers[l].load, alone.layers[l].load);
        EXPECT_EQ(together.layers[l].scored, alone.layers[l].scored);
        for (size_t e = 0; e < alone.layers[l].load.size(); ++e) {
            EXPECT_NEAR(together.layers[l].weight[e], alone.layers[l].weight[e], 1e-4);
            EXPECT_NEAR(together.layers[l].loss[e], alone.layers[l].loss[e], 1e-3);
        }
    }
}

TEST_F(Seeing, AConversationCountsEveryAnswer) {
    const std::vector<std::string> words{"chat", "default",       "-n",        "3",
                                         "-q",   "--temperature", "0",         "--ctx",
                                         "48",   "--stats",       at("c.json")};
    ASSERT_EQ(t.run(words, "a\n"), 0) << t.err.str();
    const int64_t first = tokens_of(at("c.json"));
    EXPECT_GT(first, 3);
    ASSERT_EQ(t.run(words, "a\n/routing top-k:1\n/clear\nb\n"), 0) << t.err.str();
    const RoutingStatistics all = read_statistics(at("c.json"));
    EXPECT_EQ(all.policies.at("model"), 2 * first);
    EXPECT_GT(all.policies.at("top-k:1"), 0);
}

TEST_F(Seeing, StatisticsOfAnotherModelAreRefusedBeforeTheWork) {
    document({"eval", "default", letters, "--tokens", "10", "--stats", at("s.json")});
    const std::string before = read_file(model / "s.json");
    ASSERT_EQ(t.run({"quantize", "default", at("q.gguf"), "Q8_0"}), 0) << t.err.str();
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{"eval", at("q.gguf"), letters},
          {"run", at("q.gguf"), "-p", "x", "-n", "1"},
          {"batch", at("q.gguf"), letters, "-o", at("new.jsonl")},
          {"chat", at("q.gguf")},
          {"atlas", at("q.gguf"), letters, "-o", at("new.html")},
          {"trace", at("q.gguf"), letters, "-o", at("new.jsonl")}}) {
        auto all = words;
        all.insert(all.end(), {"--stats", at("s.json")});
        expect_error(all, "statistics of another model", "/new.");
    }
    EXPECT_EQ(read_file(model / "s.json"), before);
    write_file(model / "s.json", before.substr(0, before.size() / 2));
    expect_error({"stats", at("s.json"), "--csv", at("new.csv")}, "no statistics file", "/new.");
}

TEST_F(Seeing, NothingThatIsReadIsWrittenOver) {
    std::string long_text;
    for (int i = 0; i < 20; ++i) long_text += "the theme of letter " + std::to_string(i * i) + ", ";
    write_file(model / "long.txt", long_text);
    ASSERT_EQ(t.run({"calibrate", "default", at("long.txt"), "-o", at("plan.json")}), 0)
        << t.err.str();
    document({"eval", "default", letters, "--tokens", "10", "--stats", at("s.json")});
    write_file(model / "t.html", "the theme of the other then, there\n");
    write_file(model / "requests.jsonl", R"({"prompt": "a"})");
    write_file(model / "task.jsonl", R"({"text": "the theme"})");
    const std::string weights = model.path().string(), plan = at("plan.json");
    std::filesystem::create_directory_symlink(".", model / "link");
    const std::string read = "is read by the same command", both = "is both outputs";
    const std::pair<std::vector<std::string>, std::string> cases[] = {
        {{"calibrate", "default", letters, "-o", weights}, read},
        {{"calibrate", weights, letters, "-o", letters}, read},
        {{"calibrate", weights, letters, "-o", at("new.p"), "--state", at("new.p")}, both},
        {{"calibrate", weights, letters, "-o", at("new.p"), "--state", weights}, read},
        {{"trace", weights, letters, "-o", weights}, read},
        {{"trace", weights, letters, "-o", at("link/default.gguf")}, read},
        {{"trace", weights, letters, "-o", at("new.x"), "--stats", at("new.x")}, both},
        {{"trace", weights, letters, "-o", at("new.x"), "--stats", at("link/new.x")}, both},
        {{"atlas", weights, letters, "-o", letters}, read},
        {{"atlas", weights, letters, "-o", plan, "--plan", plan}, read},
        {{"atlas", weights, letters, "-o", plan, "--routing", "plan:" + plan}, read},
        {{"eval", weights, at("t.html"), "--chart", at("t.html")}, read},
        {{"eval", weights, letters, "--chart", at("new.svg"), "--stats", at("new.svg")}, both},
        {{"eval", weights, at("task.jsonl"), "--task", "cloze", "--records", at("task.jsonl")},
         read},
        {{"tune", weights, letters, "-o", letters}, read},
        {{"run", weights, "-f", letters, "--stats", letters}, read},
        {{"run", weights, "-p", "a", "--stats", at("new.z"), "--prompt-cache", at("new.z")}, both},
        {{"chat", weights, "--stats", weights}, read},
        {{"batch", weights, at("requests.jsonl"), "-o", at("requests.jsonl")}, read},
        {{"batch", weights, at("requests.jsonl"), "--plan", plan, "-o", plan}, read},
        {{"imatrix", weights, letters, "-o", letters}, read},
        {{"stats", at("s.json"), "--csv", at("s.json")}, read},
        {{"stats", at("s.json"), "-o", at("new.x"), "--csv", at("new.x")}, both},
        {{"convert", weights, weights}, read},
        {{"export", at("checkpoint"), "-o", at("checkpoint/config.json")}, read},
    };
    std::map<std::string, std::string> before;
    for (const auto& entry : std::filesystem::directory_iterator(model / ""))
        if (entry.is_regular_file()) before[entry.path()] = read_file(entry.path());
    for (const auto& [words, says] : cases) expect_error(words, says, "/new.");
    for (const auto& [path, content] : before) EXPECT_EQ(read_file(path), content) << path;
    EXPECT_EQ(t.run({"trace", weights, letters, "-o", ""}), 2) << t.err.str();
    EXPECT_THAT(t.err.str(), HasSubstr("without a name"));
    // Merging into a file is meant.
    EXPECT_EQ(t.run({"stats", at("s.json"), "-o", at("s.json")}), 0) << t.err.str();
}

TEST_F(Seeing, AtlasComparesPolicies) {
    const json d = document({"atlas", "default", letters, "-o", at("a.html"), "--routing", "model",
                             "--routing", "top-k:1"});
    EXPECT_GT(d.at("tokens"), 20);
    EXPECT_EQ(d.at("bytes"), std::filesystem::file_size(model / "a.html"));
    const std::string html = read_file(model / "a.html");
    EXPECT_THAT(html, HasSubstr("<title>top-k:1: "));
    EXPECT_THAT(html, HasSubstr("\"letters\""));
    ASSERT_EQ(t.run({"atlas", "default", letters, "-o", at("b.html")}), 0);
    EXPECT_THAT(read_file(model / "b.html"), Not(HasSubstr("<title>model: ")));
}

TEST_F(Seeing, AtlasShowsPlans) {
    std::string text;
    for (int i = 0; i < 20; ++i) text += "the theme of letter " + std::to_string(i * i) + ", ";
    write_file(model / "long.txt", text);
    document({"calibrate", "default", at("long.txt"), "-o", at("plan.json")});
    document({"atlas", "default", letters, "-o", at("a.html"), "--plan", at("plan.json")});
    EXPECT_THAT(read_file(model / "a.html"), HasSubstr("\"plan\":{\"name\":\"plan.json\""));
    document({"atlas", "default", letters, "-o", at("b.html"), "--routing", "top-k:2", "--routing",
              "plan:" + at("plan.json")});
    EXPECT_THAT(read_file(model / "b.html"), HasSubstr("\"plan\":{\"name\":\"plan.json\""));
    document(
        {"trace", "default", letters, "-o", at("t.jsonl"), "--routing", "plan:" + at("plan.json")});
    write_file(model / "bad.json", "{}");
    expect_error({"atlas", "default", letters, "-o", at("new.html"), "--plan", at("bad.json")},
                 "bad.json", "/new.");
}

TEST_F(Seeing, ChartsOfPolicies) {
    const std::vector<std::string> words{"eval",      "default", letters,   "--routing", "model",
                                         "--routing", "top-k:1", "--chart", at("c.svg")};
    ASSERT_EQ(t.run(words), 0) << t.err.str();
    EXPECT_TRUE(read_file(model / "c.svg").starts_with("<svg"));
    auto page = words;
    page.back() = at("c.html");
    ASSERT_EQ(t.run(page), 0) << t.err.str();
    EXPECT_TRUE(read_file(model / "c.html").starts_with("<!DOCTYPE html>"));
    page.back() = at("new.png");
    expect_error(page, "ends in .svg or .html", "/new.");
}

TEST_F(Seeing, BadInputLeavesNothing) {
    write_file(model / "empty.txt", "");
    for (const char* command : {"trace", "atlas"}) {
        const std::string out = at("new.out");
        expect_error({command, "default", at("empty.txt"), "-o", out}, "no text", "/new.");
        expect_error({command, "default", "/nowhere.txt", "-o", out}, "nowhere.txt", "/new.");
        expect_error({command, "default", letters, "-o", out, "--routing", "top-k:99"}, "",
                     "/new.");
        expect_error({command, "default", letters, "-o", "/nowhere/x"}, "/nowhere/x", "/new.");
        int calls = 0;
        t.terminal.interrupted = [&] { return ++calls > 1; };
        EXPECT_EQ(t.run({command, "default", letters, letters, "-o", out, "--no-check"}), 130);
        t.terminal.interrupted = {};
        EXPECT_FALSE(std::filesystem::exists(out));
    }
    expect_error({"stats", "/nowhere.json"}, "nowhere.json", "/new.");
    expect_error({"eval", "default", letters, "--chart", "/nowhere/x.svg"}, "/nowhere/x", "/new.");
    expect_error({"eval", "default", letters, "--stats", "/nowhere/x"}, "/nowhere/x", "/new.");
}

TEST_F(Seeing, OutputsAppearTogetherOrNotAtAll) {
    document({"eval", "default", letters, "--tokens", "10", "--stats", at("s.json")});
    const std::vector<std::string> words{"stats", at("s.json"), "-o", at("new.json")};
    auto bad_csv = words;
    bad_csv.insert(bad_csv.end(), {"--csv", "/nowhere/x.csv"});
    expect_error(bad_csv, "/nowhere/x.csv", "/new.");
    bad_csv.back() = at("new.json");
    expect_error(bad_csv, "both outputs", "/new.");
}

TEST_F(Seeing, BadPlacesAreFoundBeforeTheWork) {
    // The work looks whether it was interrupted.
    int calls = 0;
    t.terminal.interrupted = [&] {
        ++calls;
        return false;
    };
    const std::vector<std::string> words{"eval",  "default",   letters,   letters,     "--routing",
                                         "model", "--routing", "top-k:1", "--no-check"};
    ASSERT_EQ(t.run(words), 0) << t.err.str();
    EXPECT_GT(calls, 1);
    for (const char* option : {"--chart", "--stats"}) {
        calls = 0;
        auto bad = words;
        bad.insert(bad.end(), {option, "/nowhere/x.svg"});
        EXPECT_EQ(t.run(bad), 1);
        EXPECT_LE(calls, 1) << option << ", and the report looks once";
    }
}

}  // namespace
}  // namespace muster::cli
