// SPDX-License-Identifier: Apache-2.0
// Limits, messages and what surrounds the interpreter; what templates mean is compared with Jinja2
// in tests/oracle/chat_oracle.py.
#include "muster/tokenizer/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

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
    for (int steps = 0; steps < 300; ++steps) {
        small.limits.steps = steps;
        EXPECT_THAT(failure("{{ 'a' * 9999 }}", small), HasSubstr("takes too long"));
    }
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

/// Fifty times `expression`, which reads `s` of 200 KB: the sum of the charges is above the
/// limit, the number of expressions far below it.
std::string failure_of_reading(std::string_view expression, int times = 50) {
    ChatTemplateOptions options;
    options.limits.steps = 300'000;
    return failure(
        "{% set s = 'a' * 1000000 %}{% set b = s ~ 'b' %}{% set d = {s: 1} %}"
        "{% set space = namespace(x=1) %}{% for i in range(" +
            std::to_string(times) + ") %}{% set x = " + std::string(expression) + " %}{% endfor %}",
        options);
}

TEST(ChatTemplate, ReadingAStringCosts) {
    EXPECT_EQ(failure_of_reading("s"), "no error");
    EXPECT_EQ(failure_of_reading("s is string and s is defined and s is not none"), "no error");
    const std::string_view expressions[] = {
        "s in b",
        "b in s",
        "'b' in s",
        "s == 'a' * 200000",
        "s != s",
        "s < s",
        "s >= s",
        "s is eq s",
        "s is sameas s",
        "s is lower",
        "s is upper",
        "s is in [s]",
        "s in [s]",
        "s in d",
        "s in s",
        "d[s]",
        "d.get(s)",
        "{s: 1, s: 2}",
        "[s] == [s]",
        "[s] < [s]",
        "[s].index(s)",
        "[s].count(s)",
        "d == {s: 1}",
        "s[0]",
        "s[-1]",
        "s[1:2]",
        "s[::200000]",
        "s ~ ''",
        "s + ''",
        "'%.1s' % s",
        "'%.1s' % [s]",
        "s.find('b')",
        "s.rfind('b')",
        "s.find('a', 190000)",
        "b.index('b')",
        "b.rindex('b')",
        "s.count('b')",
        "s.split('b', 1)",
        "s.split('x')",
        "s.rsplit('x')",
        "s.split()",
        "s.splitlines()",
        "s.partition('b')",
        "s.rpartition('b')",
        "s.replace('b', 'c')",
        "s.startswith(s)",
        "s.endswith(s)",
        "b.startswith((s, s))",
        "s.strip('a')",
        "s.lstrip('a')",
        "s.rstrip('a')",
        "s.strip()",
        "s.removeprefix(s)",
        "s.removesuffix(s)",
        "s.upper()",
        "s.lower()",
        "s.title()",
        "s.capitalize()",
        "s.isdigit()",
        "s.isalpha()",
        "s.isalnum()",
        "s.isspace()",
        "s.isupper()",
        "s.islower()",
        "s.ljust(1)",
        "s.rjust(1)",
        "s.zfill(1)",
        "s.format()",
        "'{:.1}'.format(s)",
        "'{!r:.1}'.format(s)",
        "''.join([s])",
        "s | length",
        "s | count",
        "s | trim",
        "s | trim('a')",
        "s | upper",
        "s | lower",
        "s | title",
        "s | capitalize",
        "s | replace('b', 'c')",
        "s | escape",
        "s | indent",
        "s | center(1)",
        "s | truncate(3)",
        "s | wordcount",
        "s | urlencode",
        "s | format",
        "'%.1s' | format(s)",
        "s | int",
        "s | float",
        "s | first",
        "s | last",
        "s | list",
        "s | reverse",
        "[s] | join",
        "[s, s] | sort",
        "[s] | max",
        "[s, s] | min",
        "[s, s] | unique",
        "[s] | string",
        "[s] | tojson",
        "s | tojson",
        "d | tojson(sort_keys=true)",
        "[1, 2] | tojson(indent=s)",
        "[1, 2] | tojson(separators=(s, s))",
        "[s] | map('length') | list",
        "[s] | map('upper') | list",
        "[s, s] | groupby(0)",
        "[d] | map(attribute=s) | list",
        "d | dictsort",
        "[[1, 2]] | map('attr', s) | list",
        "1 | attr(s)",
    };
    for (const std::string_view expression : expressions)
        EXPECT_THAT(failure_of_reading(expression), HasSubstr("takes too long")) << expression;
}

TEST(ChatTemplate, ManyNamesAndEntriesCost) {
    ChatTemplateOptions options;
    options.limits.steps = 180'000;
    std::string names, parameters;
    for (int i = 0; i < 2'000; ++i) {
        const std::string name = "n" + std::to_string(1'000'000 + i);
        names += "{% set " + name + " = 1 %}";
        parameters += (i > 0 ? "," : "") + name;
    }
    const std::string entries =
        "{% set d = {} %}{% for i in range(1000) %}{% set _ = d.update({i: i}) %}{% endfor %}";
    const std::string turns = "{% for i in range(1000) %}", end = "{% endfor %}";
    EXPECT_THAT(failure(names + turns + "{{ n1001999 }}" + end, options),
                HasSubstr("takes too long"));
    EXPECT_THAT(failure(entries + turns + "{{ d.x }}" + end, options), HasSubstr("takes too long"));
    EXPECT_THAT(failure("{% macro f(" + parameters + ") %}{% endmacro %}{{ f() }}", options),
                HasSubstr("takes too long"));
    EXPECT_THAT(failure("{% set many = range(1000) | list %}"
                        "{{ ([[]] * 1000) | map('map', 'upper', *many) | list }}",
                        options),
                HasSubstr("takes too long"));
    const std::string name(50'000, 'n');
    const std::vector<std::string> uses = {"{{ " + name + " }}",
                                           "{% set " + name + " = 1 %}",
                                           "{% set space." + name + " = 1 %}",
                                           "{% macro " + name + "() %}{% endmacro %}",
                                           "{{ dict(" + name + "=1) }}",
                                           "{% with " + name + " = 1 %}{% endwith %}",
                                           "{{ space." + name + " }}",
                                           "{{ f() }}"};
    for (const std::string& use : uses) {
        EXPECT_THAT(
            failure("{% set space = namespace(" + name + "=1) %}{% macro f(" + name +
                        "=1) %}{% endmacro %}{% set " + name + " = '' %}" + turns + use + end,
                    options),
            HasSubstr("takes too long"))
            << use.substr(0, 20);
    }
    // Every part of a `~` is charged before the next one is appended.
    std::string joined = "{% set s = 'a' * 1000000 %}{{ s";
    for (int i = 0; i < 10'000; ++i) joined += " ~ s";
    EXPECT_THAT(failure(joined + " }}", options), HasSubstr("takes too long"));
    EXPECT_THAT(failure("{{ 'a'.ljust(1000000, 'a' * 1000000) }}"),
                HasSubstr("expected one character"));
}

TEST(ChatTemplate, SearchesFromBothEnds) {
    EXPECT_EQ(render("{% set s = 'aXbXXcä' %}{{ s.find('X') }}{{ s.rfind('X') }}{{ s.find('') }}"
                     "{{ s.rfind('') }}{{ s.find('ä') }}{{ s.rfind('q') }}{{ s.find('X', 2) }}"
                     "{{ s.count('X') }}{{ 'aaa'.count('aa') }}{{ '' in s }}{{ 'bX' in s }}"),
              "140"
              "76-1331TrueTrue");
    EXPECT_EQ(render("{{ 'aXbXXc'.rsplit('X', 2) }}{{ 'aXbXXc'.rsplit('X') }}"
                     "{{ 'aaa'.rsplit('aa') }}{{ 'aXbXc'.rpartition('X') }}"
                     "{{ 'abc'.rpartition('X') }}{{ ''.rsplit('X') }}"),
              "['aXb', '', 'c']['a', 'b', '', 'c']['a', '']('aXb', 'X', 'c')('', '', 'abc')['']");
    EXPECT_EQ(render("{% set s = 'äbcdë' %}{{ s[1:] }}|{{ s[:-1] }}|{{ s[3:1] }}|{{ s[::-1] }}|"
                     "{{ s[-1] }}{{ s[0] }}|{{ s[7:] }}|{{ '%.2s' % s }}|{{ '{:ä<7}'.format(s) }}"),
              "bcdë|äbcd||ëdcbä|ëä||äb|äbcdëää");
}

TEST(ChatTemplate, LongConversationsStayFarBelowTheLimits) {
    ordered_json messages = ordered_json::array();
    std::string text = "<think>A thought.</think>\n\n";
    while (text.size() < 200'000) text += "Some words of a rather long answer, ä, and more.\n";
    for (int i = 0; i < 100; ++i)
        messages.push_back({{"role", i % 2 == 0 ? "user" : "assistant"},
                            {"content", i < 10 ? text : text.substr(0, 2'000)}});
    // What templates of reasoning models do with every message.
    const ChatTemplate chat(
        "{% for message in messages[::-1] %}{% if message.role == 'user' and not "
        "(message.content.startswith('<tool_response>') and "
        "message.content.endswith('</tool_response>')) %}{% set last = loop.index0 %}{% endif %}"
        "{% endfor %}{% for message in messages %}{% set content = message.content %}"
        "{% if message.content is string and '</think>' in content %}"
        "{% set content = message.content.split('</think>')[-1].lstrip('\n') %}"
        "{% set thought = message.content.split('</think>')[0].rstrip('\n').split('<think>')[-1] %}"
        "{% endif %}{{ '<|im_start|>' + message.role + '\n' + content | trim + '<|im_end|>\n' }}"
        "{% endfor %}",
        "<s>", "</s>");
    ChatTemplateOptions options;
    options.limits.steps /= 4;
    EXPECT_GT(chat.render(messages, options).size(), 2'000'000u);
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
