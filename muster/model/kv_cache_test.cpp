// SPDX-License-Identifier: Apache-2.0
#include "muster/model/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/model/testing.h"

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

TEST_F(KvCacheFile, ComesBackAsItWas) {
    KvCache other(config_, 8);  // another capacity, another layout
    other.append(1);
    EXPECT_EQ(other.load(path_, identity_), state_);
    ASSERT_EQ(other.length(), 7);
    EXPECT_EQ(other.tokens()[6], 106);
    const int dim = cache_.head_dim();
    for (int l = 0; l < cache_.layers(); ++l)
        for (int t = 0; t < 7; ++t)
            for (int i = 0; i < cache_.heads() * dim; ++i) {
                const int h = i / dim, at = t * dim + i % dim;
                EXPECT_EQ(other.keys(l, h)[at], row(l, t)[i]);
                EXPECT_EQ(other.values(l, h)[at], row(-l, -t)[i]);
            }
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
    EXPECT_THAT(refusal(foreign, identity_), HasSubstr("another model"));
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
