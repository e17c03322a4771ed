// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "muster/tokenizer/jinja_value.h"

// A parsed template. Internal to muster/tokenizer.
namespace muster::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
    enum class Type {
        constant,     ///< value
        name,         ///< text
        list,         ///< children
        tuple,        ///< children
        dict,         ///< children: key, value, key, value ...
        negative,     ///< children: one
        positive,     ///< children: one
        invert,       ///< `not`; children: one
        binary,       ///< text: the operator; children: left, right
        concat,       ///< `~`; children
        both,         ///< `and`; children: two
        either,       ///< `or`; children: two
        compare,      ///< children; operators between them
        conditional,  ///< children: condition, value, other (may be null)
        attribute,    ///< text; children: object
        item,         ///< children: object, key
        slice,        ///< children: object, begin, end, step (may be null)
        call,         ///< children: function, arguments; named
        filter,       ///< text; children: value (null: of a block), arguments; named
        test          ///< text; children: value, arguments; named
    };
    Type type;
    int line = 0;
    int depth = 1;  ///< of the tree below
    std::string text;
    Value value;
    std::vector<ExpressionPtr> children;
    std::vector<std::pair<std::string, ExpressionPtr>> named;
    std::vector<std::string> operators;
    ExpressionPtr more_values, more_named;  ///< `*` and `**` of a call; may be null
};

struct Statement;
using Block = std::vector<Statement>;

/// What is assigned to: a name, an attribute of a namespace, or several names.
struct Target {
    std::string name;
    std::string attribute;        ///< of the namespace `name`; empty: the name itself
    std::vector<Target> several;  ///< not empty: unpacked
};

struct Parameter {
    std::string name;
    ExpressionPtr fallback;  ///< may be null
};

struct Statement {
    enum class Type {
        data,        ///< text
        output,      ///< expression
        branch,      ///< conditions and blocks; one more block: else
        loop,        ///< target, expression, condition (may be null); blocks: body, else
        set,         ///< target, expression
        set_block,   ///< target, expression: filters or null; blocks: body
        macro,       ///< name, parameters; blocks: body
        call_block,  ///< expression: the call; parameters; blocks: body
        filter,      ///< expression: the filters; blocks: body
        with,        ///< targets, expressions; blocks: body
        plain,       ///< blocks: body, in the scope around (generation)
        leave,       ///< break
        next         ///< continue
    };
    Type type;
    int line = 0;
    std::string text;
    Target target;
    ExpressionPtr expression;
    ExpressionPtr condition;
    std::vector<ExpressionPtr> conditions;
    std::vector<Target> targets;
    std::vector<ExpressionPtr> expressions;
    std::vector<Block> blocks;
    std::vector<Parameter> parameters;
    bool recursive = false;
    bool takes_more_values = false;  ///< macro: its body says `varargs`
    bool takes_more_named = false;   ///< macro: its body says `kwargs`
    bool takes_caller = false;       ///< macro: its body says `caller`
};

}  // namespace muster::jinja
