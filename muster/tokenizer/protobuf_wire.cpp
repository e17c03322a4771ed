// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/protobuf_wire.h"

#include <bit>

#include "muster/core/error.h"

namespace muster {

uint64_t WireReader::varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (rest_.empty()) throw Error(where_, "the file ends inside a number");
        const auto byte = static_cast<uint8_t>(rest_[0]);
        rest_.remove_prefix(1);
        value |= static_cast<uint64_t>(byte & 0x7F) << shift;
        if (byte < 0x80) return value;
    }
    throw Error(where_, "a number has more than ten bytes");
}

std::string_view WireReader::take(uint64_t size) {
    if (size > rest_.size()) throw Error(where_, "a field is longer than what holds it");
    const std::string_view part = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return part;
}

bool WireReader::next() {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    if (tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) throw Error(where_, "a field number is invalid");
    field_ = static_cast<uint32_t>(tag >> 3);
    wire_ = static_cast<Wire>(tag & 7);
    switch (wire_) {
        case Wire::varint:
            number_ = varint();
            break;
        case Wire::fixed64:
            bytes_ = take(8);
            break;
        case Wire::bytes:
            bytes_ = take(varint());
            break;
        case Wire::fixed32:
            bytes_ = take(4);
            break;
        default:
            throw Error(where_, "field " + std::to_string(field_) + " has no known wire type");
    }
    return true;
}

void WireReader::expect(Wire wire) const {
    if (wire_ == wire) return;
    throw Error(where_, "field " + std::to_string(field_) + " has wire type " +
                            std::to_string(static_cast<uint32_t>(wire_)) + ", expected " +
                            std::to_string(static_cast<uint32_t>(wire)));
}

std::string_view WireReader::bytes() const {
    expect(Wire::bytes);
    return bytes_;
}

int64_t WireReader::integer() const {
    expect(Wire::varint);
    return static_cast<int64_t>(number_);
}

float WireReader::real() const {
    expect(Wire::fixed32);
    uint32_t bits = 0;
    for (int i = 3; i >= 0; --i) bits = bits << 8 | static_cast<uint8_t>(bytes_[i]);
    return std::bit_cast<float>(bits);
}

void WireWriter::varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) message_ += static_cast<char>((value & 0x7F) | 0x80);
    message_ += static_cast<char>(value);
}

void WireWriter::bytes(uint32_t field, std::string_view value) {
    varint(uint64_t{field} << 3 | 2);
    varint(value.size());
    message_ += value;
}

void WireWriter::integer(uint32_t field, int64_t value) {
    varint(uint64_t{field} << 3);
    varint(static_cast<uint64_t>(value));
}

void WireWriter::real(uint32_t field, float value) {
    varint(uint64_t{field} << 3 | 5);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int i = 0; i < 4; ++i) message_ += static_cast<char>(bits >> (8 * i));
}

}  // namespace muster
