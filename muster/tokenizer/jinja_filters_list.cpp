// SPDX-License-Identifier: Apache-2.0
// Filters of lists and dictionaries, as in Jinja2 3.1. Generators are computed at once, but can be
// read once only and are always true, as Python's.
#include <algorithm>
#include <optional>

#include "muster/tokenizer/jinja_interpreter.h"
#include "muster/tokenizer/jinja_text.h"

namespace muster::jinja {
namespace {

using Kind = Value::Kind;

Value generator(Interpreter& in, std::vector<Value> items) {
    List* list = in.heap().list(List::Type::generator);
    in.heap().charge(static_cast<int64_t>(items.size()));
    list->items = std::move(items);
    return Value(list);
}

Value plain_list(Interpreter& in, std::vector<Value> items) {
    Value list = generator(in, std::move(items));
    list.list().type = List::Type::list;
    return list;
}

/// `a.b.0` of an element; an attribute that is given as a number is an index.
class Path {
  public:
    Path(Heap& heap, const Value& attribute) {
        if (attribute.none() || attribute.undefined()) return;
        if (!attribute.is_string()) {
            parts_.push_back(attribute);
            return;
        }
        for (const std::string_view part : split(heap, attribute.string(), ".", -1)) {
            const bool number =
                !part.empty() && part.size() < 10 &&
                std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
            parts_.push_back(number ? Value(int64_t{std::stol(std::string(part))}) : text(part));
        }
    }

    Value of(Interpreter& in, Value v, const Value* fallback = nullptr) const {
        for (const Value& part : parts_) {
            v = in.item(v, part);
            if (fallback != nullptr && v.undefined()) v = *fallback;
        }
        return v;
    }

  private:
    std::vector<Value> parts_;
};

Value folded(Interpreter& in, const Value& v, bool case_sensitive) {
    return !case_sensitive && v.is_string() ? in.heap().string(lower(v.string())) : v;
}

/// Indices of `keys` in order; stable also in reverse, as Python's sort.
std::vector<size_t> sorted(Interpreter& in, const std::vector<Value>& keys, bool reverse) {
    std::vector<size_t> order(keys.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return reverse ? less(in.heap(), keys[b], keys[a]) : less(in.heap(), keys[a], keys[b]);
    });
    return order;
}

Value length_filter(Interpreter&, const Value& value, const Arguments& a) {
    const Bound bound("length", a, {});
    switch (value.kind()) {
        case Kind::undefined:
            return Value(int64_t{0});
        case Kind::string:
            return Value(count_characters(value.string()));
        case Kind::dict:
            return Value(static_cast<int64_t>(value.dict().entries.size()));
        case Kind::list:
            if (value.list().type != List::Type::generator)
                return Value(static_cast<int64_t>(value.list().items.size()));
            [[fallthrough]];
        default:
            throw Fault("object of type '" + type_name(value) + "' has no length");
    }
}

Value list_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("list", a, {});
    return plain_list(in, in.elements(value));
}

template <bool first>
Value end_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound(first ? "first" : "last", a, {});
    if (!first && value.is(Kind::list) && value.list().type == List::Type::generator)
        throw Fault("last() needs a list, not a generator: add `| list`");
    const std::vector<Value> items = in.elements(value);
    if (!items.empty()) return first ? items.front() : items.back();
    return Undefined{std::make_shared<const std::string>("an empty list has no first or last")};
}

Value join_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("join", a, {"d", "attribute"});
    const std::string separator = bound.given(0) ? to_text(in.heap(), *bound[0]) : "";
    const Path path(in.heap(), bound.given(1) ? *bound[1] : Value(None{}));
    std::string out;
    bool first = true;
    for (const Value& v : in.elements(value)) {
        const std::string part = to_text(in.heap(), path.of(in, v));
        in.heap().charge_bytes(separator.size() + part.size());
        if (!first) out += separator;
        first = false;
        out += part;
    }
    return in.heap().string(std::move(out));
}

Value reverse_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("reverse", a, {});
    std::vector<Value> items = in.elements(value);
    std::reverse(items.begin(), items.end());
    if (!value.is_string()) return generator(in, std::move(items));
    std::string out;
    for (const Value& v : items) out += v.string();
    return in.heap().string(std::move(out));
}

Value items_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("items", a, {});
    if (value.undefined()) return generator(in, {});
    if (!value.is(Kind::dict)) throw Fault("items() needs a dictionary, not a " + type_name(value));
    const Method method = find_method(value, "items");
    return generator(in, method(in, value, {}).list().items);
}

Value dict_sort_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("dictsort", a, {"case_sensitive", "by", "reverse"});
    const std::string by = bound.string(1, "key");
    if (by != "key" && by != "value") throw Fault("dictsort(): `by` is neither key nor value");
    if (!value.is(Kind::dict))
        throw Fault("dictsort() needs a dictionary, not a " + type_name(value));
    const std::vector<Value> pairs = find_method(value, "items")(in, value, {}).list().items;
    std::vector<Value> keys;
    keys.reserve(pairs.size());
    for (const Value& pair : pairs)
        keys.push_back(folded(in, pair.list().items[by == "key" ? 0 : 1], bound.flag(0, false)));
    std::vector<Value> out;
    for (const size_t i : sorted(in, keys, bound.flag(2, false))) out.push_back(pairs[i]);
    return plain_list(in, std::move(out));
}

Value sort_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("sort", a, {"reverse", "case_sensitive", "attribute"});
    std::vector<Path> paths;
    if (bound.given(2) && bound[2]->is_string()) {
        for (const std::string_view part : split(in.heap(), bound[2]->string(), ",", -1)) {
            in.heap().charge(4);
            paths.emplace_back(in.heap(), text(part));
        }
    } else {
        paths.emplace_back(in.heap(), bound.given(2) ? *bound[2] : Value(None{}));
    }
    const std::vector<Value> items = in.elements(value);
    std::vector<Value> keys;
    for (const Value& item : items) {
        List* key = in.heap().list();
        for (const Path& path : paths)
            key->items.push_back(folded(in, path.of(in, item), bound.flag(1, false)));
        keys.emplace_back(key);
    }
    std::vector<Value> out;
    for (const size_t i : sorted(in, keys, bound.flag(0, false))) out.push_back(items[i]);
    return plain_list(in, std::move(out));
}

Value unique_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("unique", a, {"case_sensitive", "attribute"});
    const Path path(in.heap(), bound.given(1) ? *bound[1] : Value(None{}));
    std::vector<Value> seen, out;
    for (const Value& item : in.elements(value)) {
        const Value key = folded(in, path.of(in, item), bound.flag(0, false));
        const bool known = std::any_of(seen.begin(), seen.end(),
                                       [&](const Value& s) { return equal(in.heap(), s, key); });
        if (known) continue;
        seen.push_back(key);
        out.push_back(item);
    }
    return generator(in, std::move(out));
}

template <bool largest>
Value extreme_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound(largest ? "max" : "min", a, {"case_sensitive", "attribute"});
    const Path path(in.heap(), bound.given(1) ? *bound[1] : Value(None{}));
    std::optional<Value> best, best_key;
    for (const Value& item : in.elements(value)) {
        const Value key = folded(in, path.of(in, item), bound.flag(0, false));
        const bool better =
            !best || (largest ? less(in.heap(), *best_key, key) : less(in.heap(), key, *best_key));
        if (!better) continue;
        best = item;
        best_key = key;
    }
    if (best) return *best;
    return Undefined{std::make_shared<const std::string>("an empty list has no min or max")};
}

Value sum_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("sum", a, {"attribute", "start"});
    const Path path(in.heap(), bound.given(0) ? *bound[0] : Value(None{}));
    Value sum = bound.given(1) ? *bound[1] : Value(int64_t{0});
    for (const Value& item : in.elements(value)) sum = in.binary("+", sum, path.of(in, item));
    return sum;
}

Value map_filter(Interpreter& in, const Value& value, const Arguments& a) {
    std::vector<Value> out;
    if (a.values.empty()) {
        const Bound bound("map", a, {"attribute", "default"}, 1);
        const Path path(in.heap(), *bound[0]);
        for (const Value& item : in.elements(value)) out.push_back(path.of(in, item, bound[1]));
    } else {
        if (!a.values[0].is_string()) throw Fault("map() needs the name of a filter");
        Arguments rest = a;
        rest.values.erase(rest.values.begin());
        for (const Value& item : in.elements(value))
            out.push_back(in.filter(a.values[0].string(), item, rest));
    }
    return generator(in, std::move(out));
}

template <bool keep, bool by_attribute>
Value select_filter(Interpreter& in, const Value& value, const Arguments& a) {
    Arguments rest = a;
    Path path(in.heap(), Value(None{}));
    if (by_attribute) {
        if (rest.values.empty()) throw Fault("selectattr() needs the name of an attribute");
        path = Path(in.heap(), rest.values.front());
        rest.values.erase(rest.values.begin());
    }
    std::string test;
    if (!rest.values.empty()) {
        if (!rest.values.front().is_string()) throw Fault("select() needs the name of a test");
        test = rest.values.front().string();
        rest.values.erase(rest.values.begin());
    }
    std::vector<Value> out;
    for (const Value& item : in.elements(value)) {
        const Value tested = path.of(in, item);
        if ((test.empty() ? truth(tested) : in.test(test, tested, rest)) == keep)
            out.push_back(item);
    }
    return generator(in, std::move(out));
}

Value group_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("groupby", a, {"attribute", "default", "case_sensitive"}, 1);
    const Path path(in.heap(), *bound[0]);
    const std::vector<Value> items = in.elements(value);
    std::vector<Value> keys, shown;
    for (const Value& item : items) {
        shown.push_back(path.of(in, item, bound[1]));
        keys.push_back(folded(in, shown.back(), bound.flag(2, false)));
    }
    std::vector<Value> groups;
    const Value* last = nullptr;
    for (const size_t i : sorted(in, keys, false)) {
        if (last == nullptr || !equal(in.heap(), *last, keys[i])) {
            List* group = in.heap().list(List::Type::tuple);
            group->items = {shown[i], Value(in.heap().list())};
            groups.emplace_back(group);
        }
        groups.back().list().items[1].list().items.push_back(items[i]);
        last = &keys[i];
    }
    return plain_list(in, std::move(groups));
}

Value batch_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("batch", a, {"linecount", "fill_with"}, 1);
    const int64_t size = bound.whole(0, 1);
    if (size < 1 || size > 1'000'000) throw Fault("batch(): the size is not from 1 to a million");
    std::vector<Value> out;
    for (const Value& item : in.elements(value)) {
        if (out.empty() || static_cast<int64_t>(out.back().list().items.size()) == size)
            out.emplace_back(in.heap().list());
        out.back().list().items.push_back(item);
    }
    if (!out.empty() && bound.given(1) && !bound[1]->none()) {
        in.heap().charge(size);
        out.back().list().items.resize(static_cast<size_t>(size), *bound[1]);
    }
    return generator(in, std::move(out));
}

Value slice_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("slice", a, {"slices", "fill_with"}, 1);
    const int64_t slices = bound.whole(0, 1);
    if (slices < 1 || slices > 1'000'000) throw Fault("slice(): not from 1 to a million slices");
    const std::vector<Value> items = in.elements(value);
    const auto size = static_cast<int64_t>(items.size());
    const int64_t each = size / slices, longer = size % slices;
    std::vector<Value> out;
    size_t at = 0;
    for (int64_t i = 0; i < slices; ++i) {
        List* part = in.heap().list();
        const auto n = static_cast<size_t>(each + (i < longer ? 1 : 0));
        part->items.assign(items.begin() + static_cast<ptrdiff_t>(at),
                           items.begin() + static_cast<ptrdiff_t>(at + n));
        at += n;
        if (bound.given(1) && !bound[1]->none() && i >= longer) part->items.push_back(*bound[1]);
        out.emplace_back(part);
    }
    return generator(in, std::move(out));
}

Value attribute_filter(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("attr", a, {"name"}, 1);
    // As Python's getattr: what a dictionary holds are no attributes.
    const std::string name = to_text(in.heap(), *bound[0]);
    if (value.is(Kind::dict) && find_method(value, name) == nullptr) return {};
    return in.attribute(value, name);
}

struct Entry {
    std::string_view name;
    Filter filter;
};

constexpr Entry kFilters[] = {
    {"attr", attribute_filter},
    {"batch", batch_filter},
    {"count", length_filter},
    {"dictsort", dict_sort_filter},
    {"first", end_filter<true>},
    {"groupby", group_filter},
    {"items", items_filter},
    {"join", join_filter},
    {"last", end_filter<false>},
    {"length", length_filter},
    {"list", list_filter},
    {"map", map_filter},
    {"max", extreme_filter<true>},
    {"min", extreme_filter<false>},
    {"reject", select_filter<false, false>},
    {"rejectattr", select_filter<false, true>},
    {"reverse", reverse_filter},
    {"select", select_filter<true, false>},
    {"selectattr", select_filter<true, true>},
    {"slice", slice_filter},
    {"sort", sort_filter},
    {"sum", sum_filter},
    {"unique", unique_filter},
};

}  // namespace

Filter find_list_filter(std::string_view name) {
    for (const Entry& entry : kFilters)
        if (entry.name == name) return entry.filter;
    return nullptr;
}

}  // namespace muster::jinja
