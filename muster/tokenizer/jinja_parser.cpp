// SPDX-License-Identifier: Apache-2.0
// Expressions.
#include "muster/tokenizer/jinja_parser.h"

#include <algorithm>

namespace muster::jinja {
namespace {

using Type = Expression::Type;

constexpr int kMaxDepth = 150;    // of an expression as it is evaluated
constexpr int kMaxNesting = 300;  // of the parser: a pair of brackets takes three levels

}  // namespace

Parser::Nesting::Nesting(Parser& parser) : depth_(parser.depth_) {
    if (++depth_ > kMaxNesting) fail_at(parser.token().line, "the template is nested too deeply");
}

bool Parser::is_op(std::string_view text) const noexcept {
    return token().type == Token::Type::op && token().text == text;
}
bool Parser::is_word(std::string_view text) const noexcept {
    return token().type == Token::Type::name && token().text == text;
}
bool Parser::take_op(std::string_view text) {
    const bool there = is_op(text);
    if (there) ++at_;
    return there;
}
bool Parser::take_word(std::string_view text) {
    const bool there = is_word(text);
    if (there) ++at_;
    return there;
}
void Parser::expect_op(std::string_view text) {
    if (!take_op(text)) fail("`" + std::string(text) + "`");
}
void Parser::expect_word(std::string_view text) {
    if (!take_word(text)) fail("`" + std::string(text) + "`");
}
std::string Parser::expect_name() {
    if (token().type != Token::Type::name) fail("a name");
    return tokens_[at_++].text;
}
void Parser::expect_block_end() {
    if (token().type != Token::Type::block_end) fail("the end of the tag, %}");
    ++at_;
}

void Parser::fail(const std::string& expected) const {
    std::string there;
    switch (token().type) {
        case Token::Type::end:
            there = "the end of the template";
            break;
        case Token::Type::block_end:
            there = "%}";
            break;
        case Token::Type::variable_end:
            there = "}}";
            break;
        case Token::Type::string:
            there = "a string";
            break;
        default:
            there = "`" + token().text.substr(0, 40) + "`";
    }
    fail_at(token().line, "there is " + there + ", expected " + expected);
}

ExpressionPtr Parser::make(Type type, std::string text) const {
    auto e = std::make_unique<Expression>();
    e->type = type;
    e->line = token().line;
    e->text = std::move(text);
    return e;
}

ExpressionPtr Parser::make(Type type, std::string text, ExpressionPtr a, ExpressionPtr b) const {
    ExpressionPtr e = make(type, std::move(text));
    if (a) e->line = a->line;
    e->children.push_back(std::move(a));
    if (b) e->children.push_back(std::move(b));
    measure(*e);
    return e;
}

/// Chains such as a.b.c grow without nesting in the parser, but nest when they are evaluated.
void Parser::measure(Expression& e) const {
    int below = 0;
    for (const ExpressionPtr& child : e.children)
        if (child) below = std::max(below, child->depth);
    for (const auto& [name, child] : e.named) below = std::max(below, child->depth);
    if (e.more_values) below = std::max(below, e.more_values->depth);
    if (e.more_named) below = std::max(below, e.more_named->depth);
    e.depth = below + 1;
    if (e.depth > kMaxDepth)
        fail_at(e.line, "an expression is nested too deeply, expected at most " +
                            std::to_string(kMaxDepth) + " levels");
}

ExpressionPtr Parser::expression(bool conditional) {
    const Nesting nesting(*this);
    ExpressionPtr value = either();
    while (conditional && take_word("if")) {
        ExpressionPtr condition = either();
        ExpressionPtr other = take_word("else") ? expression() : nullptr;
        ExpressionPtr e = make(Type::conditional, "", std::move(condition), std::move(value));
        e->children.push_back(std::move(other));
        measure(*e);
        value = std::move(e);
    }
    return value;
}

ExpressionPtr Parser::either() {
    ExpressionPtr left = both();
    while (take_word("or")) left = make(Type::either, "", std::move(left), both());
    return left;
}

ExpressionPtr Parser::both() {
    ExpressionPtr left = inverted();
    while (take_word("and")) left = make(Type::both, "", std::move(left), inverted());
    return left;
}

ExpressionPtr Parser::inverted() {
    const Nesting nesting(*this);
    if (take_word("not")) return make(Type::invert, "", inverted());
    return comparison();
}

ExpressionPtr Parser::comparison() {
    ExpressionPtr first = sum();
    ExpressionPtr e;
    const auto add = [&](std::string op) {
        if (!e) e = make(Type::compare, "", std::move(first));
        e->operators.push_back(std::move(op));
        e->children.push_back(sum());
        measure(*e);
    };
    for (;;) {
        const bool sign = token().type == Token::Type::op &&
                          (token().text == "==" || token().text == "!=" || token().text == "<" ||
                           token().text == "<=" || token().text == ">" || token().text == ">=");
        if (sign) {
            add(tokens_[at_++].text);
        } else if (take_word("in")) {
            add("in");
        } else if (is_word("not") && ahead().type == Token::Type::name && ahead().text == "in") {
            at_ += 2;
            add("not in");
        } else {
            return e ? std::move(e) : std::move(first);
        }
    }
}

ExpressionPtr Parser::sum() {
    ExpressionPtr left = concatenation();
    while (is_op("+") || is_op("-")) {
        std::string op = tokens_[at_++].text;
        left = make(Type::binary, std::move(op), std::move(left), concatenation());
    }
    return left;
}

ExpressionPtr Parser::concatenation() {
    ExpressionPtr first = product();
    if (!is_op("~")) return first;
    ExpressionPtr e = make(Type::concat, "", std::move(first));
    while (take_op("~")) e->children.push_back(product());
    measure(*e);
    return e;
}

ExpressionPtr Parser::product() {
    ExpressionPtr left = power();
    while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
        std::string op = tokens_[at_++].text;
        left = make(Type::binary, std::move(op), std::move(left), power());
    }
    return left;
}

ExpressionPtr Parser::power() {
    ExpressionPtr left = unary();
    while (take_op("**")) left = make(Type::binary, "**", std::move(left), unary());
    return left;
}

ExpressionPtr Parser::unary(bool filters) {
    const Nesting nesting(*this);
    ExpressionPtr e;
    if (take_op("-")) {
        e = make(Type::negative, "", unary(false));
    } else if (take_op("+")) {
        e = make(Type::positive, "", unary(false));
    } else {
        e = primary();
    }
    e = postfix(std::move(e));
    return filters ? filters_and_tests(std::move(e)) : std::move(e);
}

ExpressionPtr Parser::primary() {
    const Token& t = token();
    ExpressionPtr e = make(Type::constant);
    switch (t.type) {
        case Token::Type::name: {
            ++at_;
            const std::string& w = t.text;
            if (w == "true" || w == "True" || w == "false" || w == "False") {
                e->value = Value(w[0] == 't' || w[0] == 'T');
            } else if (w == "none" || w == "None") {
                e->value = Value(None{});
            } else {
                e->type = Type::name;
                e->text = w;
                if (w == "varargs" || w == "kwargs" || w == "caller") macro_words_.insert(w);
            }
            return e;
        }
        case Token::Type::string: {
            std::string joined;
            while (token().type == Token::Type::string) joined += tokens_[at_++].text;
            e->value = text(joined);
            return e;
        }
        case Token::Type::integer:
            ++at_;
            e->value = Value(t.integer);
            return e;
        case Token::Type::real:
            ++at_;
            e->value = Value(t.real);
            return e;
        default:
            break;
    }
    if (take_op("(")) {
        e = tuple(true, true);
        expect_op(")");
        return e;
    }
    if (is_op("[")) return list();
    if (is_op("{")) return dict();
    fail("an expression");
}

bool Parser::ends_tuple(std::string_view end_word) const noexcept {
    return token().type == Token::Type::block_end || token().type == Token::Type::variable_end ||
           is_op(")") || (!end_word.empty() && is_word(end_word));
}

ExpressionPtr Parser::tuple(bool conditional, bool parentheses, std::string_view end_word) {
    ExpressionPtr e = make(Type::tuple);
    bool several = false;
    while (!ends_tuple(end_word)) {
        e->children.push_back(expression(conditional));
        if (!take_op(",")) break;
        several = true;
    }
    if (!several && e->children.size() == 1) return std::move(e->children.front());
    if (e->children.empty() && !parentheses) fail("an expression");
    measure(*e);
    return e;
}

ExpressionPtr Parser::list() {
    ExpressionPtr e = make(Type::list);
    expect_op("[");
    while (!is_op("]")) {
        if (!e->children.empty()) expect_op(",");
        if (is_op("]")) break;
        e->children.push_back(expression());
    }
    expect_op("]");
    measure(*e);
    return e;
}

ExpressionPtr Parser::dict() {
    ExpressionPtr e = make(Type::dict);
    expect_op("{");
    while (!is_op("}")) {
        if (!e->children.empty()) expect_op(",");
        if (is_op("}")) break;
        e->children.push_back(expression());
        expect_op(":");
        e->children.push_back(expression());
    }
    expect_op("}");
    measure(*e);
    return e;
}

ExpressionPtr Parser::postfix(ExpressionPtr of) {
    for (;;) {
        if (is_op(".") || is_op("[")) {
            of = subscript(std::move(of));
        } else if (is_op("(")) {
            of = call(std::move(of));
        } else {
            return of;
        }
    }
}

ExpressionPtr Parser::filters_and_tests(ExpressionPtr of) {
    for (;;) {
        if (is_op("|")) {
            ++at_;
            of = filter(std::move(of));
        } else if (take_word("is")) {
            of = test(std::move(of));
        } else if (is_op("(")) {
            of = call(std::move(of));
        } else {
            return of;
        }
    }
}

ExpressionPtr Parser::subscript(ExpressionPtr of) {
    if (take_op("[")) {
        ExpressionPtr e = slice_or_key(std::move(of));
        expect_op("]");
        return e;
    }
    expect_op(".");
    if (token().type == Token::Type::integer) {
        ExpressionPtr key = make(Type::constant);
        key->value = Value(tokens_[at_++].integer);
        return make(Type::item, "", std::move(of), std::move(key));
    }
    return make(Type::attribute, expect_name(), std::move(of));
}

ExpressionPtr Parser::slice_or_key(ExpressionPtr of) {
    ExpressionPtr first = is_op(":") ? nullptr : expression();
    if (!is_op(":")) {
        if (is_op(",")) fail("`]`: a key is one value");
        return make(Type::item, "", std::move(of), std::move(first));
    }
    ExpressionPtr e = make(Type::slice, "", std::move(of));
    e->children.push_back(std::move(first));
    for (int i = 0; i < 2; ++i) {
        const bool value = (i == 0 || is_op(":")) && take_op(":") && !is_op(":") && !is_op("]");
        e->children.push_back(value ? expression() : nullptr);
    }
    measure(*e);
    return e;
}

void Parser::arguments(Expression& into) {
    expect_op("(");
    for (bool first = true; !is_op(")"); first = false) {
        if (!first) expect_op(",");
        if (is_op(")")) break;
        if (take_op("*")) {
            if (into.more_values || into.more_named) fail("one list of more arguments");
            into.more_values = expression();
        } else if (take_op("**")) {
            if (into.more_named) fail("one dictionary of more arguments");
            into.more_named = expression();
        } else if (token().type == Token::Type::name && ahead().type == Token::Type::op &&
                   ahead().text == "=") {
            if (into.more_named) fail("no argument after `**`");
            std::string name = tokens_[at_].text;
            at_ += 2;
            into.named.emplace_back(std::move(name), expression());
        } else {
            if (into.more_values || into.more_named || !into.named.empty())
                fail("a named argument: unnamed ones come first");
            into.children.push_back(expression());
        }
    }
    expect_op(")");
    measure(into);
}

ExpressionPtr Parser::call(ExpressionPtr of) {
    ExpressionPtr e = make(Type::call, "", std::move(of));
    arguments(*e);
    return e;
}

ExpressionPtr Parser::filter(ExpressionPtr of) {
    ExpressionPtr e = make(Type::filter, "", std::move(of));
    e->line = token().line;
    e->text = expect_name();
    if (is_op("(")) arguments(*e);
    return e;
}

/// Filters of a block: `upper | trim`; the innermost value is null.
ExpressionPtr Parser::filter_chain() {
    ExpressionPtr e = filter(nullptr);
    while (take_op("|")) e = filter(std::move(e));
    return e;
}

ExpressionPtr Parser::test(ExpressionPtr of) {
    const bool inverted = take_word("not");
    ExpressionPtr e = make(Type::test, "", std::move(of));
    e->line = token().line;
    e->text = expect_name();
    const Token::Type next = token().type;
    const bool bracket = is_op("[") || is_op("{");
    const bool value = next == Token::Type::name || next == Token::Type::string ||
                       next == Token::Type::integer || next == Token::Type::real || bracket;
    if (is_op("(")) {
        arguments(*e);
    } else if (value && !is_word("else") && !is_word("or") && !is_word("and")) {
        if (is_word("is")) fail("no second `is`: tests do not chain");
        e->children.push_back(postfix(primary()));
        measure(*e);
    }
    return inverted ? make(Type::invert, "", std::move(e)) : std::move(e);
}

}  // namespace muster::jinja
