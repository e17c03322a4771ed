// SPDX-License-Identifier: Apache-2.0
// The functions that templates find: Jinja's, and those that Hugging Face adds.
#include <ctime>

#include "muster/tokenizer/jinja_interpreter.h"
#include "muster/tokenizer/jinja_loop.h"
#include "muster/tokenizer/utf8.h"

namespace muster::jinja {
namespace {

using Kind = Value::Kind;

constexpr int64_t kMaxRange = 100'000;  // as Jinja's sandbox

Value range(Interpreter& in, const Arguments& a) {
    const Bound bound("range", a, {"start", "stop", "step"}, 1);
    const bool one = !bound.given(1);
    const int64_t start = one ? 0 : bound.whole(0, 0);
    const int64_t stop = one ? bound.whole(0, 0) : bound.whole(1, 0);
    const int64_t step = bound.whole(2, 1);
    if (step == 0) throw Fault("range() has a step of zero");
    // No difference overflows within these bounds.
    constexpr int64_t kFar = int64_t{1} << 60;
    if (std::abs(start) > kFar || std::abs(stop) > kFar || std::abs(step) > kFar)
        throw Fault("range() has a bound that is too large");
    const int64_t distance = step > 0 ? stop - start : start - stop, by = std::abs(step);
    const int64_t count = distance > 0 ? (distance - 1) / by + 1 : 0;
    if (count > kMaxRange) throw Fault("range() has more than 100000 elements");
    List* list = in.heap().list(List::Type::range);
    in.heap().charge(count);
    for (int64_t i = 0; i < count; ++i) list->items.emplace_back(start + i * step);
    list->printed = "range(" + std::to_string(start) + ", " + std::to_string(stop) +
                    (step != 1 ? ", " + std::to_string(step) : "") + ")";
    return Value(list);
}

/// The dictionary that dict(...) and namespace(...) build.
void fill(Interpreter& in, const Arguments& a, Dict& dict) {
    if (a.values.size() > 1) throw Fault("dict() and namespace() take one unnamed argument");
    const auto put = [&](Value key, Value value) {
        dict.set(in.heap(), std::move(key), std::move(value));
    };
    for (const Value& given : a.values) {
        if (given.is(Kind::dict)) {
            for (const auto& [key, value] : given.dict().entries) put(key, value);
            continue;
        }
        for (const Value& pair : in.elements(given)) {
            const std::vector<Value> two = in.elements(pair);
            if (two.size() != 2) throw Fault("dict() needs pairs");
            put(two[0], two[1]);
        }
    }
    for (const auto& [name, value] : a.named) put(in.heap().string(name), value);
}

Value make_dict(Interpreter& in, const Arguments& a) {
    Dict* dict = in.heap().dict();
    fill(in, a, *dict);
    return Value(dict);
}

Value make_namespace(Interpreter& in, const Arguments& a) {
    Namespace* space = in.heap().make<Namespace>();
    fill(in, a, space->attributes);
    return Value(space);
}

/// Gives nothing when called first, then its separator.
class Joiner : public Callable {
  public:
    explicit Joiner(Value separator) : separator_(std::move(separator)) {}
    Value call(Interpreter&, Arguments) override {
        return std::exchange(used_, true) ? separator_ : text("");
    }
    std::string printed() const override { return "<Joiner>"; }

  private:
    Value separator_;
    bool used_ = false;
};

Value make_joiner(Interpreter& in, const Arguments& a) {
    const Bound bound("joiner", a, {"sep"});
    return Value(
        static_cast<Callable*>(in.heap().make<Joiner>(bound.given(0) ? *bound[0] : text(", "))));
}

/// cycler(a, b): next(), current, reset().
class Cycler : public Callable {
  public:
    explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {}
    Value call(Interpreter&, Arguments) override {
        throw Fault("a cycler is called, expected its next()");
    }
    Value attribute(Interpreter& in, std::string_view name) override {
        if (name == "current") return items_[at_];
        if (name == "next")
            return native(in.heap(), "next", [this](Interpreter&, const Arguments&) {
                Value value = items_[at_];
                at_ = (at_ + 1) % items_.size();
                return value;
            });
        if (name == "reset")
            return native(in.heap(), "reset", [this](Interpreter&, const Arguments&) {
                at_ = 0;
                return Value(None{});
            });
        return {};
    }
    std::string printed() const override { return "<Cycler>"; }

  private:
    std::vector<Value> items_;
    size_t at_ = 0;
};

Value make_cycler(Interpreter& in, const Arguments& a) {
    if (a.values.empty()) throw Fault("cycler() has no items, expected at least one");
    return Value(static_cast<Callable*>(in.heap().make<Cycler>(a.values)));
}

Value raise(Interpreter& in, const Arguments& a) {
    const Bound bound("raise_exception", a, {"message"}, 1);
    throw Fault("the template refuses the conversation: " +
                to_text(in.heap(), *bound[0]).substr(0, 1000));
}

Value date_text(Interpreter& in, const Arguments& a) {
    const Bound bound("strftime_now", a, {"format"}, 1);
    const std::string format = to_text(in.heap(), *bound[0]);
    if (format.size() > 1000) throw Fault("strftime_now(): the format is longer than 1000 bytes");
    const std::time_t now = in.now();
    std::tm parts{};
    if (localtime_r(&now, &parts) == nullptr) throw Fault("strftime_now(): there is no date");
    // A mark tells an empty result from one that does not fit.
    const std::string marked = format + "|";
    std::string buffer(64 + 100 * marked.size(), '\0');
    in.heap().charge_bytes(buffer.size());
    const size_t size = std::strftime(buffer.data(), buffer.size(), marked.c_str(), &parts);
    if (size == 0) throw Fault("strftime_now(): the format asks for too much");
    return in.heap().string(to_valid_utf8(buffer.substr(0, size - 1)));
}

}  // namespace

void define_functions(Interpreter& in) {
    const auto define = [&](const char* name, Value (*f)(Interpreter&, const Arguments&)) {
        in.define(name, native(in.heap(), name, f));
    };
    define("range", range);
    define("dict", make_dict);
    define("namespace", make_namespace);
    define("joiner", make_joiner);
    define("cycler", make_cycler);
    define("raise_exception", raise);
    define("strftime_now", date_text);
}

}  // namespace muster::jinja
