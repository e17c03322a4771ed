// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace muster {

/// Reads the fields of one protobuf message (protobuf.dev/programming-guides/encoding) from
/// untrusted bytes, which must outlive it. Every getter throws Error, under `where`, when the field
/// has another wire type.
class WireReader {
  public:
    WireReader(std::string_view bytes, std::string_view where) : rest_(bytes), where_(where) {}

    /// Goes to the next field; false at the end. Throws Error on damage, groups included.
    bool next();
    uint32_t field() const noexcept { return field_; }

    std::string_view bytes() const;  ///< strings, bytes, nested messages
    int64_t integer() const;         ///< int32, int64, enum
    bool boolean() const { return integer() != 0; }
    float real() const;

  private:
    enum class Wire : uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

    uint64_t varint();
    std::string_view take(uint64_t size);
    void expect(Wire wire) const;

    std::string_view rest_;
    std::string_view where_;
    uint32_t field_ = 0;
    Wire wire_ = Wire::varint;
    uint64_t number_ = 0;
    std::string_view bytes_;
};

/// Appends the fields of a protobuf message to a string.
class WireWriter {
  public:
    void bytes(uint32_t field, std::string_view value);
    void integer(uint32_t field, int64_t value);
    void real(uint32_t field, float value);

    const std::string& message() const noexcept { return message_; }

  private:
    void varint(uint64_t value);

    std::string message_;
};

}  // namespace muster
