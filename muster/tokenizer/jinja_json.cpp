// SPDX-License-Identifier: Apache-2.0
// JSON <-> values; written as Python's json.dumps does.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "muster/tokenizer/jinja_interpreter.h"
#include "muster/tokenizer/jinja_text.h"
#include "muster/tokenizer/utf8.h"

namespace muster::jinja {
namespace {

using Kind = Value::Kind;
constexpr int kMaxNesting = 100;
constexpr size_t kMaxBytes = size_t{64} << 20;

void check_nesting(int depth) {
    if (depth > kMaxNesting) throw Fault("JSON is nested too deeply, expected at most 100 levels");
}

void write_character(uint32_t c, std::string_view bytes, bool ascii, std::string& out) {
    const auto unit = [&](uint32_t value) {
        out += "\\u";
        append_hex(value, 4, out);
    };
    static constexpr std::string_view kFrom = "\"\\\n\r\t\f\b", kTo = "\"\\nrtfb";
    const size_t simple = c < 0x80 ? kFrom.find(static_cast<char>(c)) : kFrom.npos;
    if (simple != kFrom.npos) {
        out += '\\';
        out += kTo[simple];
    } else if (c < 0x20 || (ascii && c > 0x7E && c < 0x10000)) {
        if (c == 0x7F) {
            out += '\x7F';
        } else {
            unit(c);
        }
    } else if (ascii && c >= 0x10000) {
        const uint32_t pair = c - 0x10000;
        unit(0xD800 + (pair >> 10));
        unit(0xDC00 + (pair & 0x3FF));
    } else {
        out += bytes;
    }
}

class Writer {
  public:
    Writer(Heap& heap, const JsonStyle& style) : heap_(heap), style_(style) {}

    void write(const Value& v, int depth) {
        check_nesting(depth);
        heap_.charge(1);
        if (out.size() > kMaxBytes) throw Fault("JSON is larger than 64 MiB");
        switch (v.kind()) {
            case Kind::none:
                out += "null";
                break;
            case Kind::boolean:
                out += v.boolean() ? "true" : "false";
                break;
            case Kind::integer:
                out += std::to_string(v.whole());
                break;
            case Kind::real:
                out += number(v.real());
                break;
            case Kind::string:
                string(v.string());
                break;
            case Kind::list:
                if (v.list().type > List::Type::tuple) fail(v);
                list(v.list(), depth);
                break;
            case Kind::dict:
                dict(v.dict(), depth);
                break;
            default:
                fail(v);
        }
    }

    std::string out;

  private:
    [[noreturn]] static void fail(const Value& v) {
        throw Fault("object of type " + type_name(v) + " cannot be written as JSON");
    }

    static std::string number(double value) {
        if (std::isnan(value)) return "NaN";
        if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
        return float_text(value);
    }

    void string(const std::string& s) {
        heap_.charge_bytes(s.size());
        out += '"';
        for (size_t i = 0; i < s.size();) {
            const std::string_view rest = std::string_view(s).substr(i);
            const Utf8Step step = next_utf8(rest);
            write_character(step.code_point, rest.substr(0, step.bytes), style_.ascii, out);
            i += step.bytes;
        }
        out += '"';
    }

    void separator(const std::string& s) {
        heap_.charge(static_cast<int64_t>(s.size() / 16));
        out += s;
    }

    void new_line(int depth) {
        if (!style_.lines) return;
        heap_.charge_bytes(static_cast<size_t>(depth) * style_.indent.size());
        out += '\n';
        for (int i = 0; i < depth; ++i) out += style_.indent;
    }

    void list(const List& list, int depth) {
        out += '[';
        for (size_t i = 0; i < list.items.size(); ++i) {
            if (i > 0) separator(style_.between);
            new_line(depth + 1);
            write(list.items[i], depth + 1);
        }
        if (!list.items.empty()) new_line(depth);
        out += ']';
    }

    static std::string key(const Value& v) {
        if (v.is_string()) return v.string();
        if (v.none()) return "null";
        if (v.is(Kind::boolean)) return v.boolean() ? "true" : "false";
        return v.is(Kind::real) ? number(v.real()) : std::to_string(v.whole());
    }

    void dict(const Dict& dict, int depth) {
        std::vector<std::pair<std::string, const Value*>> entries;
        for (const auto& entry : dict.entries) {
            heap_.charge_string(entry.first);
            entries.emplace_back(key(entry.first), &entry.second);
        }
        if (style_.sort_keys)
            std::stable_sort(entries.begin(), entries.end(), [&](const auto& a, const auto& b) {
                heap_.charge_bytes(std::min(a.first.size(), b.first.size()));
                return a.first < b.first;
            });
        out += '{';
        for (size_t i = 0; i < entries.size(); ++i) {
            if (i > 0) separator(style_.between);
            new_line(depth + 1);
            string(entries[i].first);
            separator(style_.after_key);
            write(*entries[i].second, depth + 1);
        }
        if (!entries.empty()) new_line(depth);
        out += '}';
    }

    Heap& heap_;
    const JsonStyle& style_;
};

}  // namespace

Value from_json(Heap& heap, const nlohmann::ordered_json& json, int depth) {
    check_nesting(depth);
    switch (json.type()) {
        case nlohmann::ordered_json::value_t::boolean:
            return Value(json.get<bool>());
        case nlohmann::ordered_json::value_t::number_integer:
            return Value(json.get<int64_t>());
        case nlohmann::ordered_json::value_t::number_unsigned:
            if (json.get<uint64_t>() > INT64_MAX) return Value(json.get<double>());
            return Value(json.get<int64_t>());
        case nlohmann::ordered_json::value_t::number_float:
            return Value(json.get<double>());
        case nlohmann::ordered_json::value_t::string:
            return heap.string(to_valid_utf8(json.get_ref<const std::string&>()));
        case nlohmann::ordered_json::value_t::array: {
            List* list = heap.list();
            for (const auto& element : json)
                list->items.push_back(from_json(heap, element, depth + 1));
            return Value(list);
        }
        case nlohmann::ordered_json::value_t::object: {
            // Keys are unique already.
            Dict* dict = heap.dict();
            for (const auto& [key, value] : json.items())
                dict->entries.emplace_back(heap.string(to_valid_utf8(key)),
                                           from_json(heap, value, depth + 1));
            return Value(dict);
        }
        default:
            return Value(None{});
    }
}

std::string to_json(Heap& heap, const Value& value, const JsonStyle& style) {
    Writer writer(heap, style);
    writer.write(value, 0);
    return std::move(writer.out);
}

}  // namespace muster::jinja
