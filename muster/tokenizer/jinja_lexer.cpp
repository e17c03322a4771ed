// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/jinja_lexer.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "muster/core/error.h"
#include "muster/tokenizer/jinja_text.h"
#include "muster/tokenizer/utf8.h"

namespace muster::jinja {
namespace {

using Type = Token::Type;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool begins_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           static_cast<uint8_t>(c) >= 0x80;
}
bool in_name(char c) { return begins_name(c) || is_digit(c); }

/// \r\n and \r become \n; one at the end vanishes.
std::string normalized(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\r') {
            out += '\n';
            if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
        } else {
            out += text[i];
        }
    }
    if (out.ends_with('\n')) out.pop_back();
    return out;
}

class Lexer {
  public:
    explicit Lexer(std::string_view text) : text_(text) {}

    std::vector<Token> run() {
        while (at_ < text_.size()) {
            const size_t tag = find_tag();
            const bool comment = tag < text_.size() && text_[tag + 1] == '#';
            const bool variable = tag < text_.size() && text_[tag + 1] == '{';
            data(tag, variable);
            if (tag >= text_.size()) break;
            if (comment) {
                skip_comment();
            } else if (!variable && raw_begin()) {
                raw_body();
            } else {
                enclosed(variable);
            }
        }
        push(Type::end);
        return std::move(tokens_);
    }

  private:
    void push(Type type, std::string text = "") {
        Token token;
        token.type = type;
        token.text = std::move(text);
        token.line = line_;
        tokens_.push_back(std::move(token));
    }

    size_t find_tag() const {
        for (size_t i = at_; i + 1 < text_.size(); ++i) {
            const char c = text_[i + 1];
            if (text_[i] == '{' && (c == '{' || c == '%' || c == '#')) return i;
        }
        return text_.size();
    }

    /// Goes on to `to`, counting lines.
    void advance(size_t to) {
        line_ += static_cast<int>(std::count(text_.begin() + static_cast<ptrdiff_t>(at_),
                                             text_.begin() + static_cast<ptrdiff_t>(to), '\n'));
        at_ = to;
    }

    /// Text up to `tag`, whose two bytes may be followed by - or +; goes on behind these. Blanks
    /// stay before a variable.
    void data(size_t tag, bool variable) {
        std::string_view part = text_.substr(at_, tag - at_);
        const size_t after = tag + 2;
        const char sign = after < text_.size() ? text_[after] : '\0';
        if (tag < text_.size() && sign == '-') {
            part = strip(part, Side::right);
        } else if (tag < text_.size() && sign != '+' && !variable) {
            const size_t line_feed = part.rfind('\n');
            const size_t line_begin = line_feed == part.npos ? 0 : line_feed + 1;
            const bool from_line_begin = line_begin > 0 || line_starting_;
            if (from_line_begin && strip(part.substr(line_begin)).empty())
                part = part.substr(0, line_begin);
        }
        if (!part.empty()) push(Type::data, std::string(part));
        if (tag >= text_.size()) return advance(tag);
        advance(after + (sign == '-' || sign == '+' ? 1 : 0));
        line_starting_ = false;
    }

    void skip_spaces() {
        const std::string_view rest = text_.substr(at_);
        advance(at_ + rest.size() - strip(rest, Side::left).size());
    }

    /// Behind a closing mark; `sign` - takes all white space, + nothing, else one line feed.
    void close(size_t behind, char sign, bool variable = false) {
        advance(behind);
        line_starting_ = false;
        if (sign == '-') {
            const size_t before = at_;
            skip_spaces();
            line_starting_ = at_ > before && text_[at_ - 1] == '\n';
        } else if (sign != '+' && !variable && at_ < text_.size() && text_[at_] == '\n') {
            advance(at_ + 1);
            line_starting_ = true;
        }
    }

    void skip_comment() {
        // `{#-#}`: the sign may belong to either mark.
        const size_t end = text_.find("#}", at_);
        if (end == text_.npos) fail_at(line_, "a comment has no end, expected #}");
        const char sign = end > at_ ? text_[end - 1] : '\0';
        close(end + 2, sign);
    }

    /// The position behind `word` and white space around it, or npos.
    size_t match_word(size_t from, std::string_view word) const {
        const std::string_view left = strip(text_.substr(from), Side::left);
        if (!left.starts_with(word)) return text_.npos;
        return text_.size() - strip(left.substr(word.size()), Side::left).size();
    }

    bool raw_begin() {
        size_t i = match_word(at_, "raw");
        if (i == text_.npos) return false;
        const char sign = text_.substr(i).starts_with("-%}") ? '-' : '\0';
        if (sign == '-') ++i;
        if (!text_.substr(i).starts_with("%}")) return false;
        close(i + 2, sign, true);
        return true;
    }

    void raw_body() {
        for (size_t tag = text_.find("{%", at_); tag != text_.npos;
             tag = text_.find("{%", tag + 1)) {
            const size_t inner = tag + 2 < text_.size() ? tag + 2 : tag;
            const bool sign = text_[inner] == '-' || text_[inner] == '+';
            size_t i = match_word(tag + 2 + (sign ? 1 : 0), "endraw");
            if (i == text_.npos) continue;
            const char end_sign = i < text_.size() ? text_[i] : '\0';
            if (end_sign == '-' || end_sign == '+') ++i;
            if (!text_.substr(i).starts_with("%}")) continue;
            data(tag, false);
            return close(i + 2, end_sign);
        }
        fail_at(line_, "a raw block has no end, expected {% endraw %}");
    }

    /// The tokens between a tag's marks.
    void enclosed(bool variable) {
        push(variable ? Type::variable_begin : Type::block_begin);
        const std::string_view mark = variable ? "}}" : "%}";
        std::string brackets;
        for (;;) {
            skip_spaces();
            const std::string_view rest = text_.substr(at_);
            if (rest.empty()) fail_at(line_, "a tag has no end, expected " + std::string(mark));
            if (brackets.empty()) {
                const char sign = rest[0] == '-' || (rest[0] == '+' && !variable) ? rest[0] : '\0';
                if (rest.substr(sign != '\0' ? 1 : 0).starts_with(mark)) {
                    push(variable ? Type::variable_end : Type::block_end);
                    return close(at_ + (sign != '\0' ? 3 : 2), sign, variable);
                }
            }
            token(rest, brackets);
        }
    }

    void token(std::string_view rest, std::string& brackets) {
        const char c = rest[0];
        if (is_digit(c)) return number(rest);
        if (begins_name(c)) {
            size_t n = 1;
            while (n < rest.size() && in_name(rest[n])) ++n;
            push(Type::name, std::string(rest.substr(0, n)));
            return advance(at_ + n);
        }
        if (c == '"' || c == '\'') return string(rest);
        static constexpr std::array<std::string_view, 7> kLong{
            "**", "//", "==", "!=", ">=", "<=", ""};
        for (const std::string_view op : kLong) {
            if (op.empty() || !rest.starts_with(op)) continue;
            push(Type::op, std::string(op));
            return advance(at_ + 2);
        }
        if (std::string_view("+-*/%~[](){}<>=.:|,;").find(c) == std::string_view::npos)
            fail_at(line_, "there is a character that no expression has: " + std::string(1, c));
        if (c == '(' || c == '[' || c == '{') brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
        if (c == ')' || c == ']' || c == '}') {
            if (brackets.empty() || brackets.back() != c)
                fail_at(line_, "there is a " + std::string(1, c) + " that closes nothing");
            brackets.pop_back();
        }
        push(Type::op, std::string(1, c));
        advance(at_ + 1);
    }

    void number(std::string_view rest) {
        const auto digits = [&](size_t i) {
            while (i < rest.size() &&
                   (is_digit(rest[i]) ||
                    (rest[i] == '_' && i + 1 < rest.size() && is_digit(rest[i + 1]))))
                ++i;
            return i;
        };
        static constexpr std::string_view kBases = "bBoOxX";
        if (rest[0] == '0' && rest.size() > 2 && kBases.find(rest[1]) != kBases.npos)
            return based_number(rest);
        size_t n = digits(0);
        bool real = false;
        // `1.real` is an attribute of 1, and `x.1.2` has two of them.
        const bool after_dot =
            !tokens_.empty() && tokens_.back().type == Type::op && tokens_.back().text == ".";
        if (!after_dot && n + 1 < rest.size() && rest[n] == '.' && is_digit(rest[n + 1])) {
            n = digits(n + 1);
            real = true;
        }
        if (!after_dot && n < rest.size() && (rest[n] == 'e' || rest[n] == 'E')) {
            size_t i = n + 1;
            if (i < rest.size() && (rest[i] == '+' || rest[i] == '-')) ++i;
            if (i < rest.size() && is_digit(rest[i])) {
                n = digits(i);
                real = true;
            }
        }
        finish_number(n, 10, rest.substr(0, n), real);
    }

    void based_number(std::string_view rest) {
        const char letter = static_cast<char>(rest[1] | 0x20);
        size_t n = 2;
        while (n < rest.size() && (in_name(rest[n]))) ++n;
        finish_number(n, letter == 'b' ? 2 : letter == 'o' ? 8 : 16, rest.substr(2, n - 2), false);
    }

    void finish_number(size_t size, int base, std::string_view written, bool real) {
        std::string plain(written);
        std::erase(plain, '_');
        push(real ? Type::real : Type::integer, plain);
        Token& token = tokens_.back();
        const char* end = plain.data() + plain.size();
        const auto [stop, error] = real ? std::from_chars(plain.data(), end, token.real)
                                        : std::from_chars(plain.data(), end, token.integer, base);
        if (error != std::errc() || stop != end)
            fail_at(line_, "the number " + plain.substr(0, 40) +
                               " cannot be read, expected one of 64 bits");
        advance(at_ + size);
    }

    void string(std::string_view rest) {
        const char mark = rest[0];
        size_t i = 1;
        while (i < rest.size() && rest[i] != mark) i += rest[i] == '\\' ? 2 : 1;
        if (i >= rest.size()) fail_at(line_, "a string has no end");
        push(Type::string, unescaped(rest.substr(1, i - 1)));
        advance(at_ + i + 1);
    }

    /// Python's unicode-escape.
    std::string unescaped(std::string_view s) const {
        std::string out;
        for (size_t i = 0; i < s.size();) {
            if (s[i] != '\\' || i + 1 >= s.size()) {
                out += s[i++];
                continue;
            }
            const char c = s[i + 1];
            i += 2;
            static constexpr std::string_view kFrom = "\n\\'\"abfnrtv";
            static constexpr std::string_view kTo("\0\\'\"\a\b\f\n\r\t\v", 11);
            const size_t simple = kFrom.find(c);
            if (c >= '0' && c <= '7') {
                uint32_t code = 0;
                size_t n = i - 1;
                for (; n < s.size() && n < i + 2 && s[n] >= '0' && s[n] <= '7'; ++n)
                    code = code * 8 + static_cast<uint32_t>(s[n] - '0');
                i = n;
                append_utf8(code, out);
            } else if (c == 'x' || c == 'u' || c == 'U') {
                i += hexadecimal(s.substr(i), c == 'x' ? 2 : c == 'u' ? 4 : 8, out);
            } else if (c == '\n') {
                continue;  // a line goes on
            } else if (simple != kFrom.npos) {
                out += kTo[simple];
            } else {
                out += '\\';
                out += c;
            }
        }
        return to_valid_utf8(out);
    }

    size_t hexadecimal(std::string_view digits, size_t count, std::string& out) const {
        uint32_t code = 0;
        const char* end = digits.data() + std::min(count, digits.size());
        const auto [stop, error] = std::from_chars(digits.data(), end, code, 16);
        if (error != std::errc() || stop != digits.data() + count || code > 0x10FFFF)
            fail_at(line_, "a string has an escape that cannot be read");
        append_utf8(code >= 0xD800 && code < 0xE000 ? 0xFFFD : code, out);
        return count;
    }

    std::string_view text_;
    size_t at_ = 0;
    int line_ = 1;
    bool line_starting_ = true;
    std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view text) {
    const std::string clean = normalized(text);
    return Lexer(clean).run();
}

void fail_at(int line, const std::string& what) {
    throw Error("chat template", "line " + std::to_string(line) + ": " + what);
}

}  // namespace muster::jinja
