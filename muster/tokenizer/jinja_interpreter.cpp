// SPDX-License-Identifier: Apache-2.0
// Statements, scopes, output.
#include "muster/tokenizer/jinja_interpreter.h"

#include <algorithm>

#include "muster/tokenizer/jinja_depth.h"
#include "muster/tokenizer/jinja_lexer.h"
#include "muster/tokenizer/jinja_loop.h"
#include "muster/tokenizer/jinja_macro.h"

namespace muster::jinja {

using Kind = Value::Kind;
using Type = Statement::Type;

const Value* Scope::find_here(Heap& heap, std::string_view name) const {
    heap.charge_search(names.size());
    for (const auto& entry : names)
        if (equal(heap, entry.first, name)) return &entry.second;
    return nullptr;
}

void Scope::set(Heap& heap, std::string_view name, Value value) {
    heap.charge_bytes(name.size());
    heap.charge_search(names.size());
    for (auto& entry : names) {
        if (!equal(heap, entry.first, name)) continue;
        entry.second = std::move(value);
        return;
    }
    names.emplace_back(name, std::move(value));
}

Interpreter::Interpreter(const Limits& limits, std::time_t now)
    : heap_(limits), now_(now), globals_(std::make_shared<Scope>()) {
    define_functions(*this);
}

std::string Interpreter::render(const Block& block) {
    try {
        scope_ = std::make_shared<Scope>();
        scope_->parent = globals_;
        std::string out;
        out_ = &out;
        execute(block);
        return out;
    } catch (const Fault& fault) {
        fail_at(std::max(1, line_), fault.what());
    }
}

void Interpreter::write(std::string_view text) {
    heap_.charge_bytes(text.size());
    if (out_->size() + text.size() > heap_.limits().output)
        throw Fault("the template writes too much, expected at most " +
                    std::to_string(heap_.limits().output) + " bytes");
    *out_ += text;
}

Interpreter::Flow Interpreter::execute(const Block& block) {
    const Depth depth(depth_, heap_.limits());
    for (const Statement& statement : block) {
        const Flow flow = execute(statement);
        if (flow != Flow::on) return flow;
    }
    return Flow::on;
}

Interpreter::Flow Interpreter::execute(const Statement& s) {
    heap_.charge(1);
    line_ = s.line;
    switch (s.type) {
        case Type::data:
            write(s.text);
            break;
        case Type::output:
            write(to_text(heap_, evaluate(*s.expression)));
            break;
        case Type::branch:
            return branch(s);
        case Type::loop:
            return loop(s);
        case Type::set:
            assign(s.target, evaluate(*s.expression));
            break;
        case Type::set_block:
        case Type::filter: {
            auto inner = std::make_shared<Scope>();
            inner->parent = scope_;
            Value value = heap_.string(captured(s.blocks[0], std::move(inner)));
            if (s.expression) value = filtered(*s.expression, &value);
            if (s.type == Type::filter) {
                write(to_text(heap_, value));
            } else {
                assign(s.target, value);
            }
            break;
        }
        case Type::macro:
            define_macro(s);
            break;
        case Type::call_block:
            call_block(s);
            break;
        case Type::with:
        case Type::plain:
            return with(s);
        case Type::leave:
            return Flow::leave;
        case Type::next:
            return Flow::next;
    }
    return Flow::on;
}

Interpreter::Flow Interpreter::branch(const Statement& s) {
    for (size_t i = 0; i < s.conditions.size(); ++i)
        if (truth(evaluate(*s.conditions[i]))) return execute(s.blocks[i]);
    const bool otherwise = s.blocks.size() > s.conditions.size();
    return otherwise ? execute(s.blocks.back()) : Flow::on;
}

Interpreter::Flow Interpreter::with(const Statement& s) {
    auto inner = std::make_shared<Scope>();
    inner->parent = scope_;
    for (size_t i = 0; i < s.targets.size(); ++i) {
        Value value = evaluate(*s.expressions[i]);  // in the scope around
        const ScopePtr around = std::exchange(scope_, inner);
        assign(s.targets[i], value);
        scope_ = around;
    }
    const ScopePtr around = std::exchange(scope_, inner);
    const Flow flow = execute(s.blocks[0]);
    scope_ = around;
    return flow;
}

Interpreter::Flow Interpreter::loop(const Statement& s) {
    std::vector<Value> items = elements(evaluate(*s.expression));
    const ScopePtr around = scope_;  // which the turns change
    return turns(s, std::move(items), 0, around);
}

/// The items for which the loop's condition holds.
std::vector<Value> Interpreter::chosen(const Statement& loop, std::vector<Value> items,
                                       const ScopePtr& scope) {
    if (!loop.condition) return items;
    std::vector<Value> kept;
    const ScopePtr before = scope_;
    for (Value& item : items) {
        scope_ = std::make_shared<Scope>();
        scope_->parent = scope;
        assign(loop.target, item);
        if (truth(evaluate(*loop.condition))) kept.push_back(std::move(item));
    }
    scope_ = before;
    return kept;
}

Interpreter::Flow Interpreter::turns(const Statement& s, std::vector<Value> items, int64_t depth,
                                     const ScopePtr& scope) {
    items = chosen(s, std::move(items), scope);
    const ScopePtr before = scope_;
    if (items.empty()) {
        if (s.blocks.size() < 2) return Flow::on;
        scope_ = std::make_shared<Scope>();
        scope_->parent = scope;
        const Flow flow = execute(s.blocks[1]);
        scope_ = before;
        return flow;
    }
    Loop* loop = heap_.make<Loop>(s, std::move(items), depth, scope);
    for (; loop->turn() < loop->size(); loop->go_on()) {
        heap_.charge(4);
        scope_ = std::make_shared<Scope>();
        scope_->parent = scope;
        scope_->set(heap_, "loop", Value(static_cast<Callable*>(loop)));
        assign(s.target, loop->item());
        if (execute(s.blocks[0]) == Flow::leave) break;
    }
    scope_ = before;
    return Flow::on;
}

std::string Interpreter::captured(const Block& block, ScopePtr scope) {
    const ScopePtr around = std::exchange(scope_, std::move(scope));
    std::string text;
    std::string* const out = std::exchange(out_, &text);
    execute(block);
    out_ = out;
    scope_ = around;
    return text;
}

std::string Interpreter::captured_turns(const Statement& loop, const Value& iterable, int64_t depth,
                                        const ScopePtr& scope) {
    const Depth nesting(depth_, heap_.limits());
    const ScopePtr around = scope_;
    std::string text;
    std::string* const out = std::exchange(out_, &text);
    turns(loop, elements(iterable), depth, scope);
    out_ = out;
    scope_ = around;
    return text;
}

Value Interpreter::evaluate_in(const Expression& e, const ScopePtr& scope) {
    const ScopePtr around = std::exchange(scope_, scope);
    Value value = evaluate(e);
    scope_ = around;
    return value;
}

void Interpreter::assign(const Target& target, const Value& value) {
    if (!target.several.empty()) return assign_several(target, value);
    if (target.attribute.empty()) return scope_->set(heap_, target.name, value);
    for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
        const Value* found = scope->find_here(heap_, target.name);
        if (found == nullptr) continue;
        if (!found->is(Kind::space))
            throw Fault("`" + target.name + "` is a " + type_name(*found) +
                        ", expected a namespace, whose attributes can be set");
        return found->space().attributes.set(heap_, heap_.string(target.attribute), value);
    }
    throw Fault("'" + target.name + "' is undefined, expected a namespace");
}

void Interpreter::assign_several(const Target& target, const Value& value) {
    const Depth depth(depth_, heap_.limits());
    const std::vector<Value> values = elements(value);
    if (values.size() != target.several.size())
        throw Fault("there are " + std::to_string(values.size()) + " values for " +
                    std::to_string(target.several.size()) + " names");
    for (size_t i = 0; i < values.size(); ++i) assign(target.several[i], values[i]);
}

void Interpreter::define_macro(const Statement& s) {
    heap_.charge_bytes(s.text.size());
    Macro* macro = heap_.make<Macro>(s, s.text, scope_);
    scope_->set(heap_, s.text, Value(static_cast<Callable*>(macro)));
}

void Interpreter::call_block(const Statement& s) {
    const Value caller(static_cast<Callable*>(heap_.make<Macro>(s, "caller", scope_)));
    write(to_text(heap_, call_expression(*s.expression, &caller)));
}

}  // namespace muster::jinja
