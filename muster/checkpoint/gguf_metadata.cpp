// SPDX-License-Identifier: Apache-2.0
// Typed access to what a GGUF file says.
#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/tensor_checks.h"

namespace muster {
namespace {

[[noreturn]] void fail_type(std::string_view where, std::string_view key,
                            std::string_view expected) {
    throw Error(where,
                fmt::format("metadata key {} has another type, expected {}", quote(key), expected));
}

const GgufValue& require(const GgufFile& file, std::string_view key, std::string_view expected) {
    const auto found = file.metadata().find(key);
    if (found == file.metadata().end()) {
        throw Error(file.name(),
                    fmt::format("has no metadata key {}, expected {}", quote(key), expected));
    }
    return found->second;
}

template <typename T>
const T& require_as(const GgufFile& file, std::string_view key, std::string_view expected) {
    const auto* value = std::get_if<T>(&require(file, key, expected));
    if (value == nullptr) fail_type(file.name(), key, expected);
    return *value;
}

double finite(double value, std::string_view where, std::string_view key) {
    if (!std::isfinite(value)) {
        throw Error(where, fmt::format("metadata key {} is {}, expected a finite number",
                                       quote(key), value));
    }
    return value;
}

}  // namespace

int64_t GgufFile::integer(std::string_view key, int64_t low, int64_t high) const {
    constexpr std::string_view kExpected = "an integer";
    const GgufValue& value = require(*this, key, kExpected);
    const auto check = [&](auto number) {
        if (std::cmp_less(number, low) || std::cmp_greater(number, high)) {
            throw Error(name_, fmt::format("metadata key {} is {}, expected {} to {}", quote(key),
                                           number, low, high));
        }
        return static_cast<int64_t>(number);
    };
    if (const auto* number = std::get_if<uint64_t>(&value)) return check(*number);
    if (const auto* number = std::get_if<int64_t>(&value)) return check(*number);
    fail_type(name_, key, kExpected);
}

double GgufFile::real(std::string_view key) const {
    constexpr std::string_view kExpected = "a number";
    const GgufValue& value = require(*this, key, kExpected);
    if (const auto* number = std::get_if<double>(&value)) return finite(*number, name_, key);
    if (const auto* number = std::get_if<uint64_t>(&value)) return static_cast<double>(*number);
    if (const auto* number = std::get_if<int64_t>(&value)) return static_cast<double>(*number);
    fail_type(name_, key, kExpected);
}

bool GgufFile::boolean(std::string_view key) const {
    return require_as<bool>(*this, key, "a bool");
}

const std::string& GgufFile::string(std::string_view key) const {
    return require_as<std::string>(*this, key, "a string");
}

const std::vector<std::string>& GgufFile::strings(std::string_view key) const {
    constexpr std::string_view kExpected = "an array of strings";
    const auto& array = require_as<GgufArray>(*this, key, kExpected);
    const auto* values = std::get_if<std::vector<std::string>>(&array);
    if (values == nullptr) fail_type(name_, key, kExpected);
    return *values;
}

std::vector<double> GgufFile::reals(std::string_view key) const {
    constexpr std::string_view kExpected = "an array of numbers";
    const auto& array = require_as<GgufArray>(*this, key, kExpected);
    if (const auto* values = std::get_if<std::vector<double>>(&array)) {
        for (const double value : *values) finite(value, name_, key);
        return *values;
    }
    if (const auto* values = std::get_if<std::vector<uint64_t>>(&array)) {
        return {values->begin(), values->end()};
    }
    if (const auto* values = std::get_if<std::vector<int64_t>>(&array)) {
        return {values->begin(), values->end()};
    }
    fail_type(name_, key, kExpected);
}

std::vector<int64_t> GgufFile::integers(std::string_view key) const {
    constexpr std::string_view kExpected = "an array of integers";
    const auto& array = require_as<GgufArray>(*this, key, kExpected);
    if (const auto* values = std::get_if<std::vector<int64_t>>(&array)) return *values;
    const auto* values = std::get_if<std::vector<uint64_t>>(&array);
    if (values == nullptr) fail_type(name_, key, kExpected);
    std::vector<int64_t> result;
    result.reserve(values->size());
    for (const uint64_t value : *values) {
        if (!std::in_range<int64_t>(value)) {
            throw Error(name_, fmt::format("metadata key {} holds {}, expected at most 2^63 - 1",
                                           quote(key), value));
        }
        result.push_back(static_cast<int64_t>(value));
    }
    return result;
}

const TensorView& GgufFile::tensor(std::string_view name, const std::vector<int64_t>& shape) const {
    return require_tensor(tensors_, name, shape, name_, /*leading_ones=*/true);
}

}  // namespace muster
