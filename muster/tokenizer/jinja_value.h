// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

// The values that a Jinja template computes with: Python's, as far as templates can see them.
// Internal to muster/tokenizer.
namespace muster::jinja {

/// What goes wrong inside a template; the interpreter adds the line and throws muster::Error.
struct Fault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Heap;
struct List;
struct Dict;
struct Namespace;
class Callable;
using Text = std::shared_ptr<const std::string>;

/// Nothing under a name; printing it gives nothing, most other uses are faults that say `what`.
struct Undefined {
    Text what;  ///< one clause, may be null
};
struct None {};

/// Small and copied freely. Strings are valid UTF-8 and shared; lists, dictionaries and what can be
/// called belong to the heap of one rendering and are shared by reference, as in Python.
class Value {
  public:
    enum class Kind {
        undefined,
        none,
        boolean,
        integer,
        real,
        string,
        list,
        dict,
        space,
        callable
    };

    Value() : data_(Undefined{}) {}
    Value(Undefined u) : data_(std::move(u)) {}
    Value(None n) : data_(n) {}
    Value(bool b) : data_(b) {}
    Value(int64_t i) : data_(i) {}
    Value(double d) : data_(d) {}
    Value(Text s) : data_(std::move(s)) {}
    Value(List* l) : data_(l) {}
    Value(Dict* d) : data_(d) {}
    Value(Namespace* n) : data_(n) {}
    Value(Callable* c) : data_(c) {}
    Value(const char*) = delete;  // would become a bool
    Value(int) = delete;          // ambiguous: say int64_t

    Kind kind() const noexcept { return static_cast<Kind>(data_.index()); }
    bool is(Kind k) const noexcept { return kind() == k; }
    bool undefined() const noexcept { return is(Kind::undefined); }
    bool none() const noexcept { return is(Kind::none); }
    bool is_string() const noexcept { return is(Kind::string); }
    /// bool counts as a number, as in Python.
    bool is_whole() const noexcept { return is(Kind::integer) || is(Kind::boolean); }
    bool is_number() const noexcept { return is_whole() || is(Kind::real); }

    const std::string& string() const { return *std::get<Text>(data_); }
    List& list() const { return *std::get<List*>(data_); }
    Dict& dict() const { return *std::get<Dict*>(data_); }
    Namespace& space() const { return *std::get<Namespace*>(data_); }
    Callable& callable() const { return *std::get<Callable*>(data_); }
    /// Of bool and integer.
    int64_t whole() const {
        return is(Kind::boolean) ? static_cast<int64_t>(std::get<bool>(data_))
                                 : std::get<int64_t>(data_);
    }
    /// Of any number.
    double real() const {
        return is(Kind::real) ? std::get<double>(data_) : static_cast<double>(whole());
    }
    bool boolean() const { return std::get<bool>(data_); }
    const Undefined& missing() const { return std::get<Undefined>(data_); }

  private:
    std::variant<Undefined, None, bool, int64_t, double, Text, List*, Dict*, Namespace*, Callable*>
        data_;
};

/// Lives until the end of a rendering, whoever refers to it: cycles need no care.
struct Object {
    virtual ~Object() = default;
};

/// Everything that iterates over values which exist already.
struct List : Object {
    enum class Type { list, tuple, generator, range, keys, values, items };
    Type type = Type::list;
    std::vector<Value> items;
    std::string printed;  ///< of a range

    bool indexable() const noexcept { return type <= Type::tuple || type == Type::range; }
};

/// In the order of insertion. Finding and setting walk over all entries; their cost is charged.
struct Dict : Object {
    std::vector<std::pair<Value, Value>> entries;

    const Value* find(Heap& heap, const Value& key) const;
    const Value* find(Heap& heap, std::string_view key) const;
    /// Throws Fault for a key that is not a string, a number, a truth value or none.
    void set(Heap& heap, Value key, Value value);
};

struct Namespace : Object {
    Dict attributes;
};

struct Arguments {
    std::vector<Value> values;
    std::vector<std::pair<std::string, Value>> named;
};

class Interpreter;

class Callable : public Object {
  public:
    virtual Value call(Interpreter& interpreter, Arguments arguments) = 0;
    /// What `object.name` gives; undefined when there is nothing.
    virtual Value attribute(Interpreter&, std::string_view) { return {}; }
    virtual std::string printed() const = 0;
};

/// Bounds on one rendering. A step is an evaluation of an expression, an element of a list or 16
/// bytes of a string that is made or read. Steps bound time and memory, so whatever takes longer
/// than some 100 ns or allocates charges for it; what can grow far beyond what it read charges
/// before.
struct Limits {
    int64_t steps = 16'000'000;
    size_t output = size_t{64} << 20;  ///< bytes
    int depth = 400;                   ///< of evaluation: expressions, blocks and macros
};

/// Owns the objects of one rendering and counts what it costs.
class Heap {
  public:
    explicit Heap(const Limits& limits) : limits_(limits) {}

    /// Throws Fault when the rendering has cost too much.
    void charge(int64_t steps);
    /// For bytes that are made or read.
    void charge_bytes(size_t bytes) { charge(1 + static_cast<int64_t>(bytes / 16)); }
    /// For a string that is read, whatever its reader looks at; nothing for other values.
    void charge_string(const Value& v) {
        if (v.is_string()) charge_bytes(v.string().size());
    }
    /// For a walk over names or over a dictionary's entries that compares hardly more than sizes.
    void charge_search(size_t entries) { charge(static_cast<int64_t>(entries / 8)); }
    const Limits& limits() const noexcept { return limits_; }

    Value string(std::string s);
    List* list(List::Type type = List::Type::list) {
        List* l = make<List>();
        l->type = type;
        return l;
    }
    Dict* dict() { return make<Dict>(); }
    template <typename T, typename... Args>
    T* make(Args&&... args) {
        charge(8);
        auto object = std::make_unique<T>(std::forward<Args>(args)...);
        T* pointer = object.get();
        objects_.push_back(std::move(object));
        return pointer;
    }

  private:
    Limits limits_;
    int64_t steps_ = 0;
    std::vector<std::unique_ptr<Object>> objects_;
};

Value text(std::string_view s);  ///< a string that costs nothing: names and constants

bool truth(const Value& v);
/// ==, which costs something for strings of equal size only; that is charged.
bool equal(Heap& heap, std::string_view a, std::string_view b);
/// Identity, Python's `is`; its cost is charged.
bool same(Heap& heap, const Value& a, const Value& b);
/// Python's ==; its cost is charged. Throws Fault when nested too deeply.
bool equal(Heap& heap, const Value& a, const Value& b, int depth = 0);
/// Python's <, likewise. Throws Fault for values that have no order.
bool less(Heap& heap, const Value& a, const Value& b, int depth = 0);
/// `str`, `int`, `list`, `Undefined` ..., as messages name it.
std::string type_name(const Value& v);
/// Python's str() and repr(); their cost is charged. Throw Fault.
std::string to_text(Heap& heap, const Value& v);
std::string representation(Heap& heap, const Value& v);
std::string float_text(double value);
/// The fault of using an undefined value, e.g. "'x' is undefined".
[[noreturn]] void fail_undefined(const Value& v);

}  // namespace muster::jinja
