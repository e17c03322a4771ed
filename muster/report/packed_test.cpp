// SPDX-License-Identifier: Apache-2.0
#include "muster/report/packed.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace muster {
namespace {

std::string encoded(std::string_view text) {
    return base64({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

TEST(Base64, IsThatOfTheSpecification) {
    // RFC 4648, section 10.
    EXPECT_EQ(encoded(""), "");
    EXPECT_EQ(encoded("f"), "Zg==");
    EXPECT_EQ(encoded("fo"), "Zm8=");
    EXPECT_EQ(encoded("foo"), "Zm9v");
    EXPECT_EQ(encoded("foob"), "Zm9vYg==");
    EXPECT_EQ(encoded("fooba"), "Zm9vYmE=");
    EXPECT_EQ(encoded("foobar"), "Zm9vYmFy");
}

TEST(PackedIntegers, TakeTheLeastBits) {
    const auto bits = [](std::vector<uint32_t> values) { return pack_integers(values).bits; };
    EXPECT_EQ(bits({7, 7}), 0);
    EXPECT_EQ(bits({7, 8}), 1);
    EXPECT_EQ(bits({7, 10}), 2);
    EXPECT_EQ(bits({0, 15}), 4);
    EXPECT_EQ(bits({0, 16}), 8);
    EXPECT_EQ(bits({0, 256}), 16);
    EXPECT_EQ(bits({0, 65536}), 32);
    EXPECT_EQ(bits({0, 0xFFFFFFFF}), 32);
    EXPECT_EQ(pack_integers(std::vector<uint32_t>{5, 6, 5, 6, 6}).data, encoded("\x1A"));
    EXPECT_EQ(pack_integers(std::vector<uint32_t>{1, 4, 2}).data, encoded("\x1C"));
    EXPECT_EQ(pack_integers(std::vector<uint32_t>{0x30, 0x131}).data,
              encoded(std::string_view("\0\0\x01\x01", 4)));
    EXPECT_EQ(pack_integers({}).bits, 0);
}

}  // namespace
}  // namespace muster
