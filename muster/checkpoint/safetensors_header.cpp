// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/safetensors_header.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/error.h"

namespace muster::safetensors {
namespace {

using nlohmann::json;

struct Named {
    DType dtype;
    std::string_view name;
};
constexpr std::array<Named, 4> kDTypes{
    {{DType::f32, "F32"}, {DType::f16, "F16"}, {DType::bf16, "BF16"}, {DType::i32, "I32"}}};

/// Takes the events of the JSON parser, which keeps no tree: what is not expected at its place ends
/// the parse with an Error, so neither depth nor size can grow beyond the header's own form.
class HeaderReader final : public nlohmann::json_sax<json> {
  public:
    explicit HeaderReader(std::string_view where) : where_(where) {}

    Header take() { return std::move(header_); }

    bool null() override { unexpected("null"); }
    bool boolean(bool) override { unexpected("a bool"); }
    bool number_float(number_float_t, const string_t& text) override {
        unexpected("the number " + quote(text));
    }
    bool number_integer(number_integer_t value) override {
        unexpected(fmt::format("the number {}", value));
    }
    bool binary(binary_t&) override { unexpected("binary data"); }

    bool number_unsigned(number_unsigned_t value) override {
        if (place_ != Place::numbers) unexpected(fmt::format("the number {}", value));
        numbers_.push_back(value);
        const size_t most = field_ == Field::shape ? kMaxDimensions : 2;
        if (numbers_.size() > most) {
            fail(fmt::format("has more than {} numbers in {}", most, field_name()));
        }
        return true;
    }

    bool string(string_t& value) override {
        if (place_ == Place::metadata) {
            if (!header_.metadata.emplace(key_, value).second) {
                fail("has the key " + quote(key_) + " twice");
            }
        } else if (place_ == Place::tensor && field_ == Field::dtype) {
            set_dtype(value);
        } else {
            unexpected("the string " + quote(value));
        }
        return true;
    }

    bool start_object(size_t) override {
        if (place_ == Place::start) {
            place_ = Place::top;
        } else if (place_ == Place::top) {
            place_ = current_ == kMetadataKey ? Place::metadata : Place::tensor;
            has_ = {};
            field_ = Field::none;
            info_ = TensorInfo{};
            info_.name = current_;
        } else {
            unexpected("an object");
        }
        return true;
    }

    bool key(string_t& name) override {
        if (place_ == Place::top) {
            current_ = name;
            if (!names_.insert(name).second) fail("stands in the header twice");
        } else if (place_ == Place::tensor) {
            set_field(name);
        } else {
            key_ = name;
        }
        return true;
    }

    bool end_object() override {
        if (place_ == Place::tensor) {
            for (size_t i = 0; i < kFieldNames.size(); ++i) {
                if (!has_[i]) fail(fmt::format("has no {}", kFieldNames[i]));
            }
            header_.tensors.push_back(std::move(info_));
        }
        place_ = place_ == Place::top ? Place::start : Place::top;
        return true;
    }

    bool start_array(size_t) override {
        if (place_ != Place::tensor || (field_ != Field::shape && field_ != Field::offsets)) {
            unexpected("an array");
        }
        place_ = Place::numbers;
        numbers_.clear();
        return true;
    }

    bool end_array() override {
        place_ = Place::tensor;
        if (field_ == Field::shape) {
            for (const uint64_t number : numbers_) {
                if (!std::in_range<int64_t>(number)) {
                    fail(fmt::format("has a dimension of {}, expected at most 2^63 - 1", number));
                }
                info_.shape.push_back(static_cast<int64_t>(number));
            }
        } else {
            if (numbers_.size() != 2) {
                fail(fmt::format("has {} data_offsets, expected 2", numbers_.size()));
            }
            info_.begin = numbers_[0];
            info_.end = numbers_[1];
        }
        field_ = Field::none;
        return true;
    }

    bool parse_error(size_t position, const std::string&,
                     const nlohmann::detail::exception&) override {
        throw Error(where_, fmt::format("has a header that is no JSON at its byte {}", position));
    }

  private:
    enum class Place { start, top, metadata, tensor, numbers };
    enum class Field { dtype, shape, offsets, none };
    static constexpr std::array<std::string_view, 3> kFieldNames{"dtype", "shape", "data_offsets"};

    std::string_view field_name() const {
        return field_ == Field::none ? "the header" : kFieldNames[static_cast<size_t>(field_)];
    }

    [[noreturn]] void fail(const std::string& what) const {
        const bool metadata = current_ == kMetadataKey;
        throw Error(where_,
                    fmt::format("{}{} {}", metadata ? "" : "tensor ",
                                metadata ? std::string(kMetadataKey) : quote(current_), what));
    }

    [[noreturn]] void unexpected(const std::string& what) const {
        switch (place_) {
            case Place::start:
                throw Error(where_,
                            fmt::format("has a header that is {}, expected an object", what));
            case Place::top:
                fail(fmt::format("is {}, expected an object", what));
            case Place::metadata:
                fail(fmt::format("has {} at key {}, expected a string", what, quote(key_)));
            case Place::numbers:
                fail(fmt::format("has {} in {}, expected numbers from 0", what, field_name()));
            case Place::tensor:
                break;
        }
        fail(fmt::format("has {} as {}, expected {}", what, field_name(),
                         field_ == Field::dtype ? "a string" : "an array"));
    }

    void set_field(const std::string& name) {
        for (size_t i = 0; i < kFieldNames.size(); ++i) {
            if (kFieldNames[i] != name) continue;
            if (has_[i]) fail(fmt::format("has {} twice", name));
            has_[i] = true;
            field_ = static_cast<Field>(i);
            return;
        }
        fail("has the unknown field " + quote(name) + ", expected dtype, shape, data_offsets");
    }

    void set_dtype(const std::string& name) {
        field_ = Field::none;
        for (const Named& known : kDTypes) {
            if (known.name == name) {
                info_.dtype = known.dtype;
                return;
            }
        }
        if (name == kBytesName) {
            info_.bytes = true;
            return;
        }
        fail("has the dtype " + quote(name) +
             (name.starts_with("F8_") ? " (FP8 is not supported)" : "") +
             ", expected one of F32, F16, BF16, I32, U8");
    }

    std::string_view where_;
    Header header_;
    Place place_ = Place::start;
    std::string current_;  ///< the key at the top: a tensor's name or __metadata__
    std::string key_;      ///< the key inside __metadata__
    std::set<std::string> names_;
    Field field_ = Field::none;
    std::array<bool, 3> has_{};
    TensorInfo info_;
    std::vector<uint64_t> numbers_;
};

}  // namespace

Header parse_header(std::string_view text, std::string_view where) {
    HeaderReader reader(where);
    json::sax_parse(text.begin(), text.end(), &reader);
    return reader.take();
}

std::string_view dtype_name(DType dtype) noexcept {
    for (const Named& known : kDTypes) {
        if (known.dtype == dtype) return known.name;
    }
    return {};
}

std::optional<int64_t> tensor_bytes(const TensorInfo& info) noexcept {
    if (!info.bytes) return checked_bytes(info.dtype, info.shape);
    const auto words = checked_bytes(DType::f32, info.shape);
    if (!words) return std::nullopt;
    return *words / dtype_info(DType::f32).block_bytes;
}

}  // namespace muster::safetensors
