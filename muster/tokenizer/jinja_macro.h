// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>

#include "muster/tokenizer/jinja_interpreter.h"

namespace muster::jinja {

/// A macro, or the body of a call block, with the scope it was defined in.
class Macro : public Callable {
  public:
    Macro(const Statement& definition, std::string name, ScopePtr scope)
        : definition_(definition), name_(std::move(name)), scope_(std::move(scope)) {}

    Value call(Interpreter& interpreter, Arguments arguments) override;
    Value attribute(Interpreter& interpreter, std::string_view name) override;
    std::string printed() const override { return "<Macro '" + name_ + "'>"; }

  private:
    void bind_more(Interpreter& interpreter, Arguments& arguments, Scope& scope) const;

    const Statement& definition_;
    std::string name_;
    ScopePtr scope_;
};

}  // namespace muster::jinja
