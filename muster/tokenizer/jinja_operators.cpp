// SPDX-License-Identifier: Apache-2.0
// Arithmetic, slices and the binding of arguments.
#include <algorithm>
#include <cmath>

#include "muster/tokenizer/jinja_interpreter.h"

namespace muster::jinja {
namespace {

using Kind = Value::Kind;

[[noreturn]] void overflow() { throw Fault("a whole number does not fit 64 bits"); }

[[noreturn]] void unsupported(const std::string& op, const Value& a, const Value& b) {
    throw Fault("`" + op + "` stands between '" + type_name(a) + "' and '" + type_name(b) + "'");
}

int64_t floor_divide(int64_t a, int64_t b) {
    if (a == INT64_MIN && b == -1) overflow();
    const int64_t q = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

int64_t modulo(int64_t a, int64_t b) {
    if (b == -1) return 0;
    const int64_t r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

double modulo(double a, double b) {
    const double r = std::fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

int64_t whole_power(int64_t base, int64_t exponent) {
    int64_t result = 1;
    for (; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) overflow();
        if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) overflow();
    }
    return result;
}

Value whole_arithmetic(const std::string& op, int64_t a, int64_t b) {
    int64_t result = 0;
    if (op == "+" && !__builtin_add_overflow(a, b, &result)) return Value(result);
    if (op == "-" && !__builtin_sub_overflow(a, b, &result)) return Value(result);
    if (op == "*" && !__builtin_mul_overflow(a, b, &result)) return Value(result);
    if (op == "**") {
        if (b >= 0) return Value(whole_power(a, b));
        if (a == 0) throw Fault("0 is raised to a negative power");
        return Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
    }
    if (op == "//") return Value(floor_divide(a, b));
    if (op == "%") return Value(modulo(a, b));
    if (op == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
    overflow();
}

Value real_arithmetic(const std::string& op, double a, double b) {
    if (op == "+") return Value(a + b);
    if (op == "-") return Value(a - b);
    if (op == "*") return Value(a * b);
    if (op == "/") return Value(a / b);
    if (op == "//") return Value(std::floor(a / b));
    if (op == "%") return Value(modulo(a, b));
    const double result = std::pow(a, b);
    if (std::isnan(result) && !std::isnan(a) && !std::isnan(b))
        throw Fault("a negative number is raised to a broken power");
    return Value(result);
}

bool is_plain(const Value& v) { return v.is(Kind::list) && v.list().type <= List::Type::tuple; }

Value repeated(Heap& heap, const Value& what, int64_t times) {
    times = std::max<int64_t>(times, 0);
    if (what.is_string()) {
        const std::string& s = what.string();
        if (!s.empty() && times > static_cast<int64_t>((size_t{64} << 20) / s.size()))
            throw Fault("a repeated string is too long, expected at most 64 MiB");
        heap.charge_bytes(s.size() * static_cast<size_t>(times));
        std::string out;
        for (int64_t i = 0; i < times && !s.empty(); ++i) out += s;
        return heap.string(std::move(out));
    }
    List* list = heap.list(what.list().type);
    const auto size = static_cast<int64_t>(what.list().items.size());
    if (size > 0 && times > heap.limits().steps / size) heap.charge(heap.limits().steps);
    heap.charge(size * times);
    const std::vector<Value> items = what.list().items;
    for (int64_t i = 0; i < times && size > 0; ++i)
        list->items.insert(list->items.end(), items.begin(), items.end());
    return Value(list);
}

}  // namespace

Value Interpreter::binary(const std::string& op, const Value& a, const Value& b) {
    if (a.undefined()) fail_undefined(a);
    if (a.is_string() && op == "%") return heap_.string(format_percent(heap_, a.string(), b));
    if (b.undefined()) fail_undefined(b);
    if (a.is_number() && b.is_number()) {
        const bool divides = op == "/" || op == "//" || op == "%";
        if (divides && b.real() == 0) throw Fault("`" + op + "` divides by zero");
        if (a.is_whole() && b.is_whole()) return whole_arithmetic(op, a.whole(), b.whole());
        return real_arithmetic(op, a.real(), b.real());
    }
    if (op == "+" && a.is_string() && b.is_string()) {
        heap_.charge_bytes(a.string().size() + b.string().size());
        return heap_.string(a.string() + b.string());
    }
    if (op == "+" && is_plain(a) && is_plain(b) && a.list().type == b.list().type) {
        List* list = heap_.list(a.list().type);
        heap_.charge(static_cast<int64_t>(a.list().items.size() + b.list().items.size()));
        list->items = a.list().items;
        const std::vector<Value>& more = b.list().items;
        list->items.insert(list->items.end(), more.begin(), more.end());
        return Value(list);
    }
    if (op == "*" && (a.is_string() || is_plain(a)) && b.is_whole())
        return repeated(heap_, a, b.whole());
    if (op == "*" && (b.is_string() || is_plain(b)) && a.is_whole())
        return repeated(heap_, b, a.whole());
    unsupported(op, a, b);
}

SliceBounds slice_bounds(const Value& begin, const Value& end, const Value& step, int64_t size) {
    const auto whole = [](const Value& v, int64_t fallback) {
        if (v.none()) return fallback;
        if (!v.is_whole()) throw Fault("a slice's bound is a " + type_name(v) + ", expected int");
        return v.whole();
    };
    SliceBounds s{};
    s.step = whole(step, 1);
    if (s.step == 0) throw Fault("a slice's step is zero");
    const int64_t low = s.step > 0 ? 0 : -1, high = s.step > 0 ? size : size - 1;
    const auto clamped = [&](const Value& v, int64_t fallback) {
        if (v.none()) return fallback;
        const int64_t i = whole(v, 0);
        return std::clamp(i < 0 ? i + size : i, low, high);
    };
    s.begin = clamped(begin, s.step > 0 ? low : high);
    s.end = clamped(end, s.step > 0 ? high : low);
    return s;
}

std::vector<int64_t> SliceBounds::positions() const {
    std::vector<int64_t> out;
    int64_t i = begin;
    while (step > 0 ? i < end : i > end) {
        out.push_back(i);
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    return out;
}

Bound::Bound(std::string_view function, const Arguments& arguments,
             std::initializer_list<std::string_view> names, size_t required)
    : function_(function), values_(names.size(), nullptr), names_(names) {
    const std::string who = std::string(function) + "()";
    if (arguments.values.size() > names.size())
        throw Fault(who + " has " + std::to_string(arguments.values.size()) +
                    " arguments, expected at most " + std::to_string(names.size()));
    for (size_t i = 0; i < arguments.values.size(); ++i) values_[i] = &arguments.values[i];
    for (const auto& [name, value] : arguments.named) {
        const auto at = std::find(names_.begin(), names_.end(), name);
        if (at == names_.end()) throw Fault(who + " has no parameter named '" + name + "'");
        const auto i = static_cast<size_t>(at - names_.begin());
        if (values_[i] != nullptr) throw Fault(who + " got two values for '" + name + "'");
        values_[i] = &value;
    }
    for (size_t i = 0; i < required; ++i)
        if (values_[i] == nullptr)
            throw Fault(who + " needs a value for '" + std::string(names_[i]) + "'");
}

int64_t Bound::whole(size_t i, int64_t fallback) const {
    const Value* v = values_[i];
    if (v == nullptr) return fallback;
    if (!v->is_whole())
        throw Fault(std::string(function_) + "(): '" + std::string(names_[i]) + "' is a " +
                    type_name(*v) + ", expected int");
    return v->whole();
}

bool Bound::flag(size_t i, bool fallback) const {
    return values_[i] == nullptr ? fallback : truth(*values_[i]);
}

const std::string& Bound::string(size_t i, const std::string& fallback) const {
    const Value* v = values_[i];
    if (v == nullptr) return fallback;
    if (!v->is_string())
        throw Fault(std::string(function_) + "(): '" + std::string(names_[i]) + "' is a " +
                    type_name(*v) + ", expected str");
    return v->string();
}

}  // namespace muster::jinja
