// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace muster {

/// How much of an untrusted JSON text is read.
struct JsonLimits {
    size_t bytes = size_t{4} << 20;
    int depth = 32;  ///< of objects and arrays in each other
    size_t values = size_t{1} << 20;
};

/// A JSON value read from untrusted text, and typed access to the keys of an object that says what
/// is wrong. A key whose value is null counts as missing. Safe to read from several threads.
class JsonValue {
  public:
    using Array = std::vector<JsonValue>;
    using Object = std::map<std::string, JsonValue, std::less<>>;

    JsonValue() = default;
    /// Throws Error, under `where`, for text that is no JSON, repeats a key of an object, or is
    /// beyond the limits.
    static JsonValue parse(std::string_view text, std::string_view where,
                           const JsonLimits& limits = {});

    bool is_null() const noexcept { return std::holds_alternative<std::nullptr_t>(value_); }
    /// What the value is, or null.
    const Object* object() const noexcept { return std::get_if<Object>(&value_); }
    const Array* array() const noexcept { return std::get_if<Array>(&value_); }
    const std::string* text() const noexcept { return std::get_if<std::string>(&value_); }

    /// The value of a key of this object, or null when there is none.
    const JsonValue* find(std::string_view key) const noexcept;
    bool has(std::string_view key) const noexcept { return find(key) != nullptr; }

    // Of a key of this object. Each throws Error, under `where`, when the key is missing (those
    // without a fallback), of another type or out of range; real numbers are finite.
    int64_t integer(std::string_view where, std::string_view key, int64_t low, int64_t high) const;
    int64_t integer_or(std::string_view where, std::string_view key, int64_t low, int64_t high,
                       int64_t fallback) const;
    double real(std::string_view where, std::string_view key) const;
    double real_or(std::string_view where, std::string_view key, double fallback) const;
    bool boolean_or(std::string_view where, std::string_view key, bool fallback) const;
    const std::string& string(std::string_view where, std::string_view key) const;
    std::string string_or(std::string_view where, std::string_view key,
                          std::string_view fallback) const;
    std::vector<std::string> strings(std::string_view where, std::string_view key) const;

  private:
    friend class JsonBuilder;
    const JsonValue& require(std::string_view where, std::string_view key,
                             std::string_view expected) const;

    std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object> value_ =
        nullptr;
};

}  // namespace muster
