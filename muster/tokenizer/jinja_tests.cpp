// SPDX-License-Identifier: Apache-2.0
// Tests (`x is defined`), as in Jinja2 3.1.
#include "muster/tokenizer/jinja_interpreter.h"
#include "muster/tokenizer/jinja_text.h"

namespace muster::jinja {
namespace {

using Kind = Value::Kind;

template <auto holds>
bool simple(Interpreter&, const Value& value, const Arguments& a) {
    const Bound bound("the test", a, {});
    return holds(value);
}

template <Case which>
bool with_case(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("the test", a, {});
    return case_of(to_text(in.heap(), value)) == which;
}

template <auto holds>
bool with_other(Interpreter& in, const Value& value, const Arguments& a) {
    const Bound bound("the test", a, {"other"}, 1);
    return holds(in, value, *bound[0]);
}

bool iterable(const Value& v) {
    return v.undefined() || v.is_string() || v.is(Kind::list) || v.is(Kind::dict);
}

/// What has a length and elements by key: generators and views of dictionaries have none.
bool sequence(const Value& v) {
    if (v.is(Kind::list)) return v.list().indexable();
    return v.undefined() || v.is_string() || v.is(Kind::dict);
}

bool same_rest(const Value& v, int64_t divisor, int64_t rest) {
    if (v.undefined()) fail_undefined(v);
    if (!v.is_whole()) throw Fault("a test of whole numbers got a " + type_name(v));
    return v.whole() % divisor == rest || v.whole() % divisor == -rest;
}

bool divisible(Interpreter&, const Value& v, const Value& by) {
    if (!by.is_whole() || by.whole() == 0) throw Fault("divisibleby() needs a whole number, not 0");
    return by.whole() == -1 || same_rest(v, by.whole(), 0);
}

bool identical(Interpreter& in, const Value& a, const Value& b) { return same(in.heap(), a, b); }
bool equals(Interpreter& in, const Value& a, const Value& b) { return equal(in.heap(), a, b); }
bool differs(Interpreter& in, const Value& a, const Value& b) { return !equals(in, a, b); }
bool below(Interpreter& in, const Value& a, const Value& b) { return less(in.heap(), a, b); }
bool above(Interpreter& in, const Value& a, const Value& b) { return less(in.heap(), b, a); }
bool at_most(Interpreter& in, const Value& a, const Value& b) {
    return below(in, a, b) || equals(in, a, b);
}
bool at_least(Interpreter& in, const Value& a, const Value& b) {
    return above(in, a, b) || equals(in, a, b);
}
bool inside(Interpreter& in, const Value& a, const Value& b) { return in.contains(b, a); }

struct Entry {
    std::string_view name;
    Test test;
};

constexpr Entry kTests[] = {
    {"boolean", simple<[](const Value& v) { return v.is(Kind::boolean); }>},
    {"callable", simple<[](const Value& v) { return v.is(Kind::callable); }>},
    {"defined", simple<[](const Value& v) { return !v.undefined(); }>},
    {"divisibleby", with_other<divisible>},
    {"eq", with_other<equals>},
    {"equalto", with_other<equals>},
    {"even", simple<[](const Value& v) { return same_rest(v, 2, 0); }>},
    {"false", simple<[](const Value& v) { return v.is(Kind::boolean) && !v.boolean(); }>},
    {"filter", simple<[](const Value& v) { return v.is_string() && is_filter(v.string()); }>},
    {"float", simple<[](const Value& v) { return v.is(Kind::real); }>},
    {"ge", with_other<at_least>},
    {"greaterthan", with_other<above>},
    {"gt", with_other<above>},
    {"in", with_other<inside>},
    {"integer", simple<[](const Value& v) { return v.is(Kind::integer); }>},
    {"iterable", simple<iterable>},
    {"le", with_other<at_most>},
    {"lessthan", with_other<below>},
    {"lower", with_case<Case::lower>},
    {"lt", with_other<below>},
    {"mapping", simple<[](const Value& v) { return v.is(Kind::dict); }>},
    {"ne", with_other<differs>},
    {"none", simple<[](const Value& v) { return v.none(); }>},
    {"number", simple<[](const Value& v) { return v.is_number(); }>},
    {"odd", simple<[](const Value& v) { return same_rest(v, 2, 1); }>},
    {"sameas", with_other<identical>},
    {"sequence", simple<sequence>},
    {"string", simple<[](const Value& v) { return v.is_string(); }>},
    {"test", simple<[](const Value& v) { return v.is_string() && find_test(v.string()); }>},
    {"true", simple<[](const Value& v) { return v.is(Kind::boolean) && v.boolean(); }>},
    {"undefined", simple<[](const Value& v) { return v.undefined(); }>},
    {"upper", with_case<Case::upper>},
    {"==", with_other<equals>},
    {"!=", with_other<differs>},
    {"<", with_other<below>},
    {"<=", with_other<at_most>},
    {">", with_other<above>},
    {">=", with_other<at_least>},
};

}  // namespace

Test find_test(std::string_view name) {
    for (const Entry& entry : kTests)
        if (entry.name == name) return entry.test;
    return nullptr;
}

}  // namespace muster::jinja
