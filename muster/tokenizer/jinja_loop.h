// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "muster/tokenizer/jinja_interpreter.h"

namespace muster::jinja {

/// The variable `loop`: where a loop stands; calling it runs a recursive loop over other items.
class Loop : public Callable {
  public:
    Loop(const Statement& statement, std::vector<Value> items, int64_t depth, ScopePtr scope)
        : statement_(statement),
          items_(std::move(items)),
          depth_(depth),
          scope_(std::move(scope)) {}

    int64_t turn() const noexcept { return turn_; }
    int64_t size() const noexcept { return static_cast<int64_t>(items_.size()); }
    const Value& item() const { return items_[static_cast<size_t>(turn_)]; }
    void go_on() noexcept { ++turn_; }

    Value call(Interpreter& interpreter, Arguments arguments) override;
    Value attribute(Interpreter& interpreter, std::string_view name) override;
    std::string printed() const override;
    /// Whether `values` differ from those of the call before.
    bool changed(Interpreter& interpreter, std::vector<Value> values);

  private:
    const Statement& statement_;
    std::vector<Value> items_;
    int64_t turn_ = 0;
    int64_t depth_;
    ScopePtr scope_;
    std::vector<Value> last_;
    bool called_ = false;
};

/// Something that is called with a function of C++.
template <typename F>
class Native : public Callable {
  public:
    Native(std::string name, F function) : name_(std::move(name)), function_(std::move(function)) {}
    Value call(Interpreter& interpreter, Arguments arguments) override {
        return function_(interpreter, arguments);
    }
    std::string printed() const override { return "<function " + name_ + ">"; }

  private:
    std::string name_;
    F function_;
};

/// `function` takes (Interpreter&, const Arguments&) and gives a Value.
template <typename F>
Value native(Heap& heap, std::string name, F function) {
    return Value(
        static_cast<Callable*>(heap.make<Native<F>>(std::move(name), std::move(function))));
}

}  // namespace muster::jinja
