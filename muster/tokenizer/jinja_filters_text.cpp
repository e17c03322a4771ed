// SPDX-License-Identifier: Apache-2.0
// Filters of strings and numbers, as in Jinja2 3.1; `safe` and `escape` give plain strings, since
// nothing is escaped by itself here; `tojson` is Hugging Face's.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "muster/tokenizer/jinja_interpreter.h"
#include "muster/tokenizer/jinja_text.h"
#include "muster/tokenizer/utf8.h"

namespace muster::jinja {
namespace {

using Kind = Value::Kind;
constexpr int64_t kMaxWidth = 1'000'000;

template <std::string (*f)(std::string_view)>
Value map_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("the filter", a, {});
    return in.heap().string(f(to_text(in.heap(), value)));
}

Value string_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("string", a, {});
    return value.is_string() ? value : in.heap().string(to_text(in.heap(), value));
}

Value trim_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("trim", a, {"chars"});
    const std::string s = to_text(in.heap(), value);
    if (!bound.given(0) || bound[0]->none()) return in.heap().string(std::string(strip(s)));
    const std::string_view characters = bound.string(0, {});
    in.heap().charge_bytes(s.size() * (1 + characters.size() / 16));
    return in.heap().string(std::string(strip(s, Side::both, &characters)));
}

Value replace_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("replace", a, {"old", "new", "count"}, 2);
    const std::string s = to_text(in.heap(), value);
    const int64_t most = bound.given(2) && bound[2]->none() ? -1 : bound.whole(2, -1);
    return in.heap().string(
        replace(in.heap(), s, to_text(in.heap(), *bound[0]), to_text(in.heap(), *bound[1]), most));
}

Value escape_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("escape", a, {});
    std::string out;
    for (const char c : to_text(in.heap(), value)) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '\'':
                out += "&#39;";
                break;
            case '"':
                out += "&#34;";
                break;
            default:
                out += c;
        }
    }
    return in.heap().string(std::move(out));
}

Value indent_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("indent", a, {"width", "first", "blank"});
    std::string pad;
    if (bound.given(0) && bound[0]->is_string()) {
        pad = bound.string(0, {});
    } else {
        const int64_t width = bound.whole(0, 4);
        if (width > kMaxWidth) throw Fault("indent(): the width is too large");
        pad.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    }
    if (value.undefined()) fail_undefined(value);
    if (!value.is_string()) throw Fault("indent() needs a string, not a " + type_name(value));
    const bool blank = bound.flag(2, false);
    const std::string ended = value.string() + "\n";
    const std::vector<std::string_view> lines = split_lines(in.heap(), ended);
    in.heap().charge_bytes(ended.size() + lines.size() * pad.size());
    std::string out = bound.flag(1, false) ? pad : "";
    for (size_t i = 0; i < lines.size(); ++i) {
        if (i > 0) out += '\n';
        if (i > 0 && (blank || !lines[i].empty())) out += pad;
        out += lines[i];
    }
    return in.heap().string(std::move(out));
}

Value center_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("center", a, {"width"});
    const std::string s = to_text(in.heap(), value);
    const int64_t width = bound.whole(0, 80), size = count_characters(s);
    if (width > kMaxWidth) throw Fault("center(): the width is too large");
    if (width <= size) return in.heap().string(s);
    // CPython puts the odd blank to the left when the width is odd.
    const int64_t all = width - size, left = all / 2 + (all & width & 1);
    const auto blanks = [](int64_t n) { return std::string(static_cast<size_t>(n), ' '); };
    return in.heap().string(blanks(left) + s + blanks(all - left));
}

Value truncate_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("truncate", a, {"length", "killwords", "end", "leeway"});
    const std::string s = to_text(in.heap(), value), end = bound.string(2, "...");
    const int64_t length = bound.whole(0, 255), leeway = bound.whole(3, 5);
    if (length < count_characters(end)) throw Fault("truncate(): the length is below the end's");
    if (count_characters(s) <= length + leeway) return in.heap().string(s);
    const int64_t keep = length - count_characters(end);
    std::string cut = s.substr(0, character_offset(s, keep));
    if (!bound.flag(1, false)) cut = cut.substr(0, cut.rfind(' '));
    return in.heap().string(cut + end);
}

Value word_count_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("wordcount", a, {});
    int64_t words = 0;
    bool inside = false;
    const std::string s = to_text(in.heap(), value);
    for (size_t i = 0; i < s.size();) {
        const Utf8Step step = next_utf8(std::string_view(s).substr(i));
        const uint32_t c = step.code_point;
        const bool word =
            c >= 0x80 ? !is_space(c) : (std::isalnum(static_cast<int>(c)) || c == '_');
        if (word && !inside) ++words;
        inside = word;
        i += step.bytes;
    }
    return Value(words);
}

Value url_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("urlencode", a, {});
    std::string out;
    for (const char c : to_text(in.heap(), value)) {
        static constexpr std::string_view kPlain = "-._~/";
        const auto byte = static_cast<uint8_t>(c);
        if (byte < 0x80 && (std::isalnum(byte) != 0 || kPlain.find(c) != kPlain.npos)) {
            out += c;
        } else {
            static constexpr char kHex[] = "0123456789ABCDEF";
            out += {'%', kHex[byte >> 4], kHex[byte & 15]};
        }
    }
    return in.heap().string(std::move(out));
}

Value format_filter(Interpreter& in, const Value& value, const Arguments& a) {
    if (!a.named.empty() && !a.values.empty())
        throw Fault("format() takes unnamed or named values, not both");
    const std::string s = to_text(in.heap(), value);
    if (!a.named.empty()) {
        Dict* dict = in.heap().dict();
        for (const auto& [name, v] : a.named) dict->set(in.heap(), in.heap().string(name), v);
        return in.heap().string(format_percent(in.heap(), s, Value(dict)));
    }
    List* tuple = in.heap().list(List::Type::tuple);
    tuple->items = a.values;
    return in.heap().string(format_percent(in.heap(), s, Value(tuple)));
}

/// A whole number written in text, with Python's blanks, signs and underscores; false: none.
bool read_whole(std::string_view s, int base, int64_t& out) {
    s = strip(s);
    bool minus = false;
    if (!s.empty() && (s[0] == '+' || s[0] == '-')) {
        minus = s[0] == '-';
        s.remove_prefix(1);
    }
    const char letter = s.size() > 2 && s[0] == '0' ? static_cast<char>(s[1] | 0x20) : '\0';
    const bool prefixed = (base == 16 && letter == 'x') || (base == 8 && letter == 'o') ||
                          (base == 2 && letter == 'b');
    if (prefixed) s.remove_prefix(2);
    std::string plain(s);
    if (plain.empty() || plain.front() == '_' || plain.back() == '_' || plain.front() == '-' ||
        plain.find("__") != plain.npos)
        return false;
    std::erase(plain, '_');
    if (minus) plain.insert(0, 1, '-');
    const char* end = plain.data() + plain.size();
    const auto [stop, error] = std::from_chars(plain.data(), end, out, base);
    return error == std::errc() && stop == end;
}

bool read_real(std::string_view s, double& out) {
    s = strip(s);
    if (s.starts_with('+')) s.remove_prefix(1);
    if (s.empty() || s.starts_with('+')) return false;
    const auto [stop, error] = std::from_chars(s.data(), s.data() + s.size(), out);
    return error == std::errc() && stop == s.data() + s.size();
}

bool fits_whole(double d) { return d > -9.2e18 && d < 9.2e18; }  // false for NaN, too

Value int_filter(Interpreter&, const Value& value, const Arguments& a) {
    const Bound bound("int", a, {"default", "base"});
    const int64_t base = bound.whole(1, 10);
    if (base < 2 || base > 36) throw Fault("int(): the base is not from 2 to 36");
    Value fallback = bound.given(0) ? *bound[0] : Value(int64_t{0});
    double real = 0;
    if (value.is_string()) {
        int64_t whole = 0;
        if (read_whole(value.string(), static_cast<int>(base), whole)) return Value(whole);
        if (!read_real(value.string(), real)) return fallback;
    } else if (value.is_whole()) {
        return Value(value.whole());
    } else if (value.is(Kind::real)) {
        real = value.real();
    } else {
        if (value.undefined()) fail_undefined(value);
        return fallback;
    }
    return fits_whole(real) ? Value(static_cast<int64_t>(real)) : fallback;
}

Value float_filter(Interpreter&, const Value& value, const Arguments& a) {
    const Bound bound("float", a, {"default"});
    if (value.undefined()) fail_undefined(value);
    if (value.is_number()) return Value(value.real());
    double real = 0;
    if (value.is_string() && read_real(value.string(), real)) return Value(real);
    return bound.given(0) ? *bound[0] : Value(0.0);
}

Value abs_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("abs", a, {});
    if (value.undefined()) fail_undefined(value);
    if (value.is(Kind::real)) return Value(std::fabs(value.real()));
    if (!value.is_whole()) throw Fault("abs() needs a number, not a " + type_name(value));
    return value.whole() < 0 ? in.binary("-", Value(int64_t{0}), value) : Value(value.whole());
}

/// Python's round(value, digits): exact decimal arithmetic, ties to even.
double rounded(double value, int64_t digits) {
    if (!std::isfinite(value) || digits > 300) return value;
    if (digits < -300) return 0;
    if (digits < 0) {
        const double unit = std::pow(10.0, static_cast<double>(-digits));
        return std::nearbyint(value / unit) * unit;
    }
    char buffer[1024];
    const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value,
                                            std::chars_format::fixed, static_cast<int>(digits));
    if (error != std::errc()) return value;
    double result = value;
    std::from_chars(buffer, end, result);
    return result;
}

Value round_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("round", a, {"precision", "method"});
    in.heap().charge(8);
    if (value.undefined()) fail_undefined(value);
    if (!value.is_number()) throw Fault("round() needs a number, not a " + type_name(value));
    const int64_t digits = bound.whole(0, 0);
    const std::string method = bound.string(1, "common");
    if (method == "common") {
        if (value.is_whole() && digits >= 0) return Value(value.whole());
        const double result = rounded(value.real(), digits);
        return value.is_whole() ? Value(static_cast<int64_t>(result)) : Value(result);
    }
    if (method != "ceil" && method != "floor")
        throw Fault("round(): the method is not common, ceil or floor");
    const double unit = std::pow(10.0, static_cast<double>(digits));
    const double scaled = value.real() * unit;
    return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / unit);
}

Value default_filter(Interpreter&, const Value& value, const Arguments& a) {
    const Bound bound("default", a, {"default_value", "boolean"});
    const bool absent = value.undefined() || (bound.flag(1, false) && !truth(value));
    if (!absent) return value;
    return bound.given(0) ? *bound[0] : text("");
}

Value to_json_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("tojson", a, {"ensure_ascii", "indent", "separators", "sort_keys"});
    JsonStyle style;
    // Jinja's own tojson has `indent` first, and some templates write tojson(4).
    const bool indent_first = bound.given(0) && bound[0]->is(Kind::integer) && !bound.given(1);
    style.ascii = !indent_first && bound.flag(0, false);
    const Value indent = indent_first ? *bound[0] : bound.given(1) ? *bound[1] : Value(None{});
    style.lines = !indent.none() && !indent.undefined();
    if (indent.is_string()) {
        style.indent = indent.string();
    } else if (style.lines) {
        if (!indent.is_whole() || indent.whole() > 1000)
            throw Fault("tojson(): the indent is a " + type_name(indent) + ", expected up to 1000");
        style.indent.assign(static_cast<size_t>(std::max<int64_t>(indent.whole(), 0)), ' ');
    }
    if (style.lines) style.between = ",";
    if (bound.given(2) && !bound[2]->none()) {
        const std::vector<Value> parts = in.elements(*bound[2]);
        if (parts.size() != 2 || !parts[0].is_string() || !parts[1].is_string())
            throw Fault("tojson(): the separators are not two strings");
        style.between = parts[0].string();
        style.after_key = parts[1].string();
    }
    style.sort_keys = bound.flag(3, false);
    return in.heap().string(to_json(in.heap(), value, style));
}

struct Entry {
    std::string_view name;
    Filter filter;
};

constexpr Entry kFilters[] = {
    {"abs", abs_filter},
    {"capitalize", map_filter<capitalize>},
    {"center", center_filter},
    {"d", default_filter},
    {"default", default_filter},
    {"e", escape_filter},
    {"escape", escape_filter},
    {"float", float_filter},
    {"forceescape", escape_filter},
    {"format", format_filter},
    {"indent", indent_filter},
    {"int", int_filter},
    {"lower", map_filter<lower>},
    {"replace", replace_filter},
    {"round", round_filter},
    {"safe", string_filter},
    {"string", string_filter},
    {"title", map_filter<title_filter>},
    {"tojson", to_json_filter},
    {"trim", trim_filter},
    {"truncate", truncate_filter},
    {"upper", map_filter<upper>},
    {"urlencode", url_filter},
    {"wordcount", word_count_filter},
};

}  // namespace

Filter find_text_filter(std::string_view name) {
    for (const Entry& entry : kFilters)
        if (entry.name == name) return entry.filter;
    return nullptr;
}

bool is_filter(std::string_view name) {
    return find_text_filter(name) != nullptr || find_list_filter(name) != nullptr;
}

}  // namespace muster::jinja
