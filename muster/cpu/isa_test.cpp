// SPDX-License-Identifier: Apache-2.0
#include "muster/cpu/isa.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "muster/core/error.h"

namespace muster {
namespace {

TEST(Isa, GenericIsAlwaysThereAndWeakest) {
    const std::vector<Isa>& isas = available_isas();
    ASSERT_FALSE(isas.empty());
    EXPECT_EQ(isas.front(), Isa::generic);
    EXPECT_TRUE(std::is_sorted(isas.begin(), isas.end()));
    EXPECT_EQ(current_isa(), isas.back());
}

TEST(Isa, NamesGoBothWays) {
    for (Isa isa : {Isa::generic, Isa::avx2, Isa::avx512, Isa::amx}) {
        EXPECT_EQ(parse_isa(isa_name(isa)), isa);
    }
    EXPECT_THROW(parse_isa("sse9"), Error);
}

TEST(Isa, CanBeChosenAmongTheAvailable) {
    for (Isa isa : available_isas()) {
        set_isa(isa);
        EXPECT_EQ(current_isa(), isa);
    }
    for (Isa isa : {Isa::avx2, Isa::avx512, Isa::amx}) {
        if (std::count(available_isas().begin(), available_isas().end(), isa) == 0) {
            EXPECT_THROW(set_isa(isa), Error);
        }
    }
    set_isa(available_isas().back());
}

}  // namespace
}  // namespace muster
