// SPDX-License-Identifier: Apache-2.0
// Expressions.
#include <algorithm>

#include "muster/tokenizer/jinja_depth.h"
#include "muster/tokenizer/jinja_interpreter.h"
#include "muster/tokenizer/jinja_loop.h"
#include "muster/tokenizer/jinja_text.h"
#include "muster/tokenizer/utf8.h"

namespace muster::jinja {
namespace {

using Kind = Value::Kind;
using Type = Expression::Type;

Undefined missing(std::string what) {
    return Undefined{std::make_shared<const std::string>(std::move(what))};
}

Value no_attribute(const Value& object, std::string_view name) {
    return missing("'" + type_name(object) + " object' has no attribute '" +
                   std::string(name.substr(0, 100)) + "'");
}

}  // namespace

Value Interpreter::evaluate(const Expression& e) {
    heap_.charge(1);
    line_ = e.line;
    switch (e.type) {
        case Type::constant:
            return e.value;
        case Type::name:
            return name(e);
        default: {
            const Depth depth(depth_, heap_.limits());
            return evaluate_compound(e);
        }
    }
}

Value Interpreter::evaluate_compound(const Expression& e) {
    const auto child = [&](size_t i) { return evaluate(*e.children[i]); };
    switch (e.type) {
        case Type::list:
        case Type::tuple:
            return sequence(e);
        case Type::dict:
            return mapping(e);
        case Type::negative:
            return negative(e);
        case Type::positive: {
            Value value = child(0);
            if (value.undefined()) fail_undefined(value);
            if (!value.is_number()) throw Fault("+ stands before a " + type_name(value));
            return value.is(Kind::boolean) ? Value(value.whole()) : value;
        }
        case Type::invert:
            return Value(!truth(child(0)));
        case Type::binary: {
            const Value a = child(0), b = child(1);
            line_ = e.line;
            return binary(e.text, a, b);
        }
        case Type::concat:
            return concatenation(e);
        case Type::both: {
            Value a = child(0);
            return truth(a) ? child(1) : a;
        }
        case Type::either: {
            Value a = child(0);
            return truth(a) ? a : child(1);
        }
        case Type::compare:
            return comparison(e);
        case Type::conditional:
            if (truth(child(0))) return child(1);
            if (e.children[2]) return child(2);
            return missing("the inline if-expression evaluated to false and has no else");
        case Type::attribute: {
            const Value object = child(0);
            line_ = e.line;
            return attribute(object, e.text);
        }
        case Type::item: {
            const Value object = child(0), key = child(1);
            line_ = e.line;
            return item(object, key);
        }
        case Type::slice:
            return slice(e);
        case Type::call:
            return call_expression(e);
        case Type::filter:
            return filtered(e, nullptr);
        case Type::test:
            return Value(tested(e));
        default:
            return {};
    }
}

Value Interpreter::name(const Expression& e) {
    for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get())
        if (const Value* found = scope->find_here(heap_, e.text)) return *found;
    return missing("'" + e.text.substr(0, 100) + "' is undefined");
}

Value Interpreter::sequence(const Expression& e) {
    List* list = heap_.list(e.type == Type::list ? List::Type::list : List::Type::tuple);
    list->items.reserve(e.children.size());
    for (const ExpressionPtr& child : e.children) list->items.push_back(evaluate(*child));
    return Value(list);
}

Value Interpreter::mapping(const Expression& e) {
    Dict* dict = heap_.dict();
    for (size_t i = 0; i < e.children.size(); i += 2) {
        Value key = evaluate(*e.children[i]);
        dict->set(heap_, std::move(key), evaluate(*e.children[i + 1]));
    }
    return Value(dict);
}

Value Interpreter::comparison(const Expression& e) {
    Value left = evaluate(*e.children[0]);
    for (size_t i = 0; i < e.operators.size(); ++i) {
        Value right = evaluate(*e.children[i + 1]);
        line_ = e.line;
        const std::string& op = e.operators[i];
        bool holds = false;
        if (op == "==" || op == "!=") {
            holds = equal(heap_, left, right) == (op == "==");
        } else if (op == "in" || op == "not in") {
            holds = contains(right, left) == (op == "in");
        } else if (op == "<") {
            holds = less(heap_, left, right);
        } else if (op == ">") {
            holds = less(heap_, right, left);
        } else {
            const Value &a = op == "<=" ? left : right, &b = op == "<=" ? right : left;
            holds = less(heap_, a, b) || equal(heap_, a, b);
        }
        if (!holds) return Value(false);
        left = std::move(right);
    }
    return Value(true);
}

Value Interpreter::concatenation(const Expression& e) {
    std::string joined;
    for (const ExpressionPtr& child : e.children) joined += to_text(heap_, evaluate(*child));
    return heap_.string(std::move(joined));
}

Value Interpreter::negative(const Expression& e) {
    const Value value = evaluate(*e.children[0]);
    if (value.undefined()) fail_undefined(value);
    if (value.is(Kind::real)) return Value(-value.real());
    if (!value.is_whole()) throw Fault("- stands before a " + type_name(value));
    return binary("-", Value(int64_t{0}), value);
}

Value Interpreter::slice(const Expression& e) {
    const Value object = evaluate(*e.children[0]);
    Value bounds[3] = {None{}, None{}, None{}};
    for (size_t i = 0; i < 3; ++i)
        if (e.children[i + 1]) bounds[i] = evaluate(*e.children[i + 1]);
    line_ = e.line;
    if (object.undefined()) fail_undefined(object);
    if (object.is_string()) {
        const std::string& s = object.string();
        heap_.charge_bytes(s.size());
        const auto cut = slice_bounds(bounds[0], bounds[1], bounds[2], count_characters(s));
        std::string out;
        if (cut.step == 1) {
            const size_t begin = character_offset(s, cut.begin);
            const size_t end = character_offset(s, std::max(cut.begin, cut.end));
            return heap_.string(s.substr(begin, end - begin));
        }
        heap_.charge(static_cast<int64_t>(s.size()));
        const std::vector<size_t> offsets = character_offsets(s);
        for (const int64_t i : cut.positions()) {
            const auto at = static_cast<size_t>(i);
            out.append(s, offsets[at], offsets[at + 1] - offsets[at]);
        }
        return heap_.string(std::move(out));
    }
    if (!object.is(Kind::list) || !object.list().indexable())
        throw Fault("a " + type_name(object) + " cannot be sliced");
    const List& list = object.list();
    List* part = heap_.list(list.type == List::Type::tuple ? List::Type::tuple : List::Type::list);
    const auto cut =
        slice_bounds(bounds[0], bounds[1], bounds[2], static_cast<int64_t>(list.items.size()));
    heap_.charge(static_cast<int64_t>(list.items.size()));
    for (const int64_t i : cut.positions())
        part->items.push_back(list.items[static_cast<size_t>(i)]);
    return Value(part);
}

Arguments Interpreter::arguments(const Expression& e, size_t first) {
    Arguments a;
    a.values.reserve(e.children.size() - first);
    for (size_t i = first; i < e.children.size(); ++i) a.values.push_back(evaluate(*e.children[i]));
    for (const auto& [name, value] : e.named) {
        heap_.charge_bytes(name.size());
        a.named.emplace_back(name, evaluate(*value));
    }
    if (e.more_values)
        for (Value& value : elements(evaluate(*e.more_values)))
            a.values.push_back(std::move(value));
    if (e.more_named) {
        const Value more = evaluate(*e.more_named);
        if (!more.is(Kind::dict)) throw Fault("** needs a dictionary, not a " + type_name(more));
        for (const auto& [key, value] : more.dict().entries)
            a.named.emplace_back(to_text(heap_, key), value);
    }
    line_ = e.line;
    return a;
}

Value Interpreter::call_expression(const Expression& e, const Value* caller) {
    const Value function = evaluate(*e.children[0]);
    Arguments a = arguments(e, 1);
    if (caller != nullptr) a.named.emplace_back("caller", *caller);
    return call(function, std::move(a));
}

Value Interpreter::call(const Value& function, Arguments arguments) {
    if (function.undefined()) fail_undefined(function);
    if (!function.is(Kind::callable))
        throw Fault("a " + type_name(function) + " is called, expected a function");
    heap_.charge(4);
    return function.callable().call(*this, std::move(arguments));
}

Value Interpreter::filtered(const Expression& e, const Value* innermost) {
    const Depth depth(depth_, heap_.limits());
    Value value;
    if (!e.children[0]) {
        value = *innermost;
    } else if (innermost != nullptr) {
        value = filtered(*e.children[0], innermost);
    } else {
        value = evaluate(*e.children[0]);
    }
    return filter(e.text, value, arguments(e, 1));
}

bool Interpreter::tested(const Expression& e) {
    const Value value = evaluate(*e.children[0]);
    return test(e.text, value, arguments(e, 1));
}

/// What filters, tests and methods are given; they may read all of it without charging again.
void Interpreter::charge_reading(const Value& value, const Arguments& arguments) {
    heap_.charge(static_cast<int64_t>(arguments.values.size() + arguments.named.size()));
    heap_.charge_string(value);
    for (const Value& argument : arguments.values) heap_.charge_string(argument);
    for (const auto& [name, argument] : arguments.named) {
        heap_.charge_bytes(name.size());
        heap_.charge_string(argument);
    }
}

Value Interpreter::filter(const std::string& name, const Value& value, const Arguments& arguments) {
    heap_.charge(2);
    charge_reading(value, arguments);
    Filter function = find_text_filter(name);
    if (function == nullptr) function = find_list_filter(name);
    if (function == nullptr) throw Fault("there is no filter named '" + name.substr(0, 100) + "'");
    return function(*this, value, arguments);
}

bool Interpreter::test(const std::string& name, const Value& value, const Arguments& arguments) {
    heap_.charge(2 + static_cast<int64_t>(arguments.values.size() + arguments.named.size()));
    const Test function = find_test(name);
    if (function == nullptr) throw Fault("there is no test named '" + name.substr(0, 100) + "'");
    return function(*this, value, arguments);
}

Value Interpreter::attribute(const Value& object, std::string_view name) {
    if (object.undefined()) fail_undefined(object);
    if (const Method method = find_method(object, name))
        return native(heap_, std::string(name),
                      [object, method](Interpreter& i, const Arguments& a) {
                          i.charge_reading(object, a);
                          return method(i, object, a);
                      });
    const Value* found = nullptr;
    if (object.is(Kind::dict)) found = object.dict().find(heap_, name);
    if (object.is(Kind::space)) found = object.space().attributes.find(heap_, name);
    if (found != nullptr) return *found;
    if (object.is(Kind::callable)) {
        Value value = object.callable().attribute(*this, name);
        if (!value.undefined() || value.missing().what) return value;
    }
    return no_attribute(object, name);
}

Value Interpreter::item(const Value& object, const Value& key) {
    heap_.charge(1);
    if (object.undefined()) fail_undefined(object);
    if (object.is(Kind::dict)) {
        if (const Value* found = object.dict().find(heap_, key)) return *found;
    } else if (key.is_whole() && object.is(Kind::list) && object.list().indexable()) {
        const std::vector<Value>& items = object.list().items;
        const auto size = static_cast<int64_t>(items.size());
        const int64_t i = key.whole() < 0 ? key.whole() + size : key.whole();
        if (i >= 0 && i < size) return items[static_cast<size_t>(i)];
    } else if (key.is_whole() && object.is_string()) {
        const std::string& s = object.string();
        heap_.charge_bytes(s.size());
        const int64_t size = count_characters(s);
        const int64_t i = key.whole() < 0 ? key.whole() + size : key.whole();
        if (i >= 0 && i < size) {
            const size_t begin = character_offset(s, i);
            return heap_.string(
                s.substr(begin, next_utf8(std::string_view(s).substr(begin)).bytes));
        }
    }
    if (key.is_string()) return attribute(object, key.string());
    return missing("a " + type_name(object) + " has no element " +
                   representation(heap_, key).substr(0, 100));
}

std::vector<Value> Interpreter::elements(const Value& iterable) {
    std::vector<Value> out;
    switch (iterable.kind()) {
        case Kind::undefined:
            break;
        case Kind::string: {
            const std::string& s = iterable.string();
            heap_.charge(4 * count_characters(s));
            for (size_t i = 0; i < s.size();) {
                const uint32_t bytes = next_utf8(std::string_view(s).substr(i)).bytes;
                out.push_back(text(std::string_view(s).substr(i, bytes)));
                i += bytes;
            }
            break;
        }
        case Kind::list:
            heap_.charge(static_cast<int64_t>(iterable.list().items.size()));
            out = iterable.list().items;
            if (iterable.list().type == List::Type::generator) iterable.list().items.clear();
            break;
        case Kind::dict:
            heap_.charge(static_cast<int64_t>(iterable.dict().entries.size()));
            for (const auto& entry : iterable.dict().entries) out.push_back(entry.first);
            break;
        default:
            throw Fault("'" + type_name(iterable) + "' object is not iterable");
    }
    return out;
}

bool Interpreter::contains(const Value& container, const Value& element) {
    if (container.is_string()) {
        if (element.undefined()) fail_undefined(element);
        if (!element.is_string())
            throw Fault("`in` looks for a " + type_name(element) + " in a string");
        heap_.charge_string(container);
        heap_.charge_string(element);
        return find_text(heap_, container.string(), element.string()) != std::string::npos;
    }
    if (container.is(Kind::dict)) {
        return container.dict().find(heap_, element) != nullptr;
    }
    const std::vector<Value> values = elements(container);
    return std::any_of(values.begin(), values.end(),
                       [&](const Value& v) { return equal(heap_, v, element); });
}

}  // namespace muster::jinja
