// SPDX-License-Identifier: Apache-2.0
// `"%5.2f" % x` and "{:>8}".format(x), as in Python (printf-style formatting; format specification
// mini-language), without nested fields.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "muster/tokenizer/jinja_interpreter.h"
#include "muster/tokenizer/jinja_text.h"

namespace muster::jinja {
namespace {

using Kind = Value::Kind;
constexpr int64_t kMaxWidth = 10'000;
constexpr size_t kMaxBytes = size_t{64} << 20;

/// How one value is to be written.
struct Spec {
    std::string fill = " ";
    char align = '\0';  ///< < > ^ =
    char sign = '-';    ///< - + or blank
    bool alternate = false;
    bool grouped = false;
    int64_t width = 0;
    int64_t precision = -1;
    char type = '\0';
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

int64_t read_number(std::string_view s, size_t& i) {
    int64_t n = 0;
    for (; i < s.size() && is_digit(s[i]); ++i) {
        n = n * 10 + (s[i] - '0');
        if (n > kMaxWidth) throw Fault("a format's width is too large, expected at most 10000");
    }
    return n;
}

std::string padded(const std::string& sign, const std::string& body, const Spec& spec, char align) {
    const int64_t missing = spec.width - count_characters(sign) - count_characters(body);
    if (spec.align != '\0') align = spec.align;
    std::string pad;
    const auto fill = [&](int64_t n) {
        std::string out;
        for (int64_t i = 0; i < n; ++i) out += spec.fill;
        return out;
    };
    if (missing <= 0) return sign + body;
    if (align == '=') return sign + fill(missing) + body;
    if (align == '<') return sign + body + fill(missing);
    if (align == '^') return fill(missing / 2) + sign + body + fill(missing - missing / 2);
    return fill(missing) + sign + body;
}

std::string grouped(std::string digits) {
    const size_t end = std::min(digits.find_first_not_of("0123456789"), digits.size());
    for (size_t i = end; i > 3;) {
        i -= 3;
        digits.insert(i, ",");
    }
    return digits;
}

std::string sign_of(bool negative, const Spec& spec) {
    if (negative) return "-";
    return spec.sign == '-' ? "" : std::string(1, spec.sign);
}

std::string unsigned_digits(uint64_t n, char type) {
    const int base = type == 'b' ? 2 : type == 'o' ? 8 : (type | 0x20) == 'x' ? 16 : 10;
    std::string out;
    do {
        out += (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[n % base];
        n /= static_cast<uint64_t>(base);
    } while (n > 0);
    std::reverse(out.begin(), out.end());
    return out;
}

std::string format_whole(int64_t n, const Spec& spec) {
    const uint64_t magnitude = n < 0 ? 0 - static_cast<uint64_t>(n) : static_cast<uint64_t>(n);
    std::string digits = unsigned_digits(magnitude, spec.type);
    if (static_cast<int64_t>(digits.size()) < spec.precision)
        digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
    if (spec.grouped) digits = grouped(std::move(digits));
    std::string sign = sign_of(n < 0, spec);
    static constexpr std::string_view kBased = "xXob";
    if (spec.alternate && kBased.find(spec.type) != kBased.npos)
        sign += std::string("0") + spec.type;
    return padded(sign, digits, spec, '>');
}

std::string format_real(Heap& heap, double d, const Spec& spec) {
    std::string digits;
    const double magnitude = std::fabs(d);
    const bool percent = spec.type == '%';
    if (spec.type == '\0' && spec.precision < 0) {
        digits = float_text(magnitude);
    } else {
        const char type = percent ? 'f' : spec.type == '\0' ? 'g' : spec.type;
        const char format[] = {'%', '.', '*', type, '\0'};
        const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
        std::string buffer(static_cast<size_t>(precision) + 400, '\0');
        // glibc takes many microseconds for 300 digits.
        heap.charge(static_cast<int64_t>(buffer.size()));
        const int n = std::snprintf(buffer.data(), buffer.size(), format, precision,
                                    percent ? magnitude * 100 : magnitude);
        digits = buffer.substr(0, static_cast<size_t>(std::max(n, 0)));
        const bool whole = digits.find_first_not_of("0123456789") == digits.npos;
        if (spec.type == '\0' && whole) digits += ".0";
        if (percent) digits += '%';
    }
    if (spec.grouped) digits = grouped(std::move(digits));
    return padded(sign_of(std::signbit(d) && !std::isnan(d), spec), digits, spec, '>');
}

std::string format_text(const std::string& s, const Spec& spec, char align) {
    std::string body = s;
    if (spec.precision >= 0 && spec.precision < count_characters(s))
        body = s.substr(0, character_offset(s, spec.precision));
    return padded("", body, spec, align);
}

bool is_real_type(char type) {
    static constexpr std::string_view kTypes = "eEfFgG%";
    return type != '\0' && kTypes.find(type) != kTypes.npos;
}

// --- % ---------------------------------------------------------------------------------------

class Percent {
  public:
    Percent(Heap& heap, const std::string& format, const Value& values)
        : heap_(heap), format_(format), values_(values) {
        several_ = values.is(Kind::list) && values.list().type == List::Type::tuple;
    }

    std::string run() {
        while (at_ < format_.size()) {
            if (out_.size() > kMaxBytes) throw Fault("a formatted string is too long");
            const char c = format_[at_++];
            if (c == '%') {
                directive();
            } else {
                out_ += c;
            }
        }
        if (several_ && next_ < values_.list().items.size())
            throw Fault("a format has fewer places than values");
        if (!several_ && !by_name_ && next_ == 0 && !values_.is(Kind::dict))
            throw Fault("a format has fewer places than values");
        return std::move(out_);
    }

  private:
    char peek() const {
        if (at_ >= format_.size()) throw Fault("a format ends after %");
        return format_[at_];
    }

    Value take() {
        if (several_) {
            if (next_ >= values_.list().items.size())
                throw Fault("a format has more places than values");
            return values_.list().items[next_++];
        }
        if (next_++ > 0) throw Fault("a format has more places than values");
        return values_;
    }

    int64_t number() {
        if (peek() == '*') {
            ++at_;
            const Value v = take();
            if (!v.is_whole() || std::llabs(v.whole()) > kMaxWidth)
                throw Fault("a format's width is no whole number up to 10000");
            return v.whole();
        }
        return read_number(format_, at_);
    }

    void directive() {
        heap_.charge(4);
        Spec spec;
        Value value;
        bool named = false;
        if (peek() == '(') {
            const size_t end = format_.find(')', at_);
            if (end == format_.npos || !values_.is(Kind::dict))
                throw Fault("a format with names needs a dictionary");
            const Value* found = values_.dict().find(
                heap_, std::string_view(format_).substr(at_ + 1, end - at_ - 1));
            if (found == nullptr) throw Fault("a format names a key that is not there");
            value = *found;
            named = by_name_ = true;
            at_ = end + 1;
        }
        flags(spec);
        const char type = format_[at_++];
        if (type == '%') {
            out_ += '%';
            return;
        }
        convert(named ? value : take(), type, spec);
    }

    void flags(Spec& spec) {
        bool left = false;
        for (;; ++at_) {
            const char c = peek();
            if (c == '-') {
                left = true;
            } else if (c == '+' || (c == ' ' && spec.sign == '-')) {
                spec.sign = c;
            } else if (c == '0') {
                spec.fill = "0";
                spec.align = '=';
            } else if (c == '#') {
                spec.alternate = true;
            } else if (c != ' ') {
                break;
            }
        }
        spec.width = number();
        if (spec.width < 0) {
            left = true;
            spec.width = -spec.width;
        }
        if (left) {
            spec.fill = " ";
            spec.align = '<';
        }
        if (peek() == '.') {
            ++at_;
            spec.precision = std::max<int64_t>(number(), 0);
        }
        while (peek() == 'l' || peek() == 'h' || peek() == 'L') ++at_;
        static_cast<void>(peek());
    }

    void convert(const Value& value, char type, Spec spec) {
        if (type == 's' || type == 'r' || type == 'a') {
            if (spec.align == '=') spec.align = '>', spec.fill = " ";
            out_ += format_text(type == 's' ? to_text(heap_, value) : representation(heap_, value),
                                spec, '>');
            return;
        }
        if (value.undefined()) fail_undefined(value);
        if (!value.is_number())
            throw Fault(std::string("%") + type + " got a " + type_name(value) +
                        ", expected a number");
        spec.type = type;
        static constexpr std::string_view kWhole = "diuxXo";
        if (kWhole.find(type) != kWhole.npos) {
            const double d = value.real();
            if (!(d > -9.2e18 && d < 9.2e18)) throw Fault("a number does not fit 64 bits");
            if (type == 'd' || type == 'i' || type == 'u') spec.type = '\0';
            out_ += format_whole(value.is_whole() ? value.whole() : static_cast<int64_t>(d), spec);
        } else if (is_real_type(type)) {
            out_ += format_real(heap_, value.real(), spec);
        } else {
            throw Fault(std::string("a format has an unknown type %") + type);
        }
    }

    Heap& heap_;
    const std::string& format_;
    const Value& values_;
    bool several_ = false, by_name_ = false;
    size_t at_ = 0, next_ = 0;
    std::string out_;
};

// --- {} --------------------------------------------------------------------------------------

Spec read_spec(std::string_view s) {
    Spec spec;
    static constexpr std::string_view kAligns = "<>^=";
    size_t i = 0;
    const auto is_align = [&](size_t at) { return at < s.size() && kAligns.find(s[at]) != s.npos; };
    if (!s.empty()) {
        const size_t first = character_offset(s, 1);
        if (is_align(first)) {
            spec.fill = std::string(s.substr(0, first));
            spec.align = s[first];
            i = first + 1;
        } else if (is_align(0)) {
            spec.align = s[0];
            i = 1;
        }
    }
    if (i < s.size() && (s[i] == '+' || s[i] == '-' || s[i] == ' ')) spec.sign = s[i++];
    if (i < s.size() && s[i] == '#') spec.alternate = true, ++i;
    if (i < s.size() && s[i] == '0') {
        if (spec.align == '\0') spec.align = '=', spec.fill = "0";
        ++i;
    }
    spec.width = read_number(s, i);
    if (i < s.size() && s[i] == ',') spec.grouped = true, ++i;
    if (i < s.size() && s[i] == '.') spec.precision = read_number(s, ++i);
    if (i < s.size()) spec.type = s[i++];
    if (i < s.size()) throw Fault("a format specification cannot be read");
    return spec;
}

std::string format_value(Heap& heap, const Value& value, std::string_view text) {
    if (text.empty()) return to_text(heap, value);
    if (value.undefined()) fail_undefined(value);
    Spec spec = read_spec(text);
    const bool whole_type =
        spec.type == '\0' || std::string_view("dxXobn").find(spec.type) != std::string_view::npos;
    if (value.is_string() && (spec.type == 's' || spec.type == '\0')) {
        if (spec.align == '=' && spec.fill == "0") spec.align = '<';
        heap.charge_string(value);
        if (spec.align != '=') return format_text(value.string(), spec, '<');
    } else if (value.is_whole() && whole_type && spec.precision < 0) {
        if (spec.type == 'd' || spec.type == 'n') spec.type = '\0';
        return format_whole(value.whole(), spec);
    } else if (value.is_number() &&
               (is_real_type(spec.type) || (value.is(Kind::real) && spec.type == '\0'))) {
        return format_real(heap, value.real(), spec);
    }
    throw Fault("a format specification does not suit a " + type_name(value));
}

class Braces {
  public:
    Braces(Interpreter& in, const std::string& format, const Arguments& arguments)
        : in_(in), format_(format), arguments_(arguments) {}

    std::string run() {
        while (at_ < format_.size()) {
            if (out_.size() > kMaxBytes) throw Fault("a formatted string is too long");
            const char c = format_[at_++];
            const bool twice = at_ < format_.size() && format_[at_] == c;
            if ((c == '{' || c == '}') && twice) {
                out_ += c;
                ++at_;
            } else if (c == '{') {
                field();
            } else if (c == '}') {
                throw Fault("a format has a lone }");
            } else {
                out_ += c;
            }
        }
        return std::move(out_);
    }

  private:
    void field() {
        const size_t end = format_.find('}', at_);
        if (end == format_.npos) throw Fault("a format has a { without its }");
        std::string_view inside = std::string_view(format_).substr(at_, end - at_);
        if (inside.find('{') != inside.npos) throw Fault("a format has nested fields");
        at_ = end + 1;
        std::string_view spec;
        if (const size_t colon = inside.find(':'); colon != inside.npos) {
            spec = inside.substr(colon + 1);
            inside = inside.substr(0, colon);
        }
        char conversion = '\0';
        if (inside.size() >= 2 && inside[inside.size() - 2] == '!') {
            conversion = inside.back();
            inside.remove_suffix(2);
        }
        Value value = look_up(inside);
        if (conversion == 'r' || conversion == 'a')
            value = in_.heap().string(representation(in_.heap(), value));
        if (conversion == 's') value = in_.heap().string(to_text(in_.heap(), value));
        in_.heap().charge(4);
        out_ += format_value(in_.heap(), value, spec);
    }

    Value look_up(std::string_view path) {
        const size_t name_end = std::min(path.find_first_of(".["), path.size());
        Value value = first(path.substr(0, name_end));
        for (size_t i = name_end; i < path.size();) {
            const bool key = path[i] == '[';
            const size_t end = key ? path.find(']', i) : path.find_first_of(".[", i + 1);
            if (key && end == path.npos) throw Fault("a format has a [ without its ]");
            const std::string_view name = path.substr(i + 1, std::min(end, path.size()) - i - 1);
            const bool digits = !name.empty() && name.size() < 10 &&
                                std::all_of(name.begin(), name.end(), is_digit);
            value = digits && key ? in_.item(value, Value(int64_t{std::stol(std::string(name))}))
                                  : in_.item(value, text(name));
            i = end == path.npos ? path.size() : end + (key ? 1 : 0);
        }
        return value;
    }

    Value first(std::string_view name) {
        const bool digits = std::all_of(name.begin(), name.end(), is_digit);
        if (digits) {
            if (name.size() > 6) throw Fault("a format's number is too large");
            const size_t i = name.empty() ? next_++ : std::stoul(std::string(name));
            if (i >= arguments_.values.size()) throw Fault("a format has more places than values");
            return arguments_.values[i];
        }
        in_.heap().charge_search(arguments_.named.size());
        for (const auto& [given, value] : arguments_.named)
            if (equal(in_.heap(), given, name)) return value;
        throw Fault("a format names '" + std::string(name.substr(0, 100)) +
                    "', which is not given");
    }

    Interpreter& in_;
    const std::string& format_;
    const Arguments& arguments_;
    size_t at_ = 0, next_ = 0;
    std::string out_;
};

}  // namespace

std::string format_percent(Heap& heap, const std::string& format, const Value& values) {
    heap.charge_bytes(format.size());
    return Percent(heap, format, values).run();
}

std::string format_braces(Interpreter& interpreter, const std::string& format,
                          const Arguments& arguments) {
    return Braces(interpreter, format, arguments).run();
}

}  // namespace muster::jinja
