// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "muster/tokenizer/jinja_ast.h"
#include "muster/tokenizer/jinja_lexer.h"

namespace muster::jinja {

/// Jinja2 3.1's grammar with loop controls and `generation` blocks; without `extends`, `block`,
/// `include`, `import`, which need other templates. Nesting of expressions and of blocks is
/// bounded.
class Parser {
  public:
    /// Throws muster::Error naming the line.
    static Block parse(std::string_view text);

  private:
    /// Counts what is nested for as long as it lives. Throws muster::Error.
    class Nesting {
      public:
        explicit Nesting(Parser& parser);
        ~Nesting() { --depth_; }
        Nesting(const Nesting&) = delete;
        Nesting& operator=(const Nesting&) = delete;

      private:
        int& depth_;
    };

    explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

    // Tokens.
    const Token& token() const noexcept { return tokens_[at_]; }
    const Token& ahead() const noexcept {
        return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_];
    }
    bool is_op(std::string_view text) const noexcept;
    bool is_word(std::string_view text) const noexcept;
    bool take_op(std::string_view text);
    bool take_word(std::string_view text);
    void expect_op(std::string_view text);
    void expect_word(std::string_view text);
    std::string expect_name();
    void expect_block_end();
    [[noreturn]] void fail(const std::string& expected) const;

    // Statements (jinja_parser_statements.cpp).
    Block block(std::initializer_list<std::string_view> ends);
    void statement(Block& out, const std::string& word);
    Statement for_statement();
    Statement if_statement();
    Statement set_statement();
    Statement macro_statement();
    Statement call_statement();
    Statement filter_statement();
    Statement with_statement();
    Statement leave_statement(const std::string& word);
    Target target(bool with_attribute);
    Target one_target(bool with_attribute);
    std::vector<Parameter> parameters();
    Statement start(Statement::Type type);

    // Expressions, the loosest first.
    ExpressionPtr expression(bool conditional = true);
    ExpressionPtr either();
    ExpressionPtr both();
    ExpressionPtr inverted();
    ExpressionPtr comparison();
    ExpressionPtr sum();
    ExpressionPtr concatenation();
    ExpressionPtr product();
    ExpressionPtr power();
    ExpressionPtr unary(bool filters = true);
    ExpressionPtr primary();
    ExpressionPtr postfix(ExpressionPtr of);
    ExpressionPtr filters_and_tests(ExpressionPtr of);
    ExpressionPtr tuple(bool conditional, bool parentheses, std::string_view end_word = "");
    ExpressionPtr list();
    ExpressionPtr dict();
    ExpressionPtr subscript(ExpressionPtr of);
    ExpressionPtr slice_or_key(ExpressionPtr of);
    ExpressionPtr call(ExpressionPtr of);
    ExpressionPtr filter(ExpressionPtr of);
    ExpressionPtr filter_chain();
    ExpressionPtr test(ExpressionPtr of);
    void arguments(Expression& into);
    bool ends_tuple(std::string_view end_word) const noexcept;

    ExpressionPtr make(Expression::Type type, std::string text = "") const;
    ExpressionPtr make(Expression::Type type, std::string text, ExpressionPtr a,
                       ExpressionPtr b = nullptr) const;
    void measure(Expression& e) const;

    std::vector<Token> tokens_;
    size_t at_ = 0;
    int depth_ = 0;                      ///< of expressions and blocks that are being read
    int loops_ = 0;                      ///< around the statement that is being read
    std::set<std::string> macro_words_;  ///< varargs, kwargs, caller in the macro being read
};

}  // namespace muster::jinja
