// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/weight_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/buffer.h"
#include "muster/core/error.h"

namespace muster {
namespace {

int64_t row_bytes_of(const TensorView& tensor) {
    return dtype_bytes(tensor.dtype, tensor.shape.empty() ? 1 : tensor.shape.back());
}

[[noreturn]] void fail_type(std::string_view where, std::string_view key,
                            std::string_view expected) {
    throw Error(where,
                fmt::format("metadata key {} has another type, expected {}", quote(key), expected));
}

const MetadataValue& require(const WeightMap& file, std::string_view key,
                             std::string_view expected) {
    const auto found = file.metadata().find(key);
    if (found == file.metadata().end()) {
        throw Error(file.name(),
                    fmt::format("has no metadata key {}, expected {}", quote(key), expected));
    }
    return found->second;
}

template <typename T>
const T& require_as(const WeightMap& file, std::string_view key, std::string_view expected) {
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

int64_t WeightMap::integer(std::string_view key, int64_t low, int64_t high) const {
    constexpr std::string_view kExpected = "an integer";
    const MetadataValue& value = require(*this, key, kExpected);
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

double WeightMap::real(std::string_view key) const {
    constexpr std::string_view kExpected = "a number";
    const MetadataValue& value = require(*this, key, kExpected);
    if (const auto* number = std::get_if<double>(&value)) return finite(*number, name_, key);
    if (const auto* number = std::get_if<uint64_t>(&value)) return static_cast<double>(*number);
    if (const auto* number = std::get_if<int64_t>(&value)) return static_cast<double>(*number);
    fail_type(name_, key, kExpected);
}

bool WeightMap::boolean(std::string_view key) const {
    return require_as<bool>(*this, key, "a bool");
}

const std::string& WeightMap::string(std::string_view key) const {
    return require_as<std::string>(*this, key, "a string");
}

const std::vector<std::string>& WeightMap::strings(std::string_view key) const {
    constexpr std::string_view kExpected = "an array of strings";
    const auto& array = require_as<MetadataArray>(*this, key, kExpected);
    const auto* values = std::get_if<std::vector<std::string>>(&array);
    if (values == nullptr) fail_type(name_, key, kExpected);
    return *values;
}

std::vector<double> WeightMap::reals(std::string_view key) const {
    constexpr std::string_view kExpected = "an array of numbers";
    const auto& array = require_as<MetadataArray>(*this, key, kExpected);
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

std::vector<int64_t> WeightMap::integers(std::string_view key) const {
    constexpr std::string_view kExpected = "an array of integers";
    const auto& array = require_as<MetadataArray>(*this, key, kExpected);
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

const TensorView& WeightMap::tensor(std::string_view name,
                                    const std::vector<int64_t>& shape) const {
    return require_tensor(tensors_, name, shape, name_, /*leading_ones=*/true);
}

std::optional<uint32_t> WeightMap::stored_type(std::string_view key) const {
    const auto found = stored_types_.find(key);
    if (found == stored_types_.end()) return std::nullopt;
    return found->second;
}

void WeightMap::set(std::string key, MetadataValue value, std::optional<uint32_t> stored) {
    if (has(key)) throw Error(name_, "has the metadata key " + quote(key) + " twice");
    if (stored) stored_types_.insert_or_assign(key, *stored);
    metadata_.emplace(std::move(key), std::move(value));
}

void WeightMap::erase(std::string_view key) {
    const auto found = metadata_.find(key);
    if (found == metadata_.end()) return;
    stored_types_.erase(found->first);
    metadata_.erase(found);
}

void WeightMap::add(std::string name, TensorView tensor) {
    if (has_tensor(name)) throw Error(name_, "has the tensor " + quote(name) + " twice");
    tensors_.emplace(std::move(name), std::move(tensor));
}

void WeightMap::absorb_tensors(WeightMap part) {
    for (auto& [name, view] : part.tensors_) add(name, std::move(view));
    makers_.merge(part.makers_);
    made_.merge(part.made_);
    owners_.insert(owners_.end(), part.owners_.begin(), part.owners_.end());
    files_.insert(files_.end(), part.files_.begin(), part.files_.end());
}

void WeightMap::drop_pages(const std::byte* data, size_t size) const noexcept {
    const Made* made = find_made(data);
    if (made == nullptr) return drop_mapped(data, size);
    for (const auto& source : made->sources) drop_mapped(source.data(), source.size());
}

void WeightMap::drop_mapped(const std::byte* data, size_t size) const noexcept {
    for (const auto& file : files_)
        if (file->drop_pages(data, size)) return;
}

int64_t WeightMap::storable_bytes(std::string_view name, DType dtype,
                                  std::span<const int64_t> shape) const {
    const auto bytes = checked_bytes(dtype, shape);
    if (bytes) return *bytes;
    throw Error(name_, fmt::format("tensor {} has shape {}, expected rows of whole blocks and less "
                                   "than 2^63 bytes",
                                   quote(name), shape_text(shape)));
}

std::byte* WeightMap::allocate(std::string name, DType dtype, std::vector<int64_t> shape) {
    const int64_t bytes = storable_bytes(name, dtype, shape);
    const auto memory = std::make_shared<Buffer<std::byte>>(static_cast<size_t>(bytes));
    add(std::move(name), TensorView{dtype, std::move(shape), memory->data()});
    keep(memory);
    return memory->data();
}

void WeightMap::add_rows(std::string name, DType dtype, std::vector<int64_t> shape,
                         RowMaker maker) {
    storable_bytes(name, dtype, shape);
    add(name, TensorView{dtype, std::move(shape), nullptr});
    makers_.emplace(std::move(name), std::move(maker));
}

void WeightMap::add_made(std::string name, DType dtype, std::vector<int64_t> shape, RowMaker maker,
                         std::vector<std::span<const std::byte>> sources) {
    Made made{name, ReservedMemory(static_cast<size_t>(storable_bytes(name, dtype, shape))),
              std::move(sources)};
    const std::byte* place = made.memory.data();
    add(name, TensorView{dtype, std::move(shape), place});
    makers_.emplace(std::move(name), std::move(maker));
    made_.emplace(place, std::move(made));
}

const WeightMap::Made* WeightMap::find_made(const std::byte* data) const noexcept {
    auto after = made_.upper_bound(data);
    if (after == made_.begin()) return nullptr;
    const auto& [place, made] = *--after;
    return data < place + made.memory.size() ? &made : nullptr;
}

std::map<const std::byte*, WeightMap::Made>::iterator WeightMap::made_named(std::string_view name) {
    const auto found = tensors_.find(name);
    MUSTER_ASSERT(found != tensors_.end());
    const auto made = made_.find(found->second.data);
    MUSTER_ASSERT(made != made_.end());
    return made;
}

std::vector<std::string> WeightMap::made() const {
    std::vector<std::string> names;
    names.reserve(made_.size());
    for (const auto& [place, made] : made_) names.push_back(made.name);
    std::ranges::sort(names);
    return names;
}

void WeightMap::make(std::string_view name, int64_t first, int64_t count) const {
    const TensorView& view = tensors_.find(name)->second;
    const Made* made = find_made(view.data);
    MUSTER_ASSERT(made != nullptr);
    const int64_t row_bytes = row_bytes_of(view);
    MUSTER_ASSERT(first >= 0 && count >= 0 && (first + count) * row_bytes <= view.bytes());
    makers_.find(name)->second(first, count, made->memory.data() + first * row_bytes);
}

void WeightMap::keep_made(std::string_view name) {
    const auto made = made_named(name);
    keep(std::make_shared<ReservedMemory>(std::move(made->second.memory)));
    made_.erase(made);
    makers_.erase(makers_.find(name));
}

void WeightMap::release_made(std::string_view name) {
    made_.erase(made_named(name));
    tensors_.find(name)->second.data = nullptr;
}

bool WeightMap::in_files(const std::byte* data) const noexcept {
    return std::ranges::any_of(files_, [&](const auto& file) {
        const std::span<const std::byte> bytes = file->bytes();
        return !std::less<>()(data, bytes.data()) &&
               std::less<>()(data, bytes.data() + bytes.size());
    });
}

const std::byte* WeightMap::contents(const std::byte* data, int64_t size,
                                     std::vector<std::byte>& buffer) const {
    const Made* made = find_made(data);
    if (made == nullptr) return data;
    const TensorView& view = tensors_.find(made->name)->second;
    const int64_t row_bytes = row_bytes_of(view);
    const int64_t from = data - view.data, first = from / row_bytes;
    const int64_t last = (from + size + row_bytes - 1) / row_bytes;
    return rows(made->name, first, last - first, buffer) + (from - first * row_bytes);
}

const std::byte* WeightMap::rows(std::string_view name, int64_t first, int64_t count,
                                 std::vector<std::byte>& buffer) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw Error(name_, "has no tensor " + quote(name));
    const TensorView& view = found->second;
    const int64_t cols = view.shape.empty() ? 1 : view.shape.back();
    MUSTER_ASSERT(first >= 0 && count >= 0 && (first + count) * cols <= view.elements());
    const int64_t row_bytes = row_bytes_of(view);
    const auto maker = makers_.find(name);
    if (maker == makers_.end()) return view.data + first * row_bytes;
    buffer.resize(static_cast<size_t>(count * row_bytes));
    maker->second(first, count, buffer.data());
    return buffer.data();
}

}  // namespace muster
