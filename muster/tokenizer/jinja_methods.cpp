// SPDX-License-Identifier: Apache-2.0
// Methods of strings, lists and dictionaries, as in Python. Lists may be changed by append, extend,
// insert and pop, dictionaries by update and pop, which Hugging Face's sandbox forbids and other
// programs allow: what the caller gave is copied before a rendering.
#include <algorithm>
#include <string>

#include "muster/tokenizer/jinja_interpreter.h"
#include "muster/tokenizer/jinja_text.h"

namespace muster::jinja {
namespace {

using Kind = Value::Kind;

template <Side side>
Value strip_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("strip", a, {"chars"});
    if (!bound.given(0) || bound[0]->none())
        return in.heap().string(std::string(strip(self.string(), side)));
    const std::string_view characters = bound.string(0, {});
    in.heap().charge_bytes(self.string().size() * (1 + characters.size() / 16));
    return in.heap().string(std::string(strip(self.string(), side, &characters)));
}

template <std::string (*f)(std::string_view)>
Value map_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("the method", a, {});
    return in.heap().string(f(self.string()));
}

template <auto cut>
Value split_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("split", a, {"sep", "maxsplit"});
    std::string separator;
    if (bound.given(0) && !bound[0]->none()) {
        separator = bound.string(0, {});
        if (separator.empty()) throw Fault("split() has an empty separator");
    }
    List* list = in.heap().list();
    for (const std::string_view part : cut(in.heap(), self.string(), separator, bound.whole(1, -1)))
        list->items.push_back(in.heap().string(std::string(part)));
    return Value(list);
}

Value split_lines_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("splitlines", a, {"keepends"});
    List* list = in.heap().list();
    for (const std::string_view part : split_lines(in.heap(), self.string(), bound.flag(0, false)))
        list->items.push_back(in.heap().string(std::string(part)));
    return Value(list);
}

template <bool begin>
Value affix_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound(begin ? "startswith" : "endswith", a, {"affix"}, 1);
    const auto fits = [&](const Value& v) {
        if (!v.is_string()) throw Fault("startswith() and endswith() need strings");
        return begin ? self.string().starts_with(v.string()) : self.string().ends_with(v.string());
    };
    if (!bound[0]->is(Kind::list)) return Value(fits(*bound[0]));
    const std::vector<Value>& affixes = bound[0]->list().items;
    return Value(std::any_of(affixes.begin(), affixes.end(), [&](const Value& v) {
        in.heap().charge(1);
        in.heap().charge_string(v);
        return fits(v);
    }));
}

template <bool begin>
Value remove_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound(begin ? "removeprefix" : "removesuffix", a, {"affix"}, 1);
    const std::string& affix = bound.string(0, {});
    std::string_view s = self.string();
    if (begin && s.starts_with(affix)) s.remove_prefix(affix.size());
    if (!begin && s.ends_with(affix)) s.remove_suffix(affix.size());
    return in.heap().string(std::string(s));
}

Value replace_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("replace", a, {"old", "new", "count"}, 2);
    return in.heap().string(replace(in.heap(), self.string(), bound.string(0, {}),
                                    bound.string(1, {}), bound.whole(2, -1)));
}

/// The part of a string from one character to another, and where it begins in bytes.
std::string_view part_of(const std::string& s, const Bound& bound, size_t& begin) {
    const auto bound_value = [&](size_t i) { return bound.given(i) ? *bound[i] : Value(None{}); };
    const auto cut =
        slice_bounds(bound_value(1), bound_value(2), Value(None{}), count_characters(s));
    begin = character_offset(s, cut.begin);
    const size_t end = character_offset(s, std::max(cut.begin, cut.end));
    return std::string_view(s).substr(begin, end - begin);
}

template <bool right, bool must>
Value find_method_(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound(must ? "index" : "find", a, {"sub", "start", "end"}, 1);
    const std::string& what = bound.string(0, {});
    const std::string& s = self.string();
    size_t begin = 0;
    const std::string_view part = part_of(s, bound, begin);
    const size_t found =
        right ? find_last_text(in.heap(), part, what) : find_text(in.heap(), part, what);
    if (found == part.npos) {
        if (must) throw Fault("index(): the substring is not there");
        return Value(int64_t{-1});
    }
    return Value(count_characters(std::string_view(s).substr(0, begin + found)));
}

Value count_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("count", a, {"sub"}, 1);
    const std::string& what = bound.string(0, {});
    const std::string& s = self.string();
    if (what.empty()) return Value(count_characters(s) + 1);
    int64_t n = 0;
    for (size_t at = find_text(in.heap(), s, what); at != s.npos;
         at = find_text(in.heap(), s, what, at + what.size()))
        ++n;
    return Value(n);
}

Value join_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("join", a, {"iterable"}, 1);
    std::string out;
    bool first = true;
    for (const Value& v : in.elements(*bound[0])) {
        if (!v.is_string()) throw Fault("join() found a " + type_name(v) + ", expected str");
        in.heap().charge_bytes(self.string().size() + v.string().size());
        if (!first) out += self.string();
        first = false;
        out += v.string();
    }
    return in.heap().string(std::move(out));
}

template <auto holds>
Value every_method(Interpreter&, const Value& self, const Arguments& a) {
    const Bound bound("the method", a, {});
    const std::string& s = self.string();
    return Value(!s.empty() && std::all_of(s.begin(), s.end(), holds));
}

bool ascii_digit(char c) { return c >= '0' && c <= '9'; }
bool ascii_letter(char c) {
    // Beyond ASCII almost every character that templates meet is a letter.
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<uint8_t>(c) >= 0x80;
}
bool ascii_letter_or_digit(char c) { return ascii_letter(c) || ascii_digit(c); }

template <Case which>
Value case_method(Interpreter&, const Value& self, const Arguments& a) {
    const Bound bound("the method", a, {});
    return Value(case_of(self.string()) == which);
}

Value is_space_method(Interpreter&, const Value& self, const Arguments& a) {
    const Bound bound("isspace", a, {});
    return Value(!self.string().empty() && strip(self.string()).empty());
}

template <bool left>
Value just_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound(left ? "ljust" : "rjust", a, {"width", "fillchar"}, 1);
    const int64_t missing = bound.whole(0, 0) - count_characters(self.string());
    if (missing <= 0) return self;
    if (missing > 1'000'000) throw Fault("a width is too large, expected at most a million");
    const std::string& character = bound.string(1, " ");
    if (count_characters(character) != 1)
        throw Fault("a width is filled with '" + character.substr(0, 100) +
                    "', expected one character");
    std::string fill;
    for (int64_t i = 0; i < missing; ++i) fill += character;
    return in.heap().string(left ? self.string() + fill : fill + self.string());
}

Value zero_fill_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("zfill", a, {"width"}, 1);
    std::string s = self.string();
    const int64_t missing = bound.whole(0, 0) - count_characters(s);
    if (missing > 1'000'000) throw Fault("a width is too large, expected at most a million");
    const bool sign = !s.empty() && (s[0] == '-' || s[0] == '+');
    if (missing > 0) s.insert(sign ? 1 : 0, static_cast<size_t>(missing), '0');
    return in.heap().string(std::move(s));
}

template <bool right>
Value partition_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("partition", a, {"sep"}, 1);
    const std::string &separator = bound.string(0, {}), &s = self.string();
    if (separator.empty()) throw Fault("partition() has an empty separator");
    const size_t at =
        right ? find_last_text(in.heap(), s, separator) : find_text(in.heap(), s, separator);
    std::string parts[3] = {s, "", ""};
    if (at != s.npos) {
        parts[0] = s.substr(0, at);
        parts[1] = separator;
        parts[2] = s.substr(at + separator.size());
    } else if (right) {
        std::swap(parts[0], parts[2]);
    }
    List* list = in.heap().list(List::Type::tuple);
    for (std::string& part : parts) list->items.push_back(in.heap().string(std::move(part)));
    return Value(list);
}

Value format_method(Interpreter& in, const Value& self, const Arguments& a) {
    return in.heap().string(format_braces(in, self.string(), a));
}

Value append_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("append", a, {"object"}, 1);
    in.heap().charge(2);
    self.list().items.push_back(*bound[0]);
    return None{};
}

Value extend_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("extend", a, {"iterable"}, 1);
    for (Value& v : in.elements(*bound[0])) self.list().items.push_back(std::move(v));
    return None{};
}

Value insert_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("insert", a, {"index", "object"}, 2);
    std::vector<Value>& items = self.list().items;
    const auto size = static_cast<int64_t>(items.size());
    in.heap().charge(2 + size / 8);
    const int64_t i = bound.whole(0, 0);
    items.insert(items.begin() + std::clamp<int64_t>(i < 0 ? i + size : i, 0, size), *bound[1]);
    return None{};
}

Value pop_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("pop", a, {"index"});
    std::vector<Value>& items = self.list().items;
    const auto size = static_cast<int64_t>(items.size());
    in.heap().charge(1 + size / 8);
    const int64_t given = bound.whole(0, -1), i = given < 0 ? given + size : given;
    if (i < 0 || i >= size) throw Fault("pop(): the list has no such element");
    Value value = items[static_cast<size_t>(i)];
    items.erase(items.begin() + i);
    return value;
}

Value list_index_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("index", a, {"value"}, 1);
    const std::vector<Value>& items = self.list().items;
    for (size_t i = 0; i < items.size(); ++i)
        if (equal(in.heap(), items[i], *bound[0])) return Value(static_cast<int64_t>(i));
    throw Fault("index(): the value is not in the list");
}

Value list_count_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("count", a, {"value"}, 1);
    const std::vector<Value>& items = self.list().items;
    return Value(
        static_cast<int64_t>(std::count_if(items.begin(), items.end(), [&](const Value& v) {
            return equal(in.heap(), v, *bound[0]);
        })));
}

Value get_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("get", a, {"key", "default"}, 1);
    if (const Value* found = self.dict().find(in.heap(), *bound[0])) return *found;
    return bound.given(1) ? *bound[1] : Value(None{});
}

template <List::Type type>
Value view_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("the method", a, {});
    List* list = in.heap().list(type);
    in.heap().charge(static_cast<int64_t>(self.dict().entries.size()));
    for (const auto& [key, value] : self.dict().entries) {
        if (type == List::Type::items) {
            List* pair = in.heap().list(List::Type::tuple);
            pair->items = {key, value};
            list->items.emplace_back(pair);
        } else {
            list->items.push_back(type == List::Type::keys ? key : value);
        }
    }
    return Value(list);
}

Value update_method(Interpreter& in, const Value& self, const Arguments& a) {
    const auto put = [&](const Value& key, const Value& value) {
        self.dict().set(in.heap(), key, value);
    };
    if (a.values.size() > 1) throw Fault("update() has too many arguments, expected one");
    for (const Value& more : a.values) {
        if (!more.is(Kind::dict)) throw Fault("update() needs a dictionary");
        in.heap().charge(static_cast<int64_t>(more.dict().entries.size()));
        const auto entries = more.dict().entries;
        for (const auto& [key, value] : entries) put(key, value);
    }
    for (const auto& [name, value] : a.named) put(in.heap().string(name), value);
    return None{};
}

Value dict_pop_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("pop", a, {"key", "default"}, 1);
    auto& entries = self.dict().entries;
    in.heap().charge(1 + static_cast<int64_t>(entries.size() / 8));
    const Value* found = self.dict().find(in.heap(), *bound[0]);
    if (found == nullptr) {
        if (bound.given(1)) return *bound[1];
        throw Fault("pop(): the dictionary has no such key");
    }
    Value value = *found;
    std::erase_if(entries, [&](const auto& entry) { return &entry.second == found; });
    return value;
}

Value copy_method(Interpreter& in, const Value& self, const Arguments& a) {
    const Bound bound("copy", a, {});
    if (self.is(Kind::list)) {
        List* list = in.heap().list(self.list().type);
        list->items = in.elements(self);
        return Value(list);
    }
    Dict* dict = in.heap().dict();
    in.heap().charge(static_cast<int64_t>(self.dict().entries.size()));
    dict->entries = self.dict().entries;
    return Value(dict);
}

struct Entry {
    std::string_view name;
    Method method;
};

constexpr Entry kStringMethods[] = {
    {"strip", strip_method<Side::both>},
    {"lstrip", strip_method<Side::left>},
    {"rstrip", strip_method<Side::right>},
    {"upper", map_method<upper>},
    {"lower", map_method<lower>},
    {"casefold", map_method<lower>},
    {"capitalize", map_method<capitalize>},
    {"title", map_method<title>},
    {"split", split_method<split>},
    {"rsplit", split_method<split_right>},
    {"splitlines", split_lines_method},
    {"startswith", affix_method<true>},
    {"endswith", affix_method<false>},
    {"removeprefix", remove_method<true>},
    {"removesuffix", remove_method<false>},
    {"replace", replace_method},
    {"find", find_method_<false, false>},
    {"rfind", find_method_<true, false>},
    {"index", find_method_<false, true>},
    {"rindex", find_method_<true, true>},
    {"count", count_method},
    {"join", join_method},
    {"format", format_method},
    {"isdigit", every_method<ascii_digit>},
    {"isnumeric", every_method<ascii_digit>},
    {"isdecimal", every_method<ascii_digit>},
    {"isalpha", every_method<ascii_letter>},
    {"isalnum", every_method<ascii_letter_or_digit>},
    {"isspace", is_space_method},
    {"isupper", case_method<Case::upper>},
    {"islower", case_method<Case::lower>},
    {"ljust", just_method<true>},
    {"rjust", just_method<false>},
    {"zfill", zero_fill_method},
    {"partition", partition_method<false>},
    {"rpartition", partition_method<true>},
};
constexpr Entry kListMethods[] = {
    {"append", append_method}, {"extend", extend_method},    {"insert", insert_method},
    {"pop", pop_method},       {"index", list_index_method}, {"count", list_count_method},
    {"copy", copy_method},
};
constexpr Entry kTupleMethods[] = {{"index", list_index_method}, {"count", list_count_method}};
constexpr Entry kDictMethods[] = {
    {"get", get_method},
    {"items", view_method<List::Type::items>},
    {"keys", view_method<List::Type::keys>},
    {"values", view_method<List::Type::values>},
    {"update", update_method},
    {"pop", dict_pop_method},
    {"copy", copy_method},
};

template <size_t n>
Method find_in(const Entry (&entries)[n], std::string_view name) {
    for (const Entry& entry : entries)
        if (entry.name == name) return entry.method;
    return nullptr;
}

}  // namespace

Method find_method(const Value& self, std::string_view name) {
    if (self.is_string()) return find_in(kStringMethods, name);
    if (self.is(Kind::dict)) return find_in(kDictMethods, name);
    if (!self.is(Kind::list)) return nullptr;
    if (self.list().type == List::Type::list) return find_in(kListMethods, name);
    return self.list().type == List::Type::tuple ? find_in(kTupleMethods, name) : nullptr;
}

}  // namespace muster::jinja
