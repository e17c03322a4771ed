// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/batch.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "muster/cli/test_terminal.h"

namespace muster::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class BatchCommand : public ::testing::Test {
  protected:
    /// Answers by line.
    static std::map<int, json> answers(const std::string& text) {
        std::map<int, json> out;
        std::istringstream lines(text);
        for (std::string line; std::getline(lines, line);) {
            const json answer = json::parse(line);
            EXPECT_TRUE(out.emplace(answer.at("line").get<int>(), answer).second);
        }
        return out;
    }
    std::vector<std::string> words(std::vector<std::string> more) const {
        std::vector<std::string> all{"batch", "default"};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
    std::string file(const std::string& content) const {
        write_file(model / "requests.jsonl", content);
        return (model / "requests.jsonl").string();
    }

    BatchCommand() { t.terminal.data_paths = {model / ""}; }

    TinyModel model;
    TestTerminal t;
};

TEST_F(BatchCommand, AnswersAreThoseOfRun) {
    const std::vector<std::string> policies{
        "model",           "top-k:1",      "top-k:3/1/2",
        "top-p:0.6,max=4", "relative:0.4", "top-k:3,ban=0.1,ban=2.4,force=1.5",
        "mean:3,min=2",    "mean:1.5/2/4", "top-k:6,weight=renorm",
        "random:2"};
    std::string requests;
    for (const std::string& policy : policies)
        requests +=
            json{{"id", policy}, {"prompt", "the theme of"}, {"routing", policy}}.dump() + "\n";
    for (const char* sequences : {"1", "4", "16"}) {
        ASSERT_EQ(t.run(words({file(requests), "--seed", "4", "-n", "9", "--ignore-end",
                               "--sequences", sequences})),
                  0)
            << t.err.str();
        EXPECT_THAT(t.err.str(), HasSubstr("10 requests answered"));
        const auto got = answers(t.out.str());
        ASSERT_EQ(got.size(), policies.size());
        for (size_t i = 0; i < policies.size(); ++i) {
            const json& answer = got.at(static_cast<int>(i) + 1);
            const std::string seed = std::to_string(4 + i + 1);
            ASSERT_EQ(t.run({"run", "default", "-p", "the theme of", "-n", "9", "--ignore-end",
                             "--seed", seed, "--routing", policies[i], "--json"}),
                      0);
            const json alone = json::parse(t.out.str());
            EXPECT_EQ(answer.at("id"), policies[i]);
            for (const char* key : {"routing", "seed", "text", "stop", "experts_per_token"})
                EXPECT_EQ(answer.at(key), alone.at(key)) << policies[i] << " " << key;
            ASSERT_EQ(answer.at("tokens").size(), 9u);
            for (size_t k = 0; k < 9; ++k)
                EXPECT_EQ(answer.at("tokens")[k].at("layers"), alone.at("tokens")[k].at("layers"));
        }
    }
}

TEST_F(BatchCommand, SaysWhichSpeedCannotBeReached) {
    const std::string requests = R"({"prompt": "the", "routing": "top-k:1"})"
                                 "\n"
                                 R"({"prompt": "the", "routing": "speed:1e9"})"
                                 "\n";
    ASSERT_EQ(t.run(words({file(requests), "-n", "20", "--ignore-end"})), 0);
    EXPECT_THAT(t.err.str(), HasSubstr("line 2: speed:1e+09 cannot be reached"));
    EXPECT_THAT(t.err.str(), Not(HasSubstr("line 1:")));
}

TEST_F(BatchCommand, ReadsEveryKey) {
    const std::string requests =
        R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "the"}],)"
        R"("max_tokens": 4, "temperature": 0, "top_k": 3, "top_p": 0.9, "min_p": 0, "seed": 7,)"
        R"("stop": ["zzz", "yyy"], "ignore_end": true, "routing": "mean:2"})"
        "\n\n"
        R"({"prompt": "the", "stop": "zzz", "id": 5})"
        "\n";
    ASSERT_EQ(
        t.run(words({"-", "-q", "-n", "3", "--ignore-end", "--routing", "top-k:4"}), requests), 0)
        << t.err.str();
    const auto got = answers(t.out.str());
    EXPECT_EQ(got.at(1).at("seed"), 7);
    EXPECT_EQ(got.at(1).at("routing"), "mean:2");
    EXPECT_EQ(got.at(1).at("tokens").size(), 4u);
    EXPECT_FALSE(got.at(1).contains("id"));
    EXPECT_EQ(got.at(3).at("id"), 5);
    EXPECT_EQ(got.at(3).at("tokens").size(), 3u);
    EXPECT_EQ(got.at(3).at("experts_per_token"), 4.0);
}

TEST_F(BatchCommand, BadLinesAreNamedAndTheOthersAnswered) {
    const std::pair<const char*, const char*> bad[] = {
        {"no json", "is no JSON object"},
        {"[]", "is no JSON object"},
        {R"({"prompt": "a", "temperature": 1e400})", "out of range"},
        {"{\"prompt\": \"the\"", "is no JSON object"},
        {"{}", "there is nothing to answer"},
        {R"({"prompt": "a", "messages": [{"role": "user", "content": "b"}]})", "both given"},
        {R"({"prompt": 3})", "prompt is no string"},
        {R"({"prompt": "a", "promt": "b"})", "\"promt\" is no known key"},
        {R"({"prompt": "a", "max_tokens": -1})", "max_tokens holds no valid number"},
        {R"({"prompt": "a", "max_tokens": 1.5})", "max_tokens holds no valid number"},
        {R"({"prompt": "a", "top_k": 99999999999})", "top_k holds no valid number"},
        {R"({"prompt": "a", "seed": "x"})", "seed holds no valid number"},
        {R"({"prompt": "a", "temperature": true})", "temperature is no number"},
        {R"({"prompt": "a", "temperature": -2})", "temperature"},
        {R"({"prompt": "a", "stop": [""]})", "a stop string is empty"},
        {R"({"prompt": "a", "id": [1]})", "id is neither"},
        {R"({"messages": [{"role": "cook", "content": "b"}]})", "role is another"},
        {R"({"messages": [{"role": "user"}]})", "a message is something else"},
        {R"({"prompt": "a", "routing": "top-k:0"})", "policy: 'top-k:0'"},
        {R"({"prompt": "a", "routing": "top-k:7"})", "routing: top-k 7"},
        {R"({"prompt": "a", "routing": "expert-choice:2"})", "needs whole batches"},
    };
    std::string requests = "{\"prompt\": \"the\"}\n";
    for (const auto& [line, says] : bad) requests += std::string(line) + "\n";
    requests +=
        R"({"id": "long", "prompt": ")" + std::string(99, 'x') + "\"}\n{\"prompt\": \"the\"}\n";
    const std::string path = file(requests);
    EXPECT_EQ(t.run(words({path, "-n", "2"})), 1);
    const auto got = answers(t.out.str());
    int line = 1;
    for (const auto& [text, says] : bad) {
        ++line;
        const auto error = got.at(line).at("error").get<std::string>();
        EXPECT_TRUE(error.starts_with("[" + path + ":" + std::to_string(line) + "] ")) << error;
        EXPECT_THAT(error, HasSubstr(says)) << text;
        EXPECT_THAT(t.err.str(), HasSubstr("muster: " + error + "\n"));
    }
    EXPECT_THAT(got.at(line + 1).at("error").get<std::string>(), HasSubstr("at most 48"));
    EXPECT_EQ(got.at(line + 1).at("id"), "long");
    EXPECT_TRUE(got.at(1).contains("text"));
    EXPECT_TRUE(got.at(line + 2).contains("text"));
    EXPECT_THAT(t.err.str(), HasSubstr("2 requests answered"));
}

TEST_F(BatchCommand, InterruptsKeepWhatIsDone) {
    const std::string out = (model / "answers.jsonl").string();
    std::string requests;
    for (int i = 0; i < 40; ++i) requests += "{\"prompt\": \"the\"}\n";
    int calls = 0;
    t.terminal.interrupted = [&] { return ++calls > 150; };
    EXPECT_EQ(t.run(words({file(requests), "-o", out, "-n", "8", "--ignore-end", "--sequences", "2",
                           "--no-check"})),
              130);
    EXPECT_THAT(t.err.str(), HasSubstr("stopped"));
    const auto got = answers(read_file(out));
    EXPECT_GT(got.size(), 1u);
    EXPECT_LT(got.size(), 40u);
    for (const auto& [line, answer] : got) {
        EXPECT_EQ(answer.at("tokens").size(), 8u);
        EXPECT_EQ(answer.at("stop"), "max_tokens");
    }
}

/// A pipe that a client in the test writes to.
class Client {
  public:
    Client() { EXPECT_EQ(::pipe(ends_), 0); }
    ~Client() {
        close();
        ::close(ends_[0]);
    }
    int reader() const { return ends_[0]; }
    void write(const std::string& text) {
        EXPECT_EQ(::write(ends_[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
    }
    void close() {
        if (ends_[1] >= 0) ::close(ends_[1]);
        ends_[1] = -1;
    }

  private:
    int ends_[2] = {-1, -1};
};

/// Whether a test that might hang has had its time.
std::function<bool()> after_a_minute() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    return [=] { return std::chrono::steady_clock::now() > end; };
}

TEST_F(BatchCommand, ClientsMayWaitForAnswers) {
    Client client;
    client.write("{\"prompt\": \"the\"}\n{\"prompt\"");
    t.terminal.in_descriptor = client.reader();
    int step = 0;
    // The command looks at this again and again, on the same thread.
    t.terminal.interrupted = [&, late = after_a_minute()] {
        const auto done = answers(t.out.str()).size();
        if (step == 0 && done == 1) {
            client.write(": \"the other\"}\n");
            ++step;
        } else if (step == 1 && done == 2) {
            client.write("\n{\"id\": \"last\", \"prompt\": \"then\"}");
            client.close();
            ++step;
        }
        return late();
    };
    ASSERT_EQ(t.run(words({"-", "-n", "3", "--ignore-end"})), 0) << t.err.str();
    EXPECT_EQ(step, 2);
    const auto got = answers(t.out.str());
    ASSERT_EQ(got.size(), 3u);
    EXPECT_EQ(got.at(4).at("id"), "last");
}

TEST_F(BatchCommand, RequestsThatComeWhileOthersAreAnsweredJoinThem) {
    Client client;
    client.write("{\"prompt\": \"the\", \"max_tokens\": 40}\n");
    t.terminal.in_descriptor = client.reader();
    int calls = 0;
    t.terminal.interrupted = [&, late = after_a_minute()] {
        if (++calls == 30) {
            EXPECT_EQ(t.out.str(), "") << "the first is under way";
            client.write("{\"prompt\": \"the\", \"max_tokens\": 1}\n");
            client.close();
        }
        return late();
    };
    ASSERT_EQ(t.run(words({"-", "--ignore-end", "--no-check"})), 0) << t.err.str();
    EXPECT_TRUE(t.out.str().starts_with("{\"line\":2")) << t.out.str();
    EXPECT_EQ(answers(t.out.str()).size(), 2u);
}

TEST_F(BatchCommand, InterruptsEndTheWaitForRequests) {
    Client client;
    t.terminal.in_descriptor = client.reader();
    int calls = 0;
    t.terminal.interrupted = [&] { return ++calls > 8; };
    EXPECT_EQ(t.run(words({"-", "--no-check"})), 130);
    EXPECT_THAT(t.err.str(), HasSubstr("stopped"));
}

TEST_F(BatchCommand, InputThatBreaksIsNoEnd) {
    const int directory = ::open((model / "").c_str(), O_RDONLY | O_DIRECTORY);
    ASSERT_GE(directory, 0);
    t.terminal.in_descriptor = directory;
    EXPECT_EQ(t.run(words({"-", "-o", (model / "answers").string()})), 1);
    EXPECT_THAT(t.err.str(), HasSubstr("muster: [requests] cannot be read"));
    EXPECT_FALSE(std::filesystem::exists(model / "answers"));
    ::close(directory);
}

TEST_F(BatchCommand, ManySequencesRefuseNothing) {
    std::string requests;
    for (int i = 0; i < 1300; ++i) requests += "{\"prompt\": \"the\"}\n";
    ASSERT_EQ(t.run(words({file(requests), "-n", "1", "--sequences", "600"})), 0) << t.err.str();
    EXPECT_THAT(t.err.str(), HasSubstr("1300 requests answered"));
}

TEST_F(BatchCommand, RequestsNamePlans) {
    std::string text;
    for (int i = 0; i < 20; ++i) text += "the theme of letter " + std::to_string(i * i) + ", ";
    write_file(model / "long.txt", text);
    const std::string plan = (model / "plan.json").string();
    ASSERT_EQ(t.run({"calibrate", "default", (model / "long.txt").string(), "-o", plan}), 0)
        << t.err.str();
    const std::string policy = "plan:" + plan;
    const std::string requests = json{{"prompt", "the"}, {"routing", policy}, {"seed", 3}}.dump() +
                                 "\n" + json{{"prompt", "the"}, {"seed", 3}}.dump() + "\n";
    const std::vector<std::string> limits{"-n", "6", "--ignore-end"};
    const auto with = [&](std::vector<std::string> all, const std::vector<std::string>& more) {
        all.insert(all.end(), limits.begin(), limits.end());
        all.insert(all.end(), more.begin(), more.end());
        return all;
    };
    ASSERT_EQ(t.run(with({"run", "default", "-p", "the", "--seed", "3"},
                         {"--routing", policy, "--json"})),
              0)
        << t.err.str();
    const json alone = json::parse(t.out.str());
    ASSERT_EQ(t.run(words(with({file(requests)}, {"--plan", plan}))), 0) << t.err.str();
    auto got = answers(t.out.str());
    for (const char* key : {"routing", "text", "experts_per_token"})
        EXPECT_EQ(got.at(1).at(key), alone.at(key)) << key;
    EXPECT_EQ(got.at(2).at("routing"), "model");
    ASSERT_EQ(t.run(words(with({file(requests)}, {"--routing", policy}))), 0) << t.err.str();
    EXPECT_EQ(answers(t.out.str()).at(2).at("text"), alone.at("text"));
    EXPECT_EQ(t.run(words(with({file(requests)}, {}))), 1);
    got = answers(t.out.str());
    EXPECT_THAT(got.at(1).at("error").get<std::string>(), HasSubstr("plan"));
    EXPECT_TRUE(got.at(2).contains("text"));
    EXPECT_EQ(t.run(words({file(requests), "--plan", (model / "none.json").string()})), 1);
    EXPECT_THAT(t.err.str(), HasSubstr("none.json"));
    EXPECT_EQ(t.out.str(), "");
}

TEST_F(BatchCommand, FilesAppearWholeOrNotAtAll) {
    const std::string path = file("{\"prompt\": \"the\"}\n");
    const auto refused = [&](std::vector<std::string> more, const std::string& says) {
        EXPECT_EQ(t.run(words(std::move(more))), 1);
        EXPECT_THAT(t.err.str(), HasSubstr(says));
        EXPECT_EQ(t.out.str(), "");
    };
    refused({(model / "none.jsonl").string()}, "none.jsonl");
    refused({(model / "heldout").string()}, "heldout");
    refused({path, "-o", (model / "no/such/place").string()}, "no/such/place");
    refused({path, "--routing", "top-k:x"}, "top-k:x");
    EXPECT_EQ(t.run(words({path, "-o", (model / "out").string(), "-n", "2"})), 0);
    EXPECT_EQ(t.out.str(), "");
    EXPECT_EQ(answers(read_file(model / "out")).size(), 1u);
}

}  // namespace
}  // namespace muster::cli
