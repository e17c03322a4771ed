// SPDX-License-Identifier: Apache-2.0
// Macros and the variable `loop`.
#include <algorithm>

#include "muster/tokenizer/jinja_loop.h"
#include "muster/tokenizer/jinja_macro.h"

namespace muster::jinja {

Value Macro::call(Interpreter& interpreter, Arguments arguments) {
    auto inner = std::make_shared<Scope>();
    inner->parent = scope_;
    const std::vector<Parameter>& parameters = definition_.parameters;
    const size_t given = std::min(parameters.size(), arguments.values.size());
    // Undefined ones first: a default may name another parameter, but none around the macro.
    for (const Parameter& p : parameters)
        inner->set(interpreter.heap(), p.name,
                   Undefined{std::make_shared<const std::string>(
                       "parameter '" + p.name.substr(0, 100) + "' was not provided")});
    std::vector<bool> filled(parameters.size());
    for (size_t i = 0; i < given; ++i) {
        inner->set(interpreter.heap(), parameters[i].name, std::move(arguments.values[i]));
        filled[i] = true;
    }
    arguments.values.erase(arguments.values.begin(),
                           arguments.values.begin() + static_cast<ptrdiff_t>(given));
    for (size_t i = 0; i < parameters.size(); ++i) {
        interpreter.heap().charge_search(arguments.named.size());
        const auto named =
            std::find_if(arguments.named.begin(), arguments.named.end(), [&](const auto& entry) {
                return equal(interpreter.heap(), entry.first, parameters[i].name);
            });
        if (named != arguments.named.end()) {
            if (filled[i])
                throw Fault("macro '" + name_ + "' got two values for '" + named->first + "'");
            inner->set(interpreter.heap(), named->first, std::move(named->second));
            arguments.named.erase(named);
        } else if (!filled[i] && parameters[i].fallback) {
            inner->set(interpreter.heap(), parameters[i].name,
                       interpreter.evaluate_in(*parameters[i].fallback, inner));
        }
    }
    bind_more(interpreter, arguments, *inner);
    return interpreter.heap().string(interpreter.captured(definition_.blocks[0], inner));
}

/// What no parameter took.
void Macro::bind_more(Interpreter& interpreter, Arguments& arguments, Scope& scope) const {
    if (definition_.takes_caller) {
        Value caller = Undefined{std::make_shared<const std::string>("No caller defined")};
        const auto given = std::find_if(arguments.named.begin(), arguments.named.end(),
                                        [](const auto& entry) { return entry.first == "caller"; });
        if (given != arguments.named.end()) {
            caller = given->second;
            arguments.named.erase(given);
        }
        scope.set(interpreter.heap(), "caller", caller);
    }
    if (!arguments.values.empty() && !definition_.takes_more_values)
        throw Fault("macro '" + name_ + "' takes at most " +
                    std::to_string(definition_.parameters.size()) + " arguments");
    if (!arguments.named.empty() && !definition_.takes_more_named)
        throw Fault("macro '" + name_ + "' takes no argument named '" +
                    arguments.named.front().first + "'");
    if (definition_.takes_more_values) {
        List* more = interpreter.heap().list(List::Type::tuple);
        more->items = std::move(arguments.values);
        scope.set(interpreter.heap(), "varargs", Value(more));
    }
    if (definition_.takes_more_named) {
        Dict* more = interpreter.heap().dict();
        for (auto& [name, value] : arguments.named)
            more->set(interpreter.heap(), interpreter.heap().string(name), std::move(value));
        scope.set(interpreter.heap(), "kwargs", Value(more));
    }
}

Value Macro::attribute(Interpreter& interpreter, std::string_view name) {
    return name == "name" ? interpreter.heap().string(name_) : Value();
}

Value Loop::call(Interpreter& interpreter, Arguments arguments) {
    if (!statement_.recursive) throw Fault("`loop` is called, expected a loop that is recursive");
    const Bound bound("loop", arguments, {"iterable"}, 1);
    return interpreter.heap().string(
        interpreter.captured_turns(statement_, *bound[0], depth_ + 1, scope_));
}

std::string Loop::printed() const {
    return "<LoopContext " + std::to_string(turn_ + 1) + "/" + std::to_string(size()) + ">";
}

bool Loop::changed(Interpreter& interpreter, std::vector<Value> values) {
    bool same = called_ && values.size() == last_.size();
    for (size_t i = 0; same && i < values.size(); ++i)
        same = equal(interpreter.heap(), values[i], last_[i]);
    called_ = true;
    if (!same) last_ = std::move(values);
    return !same;
}

Value Loop::attribute(Interpreter& interpreter, std::string_view name) {
    const auto neighbour = [&](int64_t i, const char* none) {
        if (i >= 0 && i < size()) return items_[static_cast<size_t>(i)];
        return Value(Undefined{std::make_shared<const std::string>(none)});
    };
    if (name == "index") return Value(turn_ + 1);
    if (name == "index0") return Value(turn_);
    if (name == "revindex") return Value(size() - turn_);
    if (name == "revindex0") return Value(size() - turn_ - 1);
    if (name == "first") return Value(turn_ == 0);
    if (name == "last") return Value(turn_ + 1 == size());
    if (name == "length") return Value(size());
    if (name == "depth") return Value(depth_ + 1);
    if (name == "depth0") return Value(depth_);
    if (name == "previtem") return neighbour(turn_ - 1, "there is no previous item");
    if (name == "nextitem") return neighbour(turn_ + 1, "there is no next item");
    if (name == "cycle") {
        return native(interpreter.heap(), "cycle", [this](Interpreter&, const Arguments& a) {
            if (a.values.empty()) throw Fault("loop.cycle() has no items, expected at least one");
            return a.values[static_cast<size_t>(turn_) % a.values.size()];
        });
    }
    if (name == "changed") {
        return native(interpreter.heap(), "changed", [this](Interpreter& i, const Arguments& a) {
            return Value(changed(i, a.values));
        });
    }
    return {};
}

}  // namespace muster::jinja
