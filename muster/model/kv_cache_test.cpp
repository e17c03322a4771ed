// SPDX-License-Identifier: Apache-2.0
#include "muster/model/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/model/testing.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

class KvCacheFile : public ::testing::Test {
  protected:
    KvCacheFile() : cache_(config_, 10) {
        for (int t = 0; t < 7; ++t) {
            cache_.append(100 + t);
            for (int l = 0; l < cache_.layers(); ++l)
                cache_.store(l, t, row(l, t).data(), row(-l, -t).data());
        }
        cache_.save(path_, identity_, state_);
    }
    /// What stands at a position, in some way that tells places apart.
    std::vector<float> row(int l, int t) const {
        std::vector<float> x(config_.kv_heads * config_.head_dim);
        for (size_t i = 0; i < x.size(); ++i)
            x[i] = static_cast<float>(l * 1000 + t * 100 + static_cast<int>(i));
        return x;
    }
    std::string refusal(const std::string& content) const {
        const auto path = directory_ / "changed";
        write_file(path, content);
        KvCache other(config_, 10);
        try {
            other.load(path, identity_);
        } catch (const Error& e) {
            EXPECT_EQ(other.length(), 0);
            return e.what();
        }
        return "";
    }

    testing::TemporaryDirectory directory_;
    std::filesystem::path path_ = directory_ / "cache";
    ModelConfig config_ = testing::tiny_muster();
    CacheIdentity identity_{42, "top-k:2"};
    std::vector<double> state_{0.25, -1.5};
    KvCache cache_;
};

/// What the cache holds of position t: keys or values of all heads.
std::vector<float> stored(const KvCache& cache, int layer, int t, bool values) {
    const KvView v = cache.view(layer);
    const KvLayerShape& s = cache.shape(layer);
    const int dim = values ? s.value_dim : s.key_dim;
    std::vector<float> x(s.heads * dim);
    for (int h = 0; h < s.heads; ++h) {
        const std::byte* row = values ? v.values + h * v.value_head_stride + t * v.value_stride
                                      : v.keys + h * v.key_head_stride + t * v.key_stride;
        decode_row(v.dtype, row, &x[h * dim], dim);
    }
    return x;
}

TEST_F(KvCacheFile, ComesBackAsItWas) {
    KvCache other(config_, 8);  // another capacity, another layout
    other.append(1);
    EXPECT_EQ(other.load(path_, identity_), state_);
    ASSERT_EQ(other.length(), 7);
    EXPECT_EQ(other.tokens()[6], 106);
    for (int l = 0; l < cache_.layers(); ++l)
        for (int t = 0; t < 7; ++t) {
            EXPECT_EQ(stored(other, l, t, false), row(l, t));
            EXPECT_EQ(stored(other, l, t, true), row(-l, -t));
        }
}

constexpr KvLayerShape kLatent{.heads = 1, .key_dim = 96, .value_dim = 64, .values_in_keys = true};
constexpr KvLayerShape kApart{.heads = 2, .key_dim = 64, .value_dim = 32};
constexpr KvLayerShape kOdd{.heads = 3, .key_dim = 24, .value_dim = 40};

std::vector<float> wave(int64_t n, double phase) {
    std::vector<float> x(n);
    for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(std::sin(0.37 * i + phase));
    return x;
}

TEST(KvCache, LayersOfAnyShapeRoundToTheFormatAndNoFurther) {
    const testing::TemporaryDirectory directory;
    const KvLayerShape shapes[] = {kLatent, kApart, kOdd};
    for (const DType dtype : {DType::f32, DType::f16, DType::q8_0}) {
        // Halves of the last place of f16 below 1; of 1/127, plus the rounding of the block's
        // scale.
        const double tolerance = dtype == DType::f32   ? 0
                                 : dtype == DType::f16 ? 0x1p-12
                                                       : 0.5 / 127 + 0x1p-11;
        KvCache cache(shapes, dtype, 9);
        for (int t = 0; t < 5; ++t) {
            cache.append(t);
            for (int l = 0; l < 3; ++l)
                cache.store(
                    l, t, wave(shapes[l].heads * shapes[l].key_dim, t + l).data(),
                    l == 0 ? nullptr : wave(shapes[l].heads * shapes[l].value_dim, t - l).data());
        }
        cache.save(directory / "cache", {1, "model"});
        KvCache other(shapes, dtype, 5);
        other.load(directory / "cache", {1, "model"});
        for (const KvCache* c : {&cache, &other})
            for (int t = 0; t < 5; ++t)
                for (int l = 0; l < 3; ++l) {
                    const auto keys = stored(*c, l, t, false), values = stored(*c, l, t, true);
                    const auto k = wave(static_cast<int64_t>(keys.size()), t + l);
                    const auto v = l == 0 ? k : wave(static_cast<int64_t>(values.size()), t - l);
                    for (size_t i = 0; i < keys.size(); ++i) ASSERT_NEAR(keys[i], k[i], tolerance);
                    for (size_t i = 0; i < values.size(); ++i)
                        ASSERT_NEAR(values[i], v[i], tolerance);
                }
    }
}

TEST(KvCache, CountsWhatItStores) {
    const KvLayerShape shapes[] = {kLatent, kApart, kOdd};
    EXPECT_EQ(KvCache::bytes(shapes, DType::f32, 10), 10 * 4 * (96 + 2 * 96 + 3 * 64));
    EXPECT_EQ(KvCache::bytes(shapes, DType::f16, 10), 10 * 2 * (96 + 2 * 96 + 3 * 64));
    EXPECT_EQ(KvCache::bytes(shapes, DType::q8_0, 10),
              10 * (34 * (3 + 2 * 3) + 2 * 3 * 64));  // dimensions 24 and 40 stay f16
}

TEST(KvCache, OtherFormatsAreRefused) {
    EXPECT_THROW(KvCache({&kApart, 1}, DType::q4_0, 4), Error);
    EXPECT_THROW(KvCache({&kApart, 1}, DType::bf16, 4), Error);
}

TEST_F(KvCacheFile, AnotherFormatOrShapeIsRefused) {
    KvCache half(config_, 10, DType::f16);
    EXPECT_THAT([&] { half.load(path_, identity_); },
                ::testing::ThrowsMessage<Error>(HasSubstr("another format, expected f16")));
    const std::vector<KvLayerShape> wider(
        config_.num_layers(), {config_.kv_heads, config_.head_dim, config_.head_dim + 2});
    KvCache other(wider, DType::f32, 10);
    EXPECT_THROW(other.load(path_, identity_), Error);
    EXPECT_EQ(other.length(), 0);
}

TEST_F(KvCacheFile, AnotherModelPolicyOrContextIsRefused) {
    KvCache other(config_, 10), small(config_, 6);
    const auto refusal = [&](KvCache& cache, const CacheIdentity& identity) -> std::string {
        try {
            cache.load(path_, identity);
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    };
    EXPECT_THAT(refusal(other, {43, "top-k:2"}), HasSubstr("another model"));
    EXPECT_THAT(refusal(other, {42, "top-k:3"}), HasSubstr("`top-k:2`, expected `top-k:3`"));
    EXPECT_THAT(refusal(small, identity_), HasSubstr("holds 7 tokens"));
    KvCache foreign(testing::tiny_olmoe(), 10);
    EXPECT_THAT(refusal(foreign, identity_), HasSubstr("prompt cache was made with"));
}

TEST_F(KvCacheFile, EveryDamageIsRefused) {
    const std::string good = read_file(path_);
    EXPECT_EQ(refusal(good), "");
    EXPECT_THAT(refusal("hello"), HasSubstr("no prompt cache"));
    EXPECT_THAT(refusal(""), HasSubstr("no prompt cache"));
    for (size_t cut = 1; cut < good.size(); cut += 97)
        EXPECT_NE(refusal(good.substr(0, good.size() - cut)), "") << cut;
    EXPECT_NE(refusal(good + "x"), "");
    for (size_t at = 0; at < good.size(); at += at < 80 ? 1 : 53) {
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ 0x10);
        EXPECT_NE(refusal(bad), "") << at;
    }
}

}  // namespace
}  // namespace muster
