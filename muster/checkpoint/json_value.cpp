// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/json_value.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/error.h"

namespace muster {

using nlohmann::json;

/// Builds the tree from the parser's events, which need no stack of calls, and ends at the limits.
class JsonBuilder final : public nlohmann::json_sax<json> {
  public:
    JsonBuilder(std::string_view where, const JsonLimits& limits)
        : where_(where), limits_(limits) {}

    JsonValue take() { return std::move(root_); }

    bool null() override { return put(nullptr) != nullptr; }
    bool boolean(bool value) override { return put(value) != nullptr; }
    bool number_integer(number_integer_t value) override { return put(value) != nullptr; }
    bool number_unsigned(number_unsigned_t value) override {
        if (std::in_range<int64_t>(value)) return put(static_cast<int64_t>(value)) != nullptr;
        return put(static_cast<double>(value)) != nullptr;
    }
    bool number_float(number_float_t value, const string_t&) override {
        return put(value) != nullptr;
    }
    bool string(string_t& value) override { return put(std::move(value)) != nullptr; }
    bool binary(binary_t&) override { return false; }
    bool start_object(size_t) override { return open(JsonValue::Object{}); }
    bool start_array(size_t) override { return open(JsonValue::Array{}); }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }
    bool key(string_t& name) override {
        if (std::get<JsonValue::Object>(open_.back()->value_).contains(name))
            throw Error(where_, "has the key " + quote(name) + " twice in one object");
        key_ = std::move(name);
        return true;
    }
    bool parse_error(size_t position, const std::string&,
                     const nlohmann::detail::exception&) override {
        throw Error(where_, fmt::format("is no JSON at its byte {}", position));
    }

  private:
    template <typename T>
    JsonValue* put(T&& value) {
        if (++values_ > limits_.values)
            throw Error(where_, fmt::format("has more than {} values", limits_.values));
        JsonValue* place = &root_;
        if (!open_.empty()) {
            auto& parent = open_.back()->value_;
            if (auto* array = std::get_if<JsonValue::Array>(&parent))
                place = &array->emplace_back();
            else
                place = &std::get<JsonValue::Object>(parent)[std::move(key_)];
        }
        place->value_ = std::forward<T>(value);
        return place;
    }
    template <typename T>
    bool open(T&& empty) {
        if (static_cast<int>(open_.size()) >= limits_.depth)
            throw Error(where_,
                        fmt::format("nests deeper than {} objects and arrays", limits_.depth));
        // Only the innermost of the open values grows, so that the pointers stay right.
        open_.push_back(put(std::forward<T>(empty)));
        return true;
    }
    bool close() {
        open_.pop_back();
        return true;
    }

    std::string_view where_;
    const JsonLimits& limits_;
    JsonValue root_;
    std::vector<JsonValue*> open_;
    std::string key_;
    size_t values_ = 0;
};

namespace {

[[noreturn]] void fail(std::string_view where, std::string_view key, std::string_view expected) {
    throw Error(where, fmt::format("key {} is no {}", quote(key), expected));
}

}  // namespace

JsonValue JsonValue::parse(std::string_view text, std::string_view where,
                           const JsonLimits& limits) {
    if (text.size() > limits.bytes) {
        throw Error(where,
                    fmt::format("has {} bytes, expected at most {}", text.size(), limits.bytes));
    }
    JsonBuilder builder(where, limits);
    json::sax_parse(text.begin(), text.end(), &builder);
    return builder.take();
}

const JsonValue* JsonValue::find(std::string_view key) const noexcept {
    const Object* all = object();
    if (all == nullptr) return nullptr;
    const auto found = all->find(key);
    return found == all->end() || found->second.is_null() ? nullptr : &found->second;
}

const JsonValue& JsonValue::require(std::string_view where, std::string_view key,
                                    std::string_view expected) const {
    const JsonValue* value = find(key);
    if (value == nullptr)
        throw Error(where, fmt::format("has no key {}, expected {}", quote(key), expected));
    return *value;
}

int64_t JsonValue::integer(std::string_view where, std::string_view key, int64_t low,
                           int64_t high) const {
    const JsonValue& value = require(where, key, "a whole number");
    int64_t number = 0;
    if (const auto* whole = std::get_if<int64_t>(&value.value_)) {
        number = *whole;
    } else if (const auto* real = std::get_if<double>(&value.value_);
               real != nullptr && std::abs(*real) < 0x1p53 && std::trunc(*real) == *real) {
        number = static_cast<int64_t>(*real);  // 4096.0
    } else {
        fail(where, key, "whole number");
    }
    if (number < low || number > high) {
        throw Error(where,
                    fmt::format("key {} is {}, expected {} to {}", quote(key), number, low, high));
    }
    return number;
}

int64_t JsonValue::integer_or(std::string_view where, std::string_view key, int64_t low,
                              int64_t high, int64_t fallback) const {
    return has(key) ? integer(where, key, low, high) : fallback;
}

double JsonValue::real(std::string_view where, std::string_view key) const {
    const JsonValue& value = require(where, key, "a number");
    if (const auto* whole = std::get_if<int64_t>(&value.value_)) return static_cast<double>(*whole);
    const auto* number = std::get_if<double>(&value.value_);
    if (number == nullptr || !std::isfinite(*number)) fail(where, key, "finite number");
    return *number;
}

double JsonValue::real_or(std::string_view where, std::string_view key, double fallback) const {
    return has(key) ? real(where, key) : fallback;
}

bool JsonValue::boolean_or(std::string_view where, std::string_view key, bool fallback) const {
    const JsonValue* value = find(key);
    if (value == nullptr) return fallback;
    const auto* flag = std::get_if<bool>(&value->value_);
    if (flag == nullptr) fail(where, key, "bool");
    return *flag;
}

const std::string& JsonValue::string(std::string_view where, std::string_view key) const {
    const std::string* text = require(where, key, "a string").text();
    if (text == nullptr) fail(where, key, "string");
    return *text;
}

std::string JsonValue::string_or(std::string_view where, std::string_view key,
                                 std::string_view fallback) const {
    return has(key) ? string(where, key) : std::string(fallback);
}

std::vector<std::string> JsonValue::strings(std::string_view where, std::string_view key) const {
    const Array* all = require(where, key, "an array of strings").array();
    if (all == nullptr) fail(where, key, "array of strings");
    std::vector<std::string> result;
    for (const JsonValue& value : *all) {
        if (value.text() == nullptr) fail(where, key, "array of strings");
        result.push_back(*value.text());
    }
    return result;
}

}  // namespace muster
