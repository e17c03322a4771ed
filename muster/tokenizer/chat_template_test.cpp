// SPDX-License-Identifier: Apache-2.0
// Limits, messages and what surrounds the interpreter; what templates mean is compared with Jinja2
// in tests/oracle/chat_oracle.py.
#include "muster/tokenizer/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "muster/checkpoint/weight_map.h"
#include "muster/core/error.h"

namespace muster {
namespace {

using nlohmann::ordered_json;
using ::testing::HasSubstr;

const ordered_json kMessages = {{{"role", "user"}, {"content", "Hi"}},
                                {{"role", "assistant"}, {"content", "Hello"}}};

std::string render(std::string_view text, const ChatTemplateOptions& options = {}) {
    return ChatTemplate(text, "<s>", "</s>").render(kMessages, options);
}

std::string failure(std::string_view text, const ChatTemplateOptions& options = {}) {
    try {
        render(text, options);
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}

TEST(ChatTemplate, WritesAConversation) {
    const std::string_view text =
        "{{ bos_token }}{% for m in messages %}\n"
        "<|{{ m.role }}|>{{ m['content'] | trim }}{{ eos_token }}\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}";
    EXPECT_EQ(render(text), "<s><|user|>Hi</s>\n<|assistant|>Hello</s>\n<|assistant|>");
    ChatTemplateOptions closed;
    closed.add_generation_prompt = false;
    EXPECT_EQ(render(text, closed), "<s><|user|>Hi</s>\n<|assistant|>Hello</s>\n");
}

TEST(ChatTemplate, AVariableThatIsSetInATurnStaysThere) {
    EXPECT_EQ(render("{% set a = 1 %}{% for i in [1, 2] %}{% set a = a + i %}{{ a }}{% endfor %}"
                     "{{ a }}"),
              "231");
}

TEST(ChatTemplate, ToolsAndVariablesOfTheCaller) {
    const ordered_json tools = {{{"type", "function"}}};
    const ordered_json variables = {{"enable_thinking", false}};
    ChatTemplateOptions options;
    options.tools = &tools;
    options.variables = &variables;
    EXPECT_EQ(render("{{ tools | tojson }}{{ enable_thinking }}", options),
              "[{\"type\": \"function\"}]False");
}

TEST(ChatTemplate, ErrorsNameTheLine) {
    EXPECT_THAT(failure("a\nb\n{% if %}"), HasSubstr("line 3"));
    EXPECT_THAT(failure("a\n{{ 1 + none }}"), HasSubstr("line 2"));
    EXPECT_THAT(failure("{{ raise_exception('roles must alternate') }}"),
                HasSubstr("roles must alternate"));
}

TEST(ChatTemplate, LimitsHold) {
    ChatTemplateOptions small;
    small.limits.steps = 10'000;
    small.limits.output = 1'000;
    EXPECT_NE(
        failure("{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}",
                small),
        "no error");
    EXPECT_NE(failure("{% for i in range(500) %}abcdef{% endfor %}", small), "no error");
    EXPECT_NE(failure("{{ 'x' * 1000000000 }}"), "no error");
    EXPECT_NE(failure("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), "no error");
    EXPECT_NE(failure("{{ " + std::string(100'000, '(')), "no error");
    EXPECT_NE(failure("{{ " + std::string(100'000, '[') + " }}"), "no error");
    std::string nested;
    for (int i = 0; i < 10'000; ++i) nested += "{% if 1 %}";
    EXPECT_NE(failure(nested), "no error");
    EXPECT_NE(failure("{% set l = [] %}{% for i in range(60) %}{% set _ = l.append(l) %}"
                      "{% endfor %}{{ l | tojson }}"),
              "no error");
}

TEST(ChatTemplate, TemplatesOfACheckpoint) {
    WeightMap checkpoint("test");
    EXPECT_TRUE(chat_templates_of(checkpoint).empty());
    checkpoint.set("tokenizer.chat_template", std::string("a"));
    checkpoint.set("tokenizer.chat_template.tool_use", std::string("b"));
    const ChatTemplateTexts texts = chat_templates_of(checkpoint);
    EXPECT_EQ(texts, (ChatTemplateTexts{{"default", "a"}, {"tool_use", "b"}}));
    checkpoint.set("tokenizer.chat_template.bad", uint64_t{3});
    EXPECT_THROW(chat_templates_of(checkpoint), Error);
}

}  // namespace
}  // namespace muster
