// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/chat.h"

#include <gmock/gmock.h>

#include "muster/cli/chat_prompt.h"
#include "muster/cli/test_terminal.h"
#include "muster/core/error.h"

namespace muster::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kTemplate =
    "{{ bos_token }}{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[a]{% endif %}";

class ChatTest : public ::testing::Test {
  protected:
    ChatTest() {
        t.terminal.data_paths = {model / ""};
        write_file(model / "chat.jinja", kTemplate);
    }
    /// A conversation over a pipe; gives what was written.
    std::string chat(const std::string& input, std::vector<std::string> more = {},
                     const std::string& tokens = "3", int code = 0) {
        std::vector<std::string> words{"chat",
                                       "default",
                                       "-n",
                                       tokens,
                                       "--temperature",
                                       "0",
                                       "--chat-template",
                                       (model / "chat.jinja").string()};
        words.insert(words.end(), more.begin(), more.end());
        EXPECT_EQ(t.run(words, input), code) << t.err.str();
        return t.out.str();
    }
    size_t answers() {
        const std::string err = t.err.str();
        size_t n = 0;
        for (size_t at = 0; (at = err.find("experts per token", at)) != std::string::npos; ++at)
            ++n;
        return n;
    }

    TinyModel model;
    TestTerminal t;
};

TEST_F(ChatTest, AnswersEachLineOfAPipe) {
    chat("a\nb\n\n");
    EXPECT_EQ(answers(), 2u);
    EXPECT_THAT(t.err.str(), HasSubstr("0 kept"));
    EXPECT_THAT(t.out.str(), Not(HasSubstr("> ")));
    chat("", {"-q"});
    EXPECT_EQ(t.out.str() + t.err.str(), "");
    chat("a", {"-q"});  // no line feed at the end
    EXPECT_EQ(t.err.str(), "");
    EXPECT_NE(t.out.str(), "");
}

TEST_F(ChatTest, WhatWasComputedIsKept) {
    chat("a\nb\n");
    // The second prompt begins with the first: "<s>[u]a[a]" is 1 + 7 tokens.
    const std::string err = t.err.str();
    const size_t second = err.rfind(" tokens read, ");
    ASSERT_NE(second, std::string::npos);
    EXPECT_GE(std::stoi(err.substr(second + 14)), 8) << err;
}

TEST_F(ChatTest, CommandsChangeWhatFollows) {
    chat("/routing top-k:1\nhi\n/stats\n");
    EXPECT_THAT(t.err.str(), HasSubstr("routing top-k:1"));
    EXPECT_THAT(t.err.str(), HasSubstr("1.00 experts per token (1.00 to 1.00)"));
    EXPECT_THAT(t.err.str(), HasSubstr("busiest"));
    EXPECT_THAT(t.err.str(), HasSubstr("of 48 tokens of context used"));
    chat("/routing top-k:99\n/routing\n/nonsense\n/help\n/stats\n/exit\nhi\n");
    EXPECT_THAT(t.err.str(), HasSubstr("routing model"));
    EXPECT_THAT(t.err.str(), HasSubstr("\"/nonsense\" is no command"));
    EXPECT_THAT(t.err.str(), HasSubstr("/system TEXT"));
    EXPECT_THAT(t.err.str(), HasSubstr("No experts have worked yet"));
    EXPECT_EQ(answers(), 0u);
    const std::string first = chat("hi\n/clear\nhi\n", {"-q"});
    EXPECT_EQ(first.substr(0, first.size() / 2), first.substr(first.size() / 2));
}

TEST_F(ChatTest, PolicyOfAnAnswerIsThatOfTheOption) {
    chat("hi\n", {"--routing", "top-k:3"});
    EXPECT_THAT(t.err.str(), HasSubstr("3.00 experts per token"));
    EXPECT_EQ(t.run({"chat", "default", "--routing", "expert-choice:2"}, "hi\n"), 1);
    EXPECT_EQ(t.run({"chat", "default", "--chat-template", "/nowhere"}, "hi\n"), 1);
}

TEST_F(ChatTest, LinesCanBeJoined) {
    const std::string joined = chat("a\\\nb\n", {"-q"});
    EXPECT_EQ(chat("\"\"\"a\nb\"\"\"\n", {"-q"}), joined);
    EXPECT_EQ(chat("\"\"\"\na\nb\n\"\"\"\n", {"-q"}), joined);
    chat("//help\n");
    EXPECT_EQ(answers(), 1u);
    EXPECT_THAT(t.err.str(), Not(HasSubstr("/system TEXT")));
}

TEST_F(ChatTest, InterruptEndsTheAnswerAndNotTheProgram) {
    bool pressed = false;
    int calls = 0;
    t.terminal.interrupted = [&] { return pressed = pressed || ++calls == 12; };
    t.terminal.forget_interrupt = [&] { pressed = false; };
    chat("a\nb\n", {"--no-check"}, "30");
    EXPECT_THAT(t.err.str(), HasSubstr("; stopped"));
    EXPECT_EQ(answers(), 2u);
}

TEST_F(ChatTest, PromptsThatAreStoppedLeaveNothing) {
    const std::string expected = chat("b\n", {"-q", "--ctx", "700"});
    bool pressed = true;
    t.terminal.interrupted = [&] { return pressed; };
    t.terminal.forget_interrupt = [&] { pressed = false; };
    const std::string longer = std::string(300, 'a') + "\nb\n";  // than one pass
    EXPECT_EQ(chat(longer, {"--no-check", "--ctx", "700"}), expected);
    EXPECT_THAT(t.err.str(), HasSubstr("[0 tokens in "));
    EXPECT_THAT(t.err.str(), HasSubstr("; 256 tokens read, 0 kept; stopped"));
}

TEST_F(ChatTest, OldTurnsAreForgottenWhenTheContextIsFull) {
    chat("a\nb\nc\nd\n", {"--system", "s"});
    EXPECT_THAT(t.err.str(), HasSubstr("the oldest turn is forgotten"));
    EXPECT_EQ(answers(), 4u);
}

TEST_F(ChatTest, TurnsThatAreTooLongChangeNothing) {
    const std::string answers_of_both = chat("a\nb\n", {"-q"});
    EXPECT_EQ(chat("a\n" + std::string(200, 'x') + "\nb\n", {"-q"}, "3", 1), answers_of_both);
    EXPECT_THAT(t.err.str(), HasSubstr("muster: "));
    EXPECT_THAT(t.err.str(), HasSubstr("expected at most 48, the context"));
    EXPECT_THAT(t.err.str(), Not(HasSubstr("forgotten")));
    t.terminal.in_is_terminal = true;
    chat(std::string(200, 'x') + "\nb\n");
    EXPECT_EQ(answers(), 1u);
}

TEST_F(ChatTest, ModelsWithoutATemplateGetPlainText) {
    ASSERT_EQ(t.run({"chat", "default", "-n", "3", "--temperature", "0"}, "a\n"), 0);
    EXPECT_THAT(t.err.str(), HasSubstr("no chat template"));
    EXPECT_EQ(answers(), 1u);
}

TEST_F(ChatTest, ColoursOnRequest) {
    EXPECT_THAT(chat("a\n", {"--color", "experts"}), HasSubstr("\033[48;5;"));
    EXPECT_THAT(chat("a\n"), Not(HasSubstr("\033")));
}

TEST_F(ChatTest, PromptIsTheTemplatesAndBeginsOnce) {
    const Model m = Model::load(model.path());
    const std::vector<ChatMessage> messages{{"system", "s"}, {"user", "u"}};
    const ChatPrompt templated(m, model / "chat.jinja");
    EXPECT_EQ(templated.text(messages), "<s>[s]s[u]u[a]");
    const std::vector<int32_t> ids = templated.tokens(messages);
    EXPECT_EQ(ids[0], 1);
    EXPECT_NE(ids[1], 1);
    EXPECT_TRUE(templated.stop_strings().empty());
    const ChatPrompt plain(m, "");
    EXPECT_TRUE(plain.plain());
    EXPECT_EQ(plain.text(messages), "s\n\nUser: u\nAssistant:");
    EXPECT_THAT(plain.stop_strings(), ::testing::Contains("\nUser:"));
}

TEST_F(ChatTest, RefusalsOfTheTemplateAreShown) {
    write_file(model / "chat.jinja", "{{ raise_exception('no such role') }}");
    chat("a\nb\n", {}, "3", 1);
    EXPECT_THAT(t.err.str(), HasSubstr("muster: "));
    EXPECT_THAT(t.err.str(), HasSubstr("no such role"));
    EXPECT_EQ(answers(), 0u);
}

}  // namespace
}  // namespace muster::cli
