// SPDX-License-Identifier: Apache-2.0
// Statements: text, {{ }} and {% %}.
#include <algorithm>

#include "muster/tokenizer/jinja_parser.h"

namespace muster::jinja {

using Type = Statement::Type;

Block Parser::parse(std::string_view text) {
    Parser parser(tokenize(text));
    Block all = parser.block({});
    return all;
}

Statement Parser::start(Type type) {
    Statement s;
    s.type = type;
    s.line = token().line;
    return s;
}

/// Statements up to one of the words of `ends`, whose tag is read up to the word itself; without
/// `ends`, up to the end.
Block Parser::block(std::initializer_list<std::string_view> ends) {
    const Nesting nesting(*this);
    Block out;
    for (;;) {
        switch (token().type) {
            case Token::Type::end:
                if (ends.size() > 0) fail("{% " + std::string(*(ends.end() - 1)) + " %}");
                return out;
            case Token::Type::data: {
                Statement s = start(Type::data);
                s.text = tokens_[at_++].text;
                out.push_back(std::move(s));
                break;
            }
            case Token::Type::variable_begin: {
                ++at_;
                Statement s = start(Type::output);
                s.expression = tuple(true, false);
                if (token().type != Token::Type::variable_end) fail("the end of the tag, }}");
                ++at_;
                out.push_back(std::move(s));
                break;
            }
            default: {
                ++at_;  // block_begin: nothing else stands outside tags
                if (token().type != Token::Type::name) fail("the name of a statement");
                const std::string word = token().text;
                if (std::find(ends.begin(), ends.end(), word) != ends.end()) return out;
                statement(out, word);
            }
        }
    }
}

void Parser::statement(Block& out, const std::string& word) {
    if (word == "for") {
        out.push_back(for_statement());
    } else if (word == "if") {
        out.push_back(if_statement());
    } else if (word == "set") {
        out.push_back(set_statement());
    } else if (word == "macro") {
        out.push_back(macro_statement());
    } else if (word == "call") {
        out.push_back(call_statement());
    } else if (word == "filter") {
        out.push_back(filter_statement());
    } else if (word == "with") {
        out.push_back(with_statement());
    } else if (word == "break" || word == "continue") {
        out.push_back(leave_statement(word));
    } else if (word == "generation") {
        Statement s = start(Type::plain);
        ++at_;
        expect_block_end();
        s.blocks.push_back(block({"endgeneration"}));
        expect_word("endgeneration");
        expect_block_end();
        out.push_back(std::move(s));
    } else {
        fail(
            "a statement that chat templates have: for, if, set, macro, call, filter, with, "
            "break, continue, generation, raw");
    }
}

Target Parser::one_target(bool with_attribute) {
    const Nesting nesting(*this);
    Target t;
    if (take_op("(")) {
        t = target(false);
        expect_op(")");
        return t;
    }
    t.name = expect_name();
    static constexpr std::string_view kConstants[] = {"true",  "True", "false",
                                                      "False", "none", "None"};
    if (std::find(std::begin(kConstants), std::end(kConstants), t.name) != std::end(kConstants)) {
        --at_;
        fail("a name that is no constant");
    }
    if (with_attribute && take_op(".")) t.attribute = expect_name();
    return t;
}

Target Parser::target(bool with_attribute) {
    Target first = one_target(with_attribute);
    if (!is_op(",")) return first;
    Target all;
    all.several.push_back(std::move(first));
    while (take_op(",")) {
        if (token().type != Token::Type::name && !is_op("(")) break;
        if (is_word("in")) break;
        all.several.push_back(one_target(false));
    }
    return all;
}

Statement Parser::for_statement() {
    Statement s = start(Type::loop);
    ++at_;
    s.target = target(false);
    expect_word("in");
    s.expression = tuple(false, false, "recursive");
    if (take_word("if")) s.condition = expression();
    s.recursive = take_word("recursive");
    expect_block_end();
    ++loops_;
    s.blocks.push_back(block({"else", "endfor"}));
    --loops_;
    if (take_word("else")) {
        expect_block_end();
        s.blocks.push_back(block({"endfor"}));
    }
    expect_word("endfor");
    expect_block_end();
    return s;
}

Statement Parser::if_statement() {
    Statement s = start(Type::branch);
    ++at_;
    do {
        s.conditions.push_back(tuple(false, false));
        expect_block_end();
        s.blocks.push_back(block({"elif", "else", "endif"}));
    } while (take_word("elif"));
    if (take_word("else")) {
        expect_block_end();
        s.blocks.push_back(block({"endif"}));
    }
    expect_word("endif");
    expect_block_end();
    return s;
}

Statement Parser::set_statement() {
    Statement s = start(Type::set);
    ++at_;
    s.target = target(true);
    if (take_op("=")) {
        s.expression = tuple(true, false);
        expect_block_end();
        return s;
    }
    s.type = Type::set_block;
    if (take_op("|")) s.expression = filter_chain();
    expect_block_end();
    s.blocks.push_back(block({"endset"}));
    expect_word("endset");
    expect_block_end();
    return s;
}

std::vector<Parameter> Parser::parameters() {
    std::vector<Parameter> list;
    expect_op("(");
    while (!is_op(")")) {
        if (!list.empty()) expect_op(",");
        Parameter p;
        p.name = expect_name();
        if (take_op("=")) {
            p.fallback = expression();
        } else if (!list.empty() && list.back().fallback) {
            fail("`=` and a default, as the parameter before has one");
        }
        list.push_back(std::move(p));
    }
    expect_op(")");
    return list;
}

Statement Parser::macro_statement() {
    Statement s = start(Type::macro);
    ++at_;
    s.text = expect_name();
    s.parameters = parameters();
    expect_block_end();
    const std::set<std::string> words_around = std::exchange(macro_words_, {});
    const int loops_around = std::exchange(loops_, 0);
    s.blocks.push_back(block({"endmacro"}));
    loops_ = loops_around;
    s.takes_more_values = macro_words_.contains("varargs");
    s.takes_more_named = macro_words_.contains("kwargs");
    s.takes_caller = macro_words_.contains("caller");
    macro_words_ = words_around;
    expect_word("endmacro");
    if (token().type == Token::Type::name) ++at_;  // its name may be said again
    expect_block_end();
    return s;
}

Statement Parser::call_statement() {
    Statement s = start(Type::call_block);
    ++at_;
    if (is_op("(")) s.parameters = parameters();
    s.expression = expression();
    if (s.expression->type != Expression::Type::call)
        fail_at(s.line, "a call block calls nothing, expected a call such as f(x)");
    expect_block_end();
    const int loops_around = std::exchange(loops_, 0);
    s.blocks.push_back(block({"endcall"}));
    loops_ = loops_around;
    expect_word("endcall");
    expect_block_end();
    return s;
}

Statement Parser::filter_statement() {
    Statement s = start(Type::filter);
    ++at_;
    s.expression = filter_chain();
    expect_block_end();
    s.blocks.push_back(block({"endfilter"}));
    expect_word("endfilter");
    expect_block_end();
    return s;
}

Statement Parser::with_statement() {
    Statement s = start(Type::with);
    ++at_;
    while (token().type != Token::Type::block_end) {
        if (!s.targets.empty()) expect_op(",");
        s.targets.push_back(one_target(false));
        expect_op("=");
        s.expressions.push_back(expression());
    }
    expect_block_end();
    s.blocks.push_back(block({"endwith"}));
    expect_word("endwith");
    expect_block_end();
    return s;
}

Statement Parser::leave_statement(const std::string& word) {
    Statement s = start(word == "break" ? Type::leave : Type::next);
    if (loops_ == 0) fail_at(s.line, "`" + word + "` stands outside of a loop");
    ++at_;
    expect_block_end();
    return s;
}

}  // namespace muster::jinja
