// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/weight_map.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <utility>

#include "muster/core/error.h"

namespace muster {
namespace {

std::string failure(const auto& act) {
    try {
        act();
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}

TEST(WeightMap, OwnsWhatItAllocatesAlsoAfterAMove) {
    WeightMap map("model");
    std::byte* bytes = map.allocate("a", DType::f32, {2, 3});
    EXPECT_EQ(std::bit_cast<uintptr_t>(bytes) % 64, 0u);
    for (int i = 0; i < 6; ++i) {
        const float value = static_cast<float>(i);
        std::memcpy(bytes + 4 * i, &value, 4);
    }
    map.set("k", uint64_t{7});
    const WeightMap moved(std::move(map));
    EXPECT_EQ(moved.tensor("a", {2, 3}).data, bytes);
    EXPECT_EQ(reinterpret_cast<const float*>(moved.tensor("a", {2, 3}).data)[5], 5.0f);
    EXPECT_EQ(moved.integer("k"), 7);
    EXPECT_TRUE(moved.has_tensor("a"));
    EXPECT_FALSE(moved.has_tensor("b"));
}

TEST(WeightMap, KeepsOwnersAlive) {
    auto owner = std::make_shared<int>(1);
    const std::weak_ptr<int> watch = owner;
    {
        WeightMap map("model");
        map.keep(std::move(owner));
        const WeightMap moved(std::move(map));
        EXPECT_FALSE(watch.expired());
    }
    EXPECT_TRUE(watch.expired());
}

TEST(WeightMap, RefusesRepetitionsAndSizesThatCannotBe) {
    WeightMap map("model");
    map.set("k", true);
    EXPECT_EQ(failure([&] { map.set("k", false); }), "[model] has the metadata key 'k' twice");
    map.erase("k");
    map.set("k", false);
    EXPECT_FALSE(map.boolean("k"));
    map.allocate("a", DType::f32, {1});
    EXPECT_EQ(failure([&] { map.add("a", {}); }), "[model] has the tensor 'a' twice");
    EXPECT_EQ(failure([&] {
                  map.allocate("b", DType::q8_0, {3, 31});
              }),
              "[model] tensor 'b' has shape [3, 31], expected rows of whole blocks and less than "
              "2^63 bytes");
    EXPECT_NE(failure([&] { map.allocate("b", DType::f32, {INT64_MAX, 2}); }), "no error");
    EXPECT_FALSE(map.has_tensor("b"));
}

}  // namespace
}  // namespace muster
