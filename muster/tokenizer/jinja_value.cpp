// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/jinja_value.h"

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "muster/tokenizer/jinja_text.h"
#include "muster/tokenizer/utf8.h"

namespace muster::jinja {
namespace {

using Kind = Value::Kind;
constexpr int kMaxNesting = 100;  // of lists and dictionaries that are compared or printed

void check_nesting(int depth) {
    if (depth > kMaxNesting)
        throw Fault("a value is nested too deeply, expected at most 100 levels");
}

/// ==, but lists and dictionaries are equal to themselves only.
bool equal_simple(Heap& heap, const Value& a, const Value& b) {
    if (a.is_number() && b.is_number()) {
        if (a.is_whole() && b.is_whole()) return a.whole() == b.whole();
        return a.real() == b.real();
    }
    if (a.kind() != b.kind()) return false;
    switch (a.kind()) {
        case Kind::string:
            return equal(heap, a.string(), b.string());
        case Kind::list:
            return &a.list() == &b.list();
        case Kind::dict:
            return &a.dict() == &b.dict();
        case Kind::space:
            return &a.space() == &b.space();
        case Kind::callable:
            return &a.callable() == &b.callable();
        default:
            return true;
    }
}

bool equal_lists(Heap& heap, const List& a, const List& b, int depth) {
    if (a.type != b.type || a.items.size() != b.items.size()) return false;
    for (size_t i = 0; i < a.items.size(); ++i)
        if (!equal(heap, a.items[i], b.items[i], depth)) return false;
    return true;
}

bool equal_dicts(Heap& heap, const Dict& a, const Dict& b, int depth) {
    if (a.entries.size() != b.entries.size()) return false;
    for (const auto& [key, value] : a.entries) {
        const Value* other = b.find(heap, key);
        if (other == nullptr || !equal(heap, value, *other, depth)) return false;
    }
    return true;
}

bool less_lists(Heap& heap, const List& a, const List& b, int depth) {
    for (size_t i = 0; i < std::min(a.items.size(), b.items.size()); ++i)
        if (!equal(heap, a.items[i], b.items[i], depth))
            return less(heap, a.items[i], b.items[i], depth);
    return a.items.size() < b.items.size();
}

/// Python's str.isprintable of one character.
bool printable(uint32_t c) {
    if (c < 0x7F) return c >= ' ';
    switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
        case UTF8PROC_CATEGORY_CC:
        case UTF8PROC_CATEGORY_CF:
        case UTF8PROC_CATEGORY_CS:
        case UTF8PROC_CATEGORY_CO:
        case UTF8PROC_CATEGORY_CN:
        case UTF8PROC_CATEGORY_ZL:
        case UTF8PROC_CATEGORY_ZP:
        case UTF8PROC_CATEGORY_ZS:
            return false;
        default:
            return true;
    }
}

void quote(std::string_view s, std::string& out) {
    const bool apostrophe = s.find('\'') != s.npos, double_quote = s.find('"') != s.npos;
    const char mark = apostrophe && !double_quote ? '"' : '\'';
    out += mark;
    for (size_t i = 0; i < s.size();) {
        const Utf8Step step = next_utf8(s.substr(i));
        const uint32_t c = step.code_point;
        if (c == '\n') {
            out += "\\n";
        } else if (c == '\r') {
            out += "\\r";
        } else if (c == '\t') {
            out += "\\t";
        } else if (c == '\\' || c == static_cast<uint32_t>(mark)) {
            out += '\\';
            out += static_cast<char>(c);
        } else if (printable(c)) {
            out += s.substr(i, step.bytes);
        } else if (c < 0x100) {
            out += "\\x";
            append_hex(c, 2, out);
        } else {
            out += c < 0x10000 ? "\\u" : "\\U";
            append_hex(c, c < 0x10000 ? 4 : 8, out);
        }
        i += step.bytes;
    }
    out += mark;
}

void print(Heap& heap, const Value& v, std::string& out, int depth);

void print_sequence(Heap& heap, const List& list, const char* open, const char* close,
                    std::string& out, int depth) {
    out += open;
    for (size_t i = 0; i < list.items.size(); ++i) {
        if (i > 0) out += ", ";
        print(heap, list.items[i], out, depth + 1);
    }
    if (list.type == List::Type::tuple && list.items.size() == 1) out += ',';
    out += close;
}

void print_list(Heap& heap, const List& list, std::string& out, int depth) {
    switch (list.type) {
        case List::Type::list:
            return print_sequence(heap, list, "[", "]", out, depth);
        case List::Type::tuple:
            return print_sequence(heap, list, "(", ")", out, depth);
        case List::Type::keys:
            return print_sequence(heap, list, "dict_keys([", "])", out, depth);
        case List::Type::values:
            return print_sequence(heap, list, "dict_values([", "])", out, depth);
        case List::Type::items:
            return print_sequence(heap, list, "dict_items([", "])", out, depth);
        case List::Type::range:
            out += list.printed;
            return;
        case List::Type::generator:
            out += "<generator object>";
    }
}

void print_dict(Heap& heap, const Dict& dict, std::string& out, int depth) {
    out += '{';
    for (size_t i = 0; i < dict.entries.size(); ++i) {
        if (i > 0) out += ", ";
        print(heap, dict.entries[i].first, out, depth + 1);
        out += ": ";
        print(heap, dict.entries[i].second, out, depth + 1);
    }
    out += '}';
}

/// repr().
void print(Heap& heap, const Value& v, std::string& out, int depth) {
    check_nesting(depth);
    heap.charge(1);
    heap.charge_string(v);
    const size_t before = out.size();
    if (out.size() > (size_t{64} << 20)) throw Fault("a printed value is larger than 64 MiB");
    switch (v.kind()) {
        case Kind::undefined:
            out += "Undefined";
            break;
        case Kind::none:
            out += "None";
            break;
        case Kind::boolean:
            out += v.boolean() ? "True" : "False";
            break;
        case Kind::integer:
            out += std::to_string(v.whole());
            break;
        case Kind::real:
            out += float_text(v.real());
            break;
        case Kind::string:
            quote(v.string(), out);
            break;
        case Kind::list:
            print_list(heap, v.list(), out, depth);
            break;
        case Kind::dict:
            print_dict(heap, v.dict(), out, depth);
            break;
        case Kind::space:
            out += "<Namespace ";
            print_dict(heap, v.space().attributes, out, depth);
            out += '>';
            break;
        case Kind::callable:
            out += v.callable().printed();
            heap.charge_bytes(out.size() - before);
    }
}

}  // namespace

bool equal(Heap& heap, std::string_view a, std::string_view b) {
    if (a.size() != b.size()) return false;
    heap.charge(static_cast<int64_t>(a.size() / 16));
    return a == b;
}

bool same(Heap& heap, const Value& a, const Value& b) {
    return a.kind() == b.kind() && equal_simple(heap, a, b);
}

const Value* Dict::find(Heap& heap, const Value& key) const {
    heap.charge_search(entries.size());
    for (const auto& entry : entries)
        if (equal_simple(heap, entry.first, key)) return &entry.second;
    return nullptr;
}

const Value* Dict::find(Heap& heap, std::string_view key) const {
    heap.charge_search(entries.size());
    for (const auto& entry : entries)
        if (entry.first.is_string() && equal(heap, entry.first.string(), key)) return &entry.second;
    return nullptr;
}

void Dict::set(Heap& heap, Value key, Value value) {
    if (!key.is_string() && !key.is_number() && !key.none())
        throw Fault("a " + type_name(key) + " cannot be a dictionary's key");
    heap.charge(2);
    heap.charge_search(entries.size());
    for (auto& entry : entries) {
        if (!equal_simple(heap, entry.first, key)) continue;
        entry.second = std::move(value);
        return;
    }
    entries.emplace_back(std::move(key), std::move(value));
}

void Heap::charge(int64_t steps) {
    steps_ += steps;
    if (steps_ > limits_.steps)
        throw Fault("the template takes too long, expected at most " +
                    std::to_string(limits_.steps) + " steps");
}

Value Heap::string(std::string s) {
    charge_bytes(s.size());
    return Value(std::make_shared<const std::string>(std::move(s)));
}

Value text(std::string_view s) { return Value(std::make_shared<const std::string>(s)); }

bool truth(const Value& v) {
    switch (v.kind()) {
        case Kind::undefined:
        case Kind::none:
            return false;
        case Kind::boolean:
        case Kind::integer:
            return v.whole() != 0;
        case Kind::real:
            return v.real() != 0;
        case Kind::string:
            return !v.string().empty();
        case Kind::list:
            return v.list().type == List::Type::generator || !v.list().items.empty();
        case Kind::dict:
            return !v.dict().entries.empty();
        default:
            return true;
    }
}

bool equal(Heap& heap, const Value& a, const Value& b, int depth) {
    check_nesting(depth);
    heap.charge(1);
    if (equal_simple(heap, a, b)) return true;
    if (a.kind() != b.kind()) return false;
    if (a.is(Kind::list)) return equal_lists(heap, a.list(), b.list(), depth + 1);
    return a.is(Kind::dict) && equal_dicts(heap, a.dict(), b.dict(), depth + 1);
}

bool less(Heap& heap, const Value& a, const Value& b, int depth) {
    check_nesting(depth);
    heap.charge(1);
    if (a.undefined()) fail_undefined(a);
    if (b.undefined()) fail_undefined(b);
    if (a.is_number() && b.is_number()) {
        if (a.is_whole() && b.is_whole()) return a.whole() < b.whole();
        return a.real() < b.real();
    }
    if (a.is_string() && b.is_string()) {
        heap.charge_bytes(std::min(a.string().size(), b.string().size()));
        return a.string() < b.string();
    }
    const bool lists = a.is(Kind::list) && b.is(Kind::list) && a.list().type == b.list().type &&
                       (a.list().type == List::Type::list || a.list().type == List::Type::tuple);
    if (lists) return less_lists(heap, a.list(), b.list(), depth + 1);
    throw Fault("'" + type_name(a) + "' and '" + type_name(b) + "' have no order");
}

std::string type_name(const Value& v) {
    switch (v.kind()) {
        case Kind::undefined:
            return "Undefined";
        case Kind::none:
            return "NoneType";
        case Kind::boolean:
            return "bool";
        case Kind::integer:
            return "int";
        case Kind::real:
            return "float";
        case Kind::string:
            return "str";
        case Kind::list: {
            static constexpr const char* kNames[] = {
                "list", "tuple", "generator", "range", "dict_keys", "dict_values", "dict_items"};
            return kNames[static_cast<int>(v.list().type)];
        }
        case Kind::dict:
            return "dict";
        case Kind::space:
            return "Namespace";
        case Kind::callable:
            return "function";
    }
    return "";
}

std::string float_text(double value) {
    if (std::isnan(value)) return "nan";
    if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
    char buffer[64];
    const auto shortest =
        std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
    std::string s(buffer, shortest.ptr);
    // Python: exponents below -4 and from 16 on are written, others not.
    const int exponent = std::stoi(s.substr(s.find('e') + 1));
    if (exponent >= -4 && exponent < 16) {
        const auto fixed =
            std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
        s.assign(buffer, fixed.ptr);
        return s.find('.') == s.npos ? s + ".0" : s;
    }
    return s;
}

std::string to_text(Heap& heap, const Value& v) {
    heap.charge_string(v);
    if (v.is_string()) return v.string();
    if (v.undefined()) return "";
    return representation(heap, v);
}

std::string representation(Heap& heap, const Value& v) {
    std::string out;
    print(heap, v, out, 0);
    return out;
}

void fail_undefined(const Value& v) {
    const Text& what = v.missing().what;
    throw Fault(what ? *what : "a value is undefined");
}

}  // namespace muster::jinja
