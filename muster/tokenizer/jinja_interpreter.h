// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ctime>
#include <initializer_list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "muster/tokenizer/jinja_ast.h"
#include "muster/tokenizer/jinja_value.h"

namespace muster::jinja {

/// Names and their values; a loop's turn, a macro's call and some blocks have one of their own.
struct Scope {
    std::vector<std::pair<std::string, Value>> names;
    std::shared_ptr<Scope> parent;

    /// Their cost is charged.
    const Value* find_here(Heap& heap, std::string_view name) const;
    void set(Heap& heap, std::string_view name, Value value);
};
using ScopePtr = std::shared_ptr<Scope>;

/// Renders one parsed template once. What is wrong in the template's doing is a Fault inside and a
/// muster::Error with the line outside.
class Interpreter {
  public:
    Interpreter(const Limits& limits, std::time_t now);

    /// Gives the template a variable.
    void define(std::string_view name, Value value) {
        globals_->set(heap_, name, std::move(value));
    }
    /// Throws muster::Error.
    std::string render(const Block& block);

    Heap& heap() noexcept { return heap_; }
    std::time_t now() const noexcept { return now_; }

    Value call(const Value& function, Arguments arguments);
    /// Throws Fault when there is no filter or test of that name.
    Value filter(const std::string& name, const Value& value, const Arguments& arguments);
    bool test(const std::string& name, const Value& value, const Arguments& arguments);
    /// `object[key]` and `object.name`; undefined where there is nothing.
    Value item(const Value& object, const Value& key);
    Value attribute(const Value& object, std::string_view name);
    /// The elements, characters or keys; uses a generator up. Throws Fault.
    std::vector<Value> elements(const Value& iterable);
    bool contains(const Value& container, const Value& element);
    Value binary(const std::string& op, const Value& a, const Value& b);

    /// Runs a block with its own output, which it returns.
    std::string captured(const Block& block, ScopePtr scope);
    /// The turns of a loop over `items`; `scope` is what stands around the loop.
    enum class Flow { on, leave, next };
    Flow turns(const Statement& s, std::vector<Value> items, int64_t depth, const ScopePtr& scope);
    /// The output of turns(), for loops that call themselves.
    std::string captured_turns(const Statement& loop, const Value& iterable, int64_t depth,
                               const ScopePtr& scope);
    Value evaluate_in(const Expression& e, const ScopePtr& scope);

  private:
    class Depth;

    Flow execute(const Block& block);
    Flow execute(const Statement& statement);
    Flow branch(const Statement& statement);
    Flow loop(const Statement& statement);
    Flow with(const Statement& statement);
    void write(std::string_view text);
    void assign(const Target& target, const Value& value);
    void assign_several(const Target& target, const Value& value);
    void define_macro(const Statement& statement);
    void call_block(const Statement& statement);
    std::vector<Value> chosen(const Statement& loop, std::vector<Value> items,
                              const ScopePtr& scope);

    Value evaluate(const Expression& e);
    Value evaluate_compound(const Expression& e);
    Value name(const Expression& e);
    Value sequence(const Expression& e);
    Value mapping(const Expression& e);
    Value comparison(const Expression& e);
    Value concatenation(const Expression& e);
    Value negative(const Expression& e);
    Value slice(const Expression& e);
    Value call_expression(const Expression& e, const Value* caller = nullptr);
    Value filtered(const Expression& e, const Value* innermost);
    bool tested(const Expression& e);
    Arguments arguments(const Expression& e, size_t first);
    void charge_reading(const Value& value, const Arguments& arguments);

    Heap heap_;
    std::time_t now_;
    ScopePtr globals_;
    ScopePtr scope_;
    std::string* out_ = nullptr;
    size_t written_ = 0;
    int line_ = 0;
    int depth_ = 0;
};

/// A call's arguments under the names of a function's parameters. Throws Fault for too many, too
/// few, unknown or repeated ones. Views live as long as `arguments`.
class Bound {
  public:
    Bound(std::string_view function, const Arguments& arguments,
          std::initializer_list<std::string_view> names, size_t required = 0);

    /// Null: not given.
    const Value* operator[](size_t i) const noexcept { return values_[i]; }
    bool given(size_t i) const noexcept { return values_[i] != nullptr; }
    /// Typed; throw Fault for another type.
    int64_t whole(size_t i, int64_t fallback) const;
    bool flag(size_t i, bool fallback) const;
    const std::string& string(size_t i, const std::string& fallback) const;

  private:
    std::string_view function_;
    std::vector<const Value*> values_;
    std::vector<std::string_view> names_;
};

using Method = Value (*)(Interpreter&, const Value& self, const Arguments&);
/// Python's methods of strings, lists and dictionaries; null: there is none of that name.
Method find_method(const Value& self, std::string_view name);
using Filter = Value (*)(Interpreter&, const Value& value, const Arguments&);
Filter find_text_filter(std::string_view name);
Filter find_list_filter(std::string_view name);
using Test = bool (*)(Interpreter&, const Value& value, const Arguments&);
Test find_test(std::string_view name);
/// Whether there is a filter (of any kind) of that name.
bool is_filter(std::string_view name);

/// range, namespace, dict, joiner, cycler, raise_exception, strftime_now.
void define_functions(Interpreter& interpreter);

/// Positions of Python's slice over `size` elements. Throws Fault for a step of 0.
struct SliceBounds {
    int64_t begin, end, step;
    std::vector<int64_t> positions() const;
};
SliceBounds slice_bounds(const Value& begin, const Value& end, const Value& step, int64_t size);

/// JSON from and to values (jinja_json.cpp). Throw Fault.
Value from_json(Heap& heap, const nlohmann::ordered_json& json, int depth = 0);
struct JsonStyle {
    std::string indent;  ///< of one level
    bool lines = false;
    bool ascii = false;
    bool sort_keys = false;
    std::string between = ", ", after_key = ": ";
};
/// Its cost is charged.
std::string to_json(Heap& heap, const Value& value, const JsonStyle& style);

/// Python's `%` of strings and str.format() (jinja_format.cpp); their cost is charged. Throw Fault.
std::string format_percent(Heap& heap, const std::string& format, const Value& values);
std::string format_braces(Interpreter& interpreter, const std::string& format,
                          const Arguments& arguments);

}  // namespace muster::jinja
