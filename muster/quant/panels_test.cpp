// SPDX-License-Identifier: Apache-2.0
#include "muster/quant/panels.h"

#include <gtest/gtest.h>

#include <vector>

#include "muster/core/random.h"

namespace muster {
namespace {

std::vector<std::byte> random_bytes(int64_t n, uint64_t seed) {
    Random random(seed);
    std::vector<std::byte> bytes(static_cast<size_t>(n));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random.below(256));
    return bytes;
}

/// Every block format, with rows of whole and of broken chunks.
template <typename Body>
void for_all(Body body) {
    for (const DType dtype : all_dtypes()) {
        if (panel_planes(dtype).empty()) continue;
        SCOPED_TRACE(dtype_info(dtype).name);
        for (const int64_t cols : {32, 256, 288, 512, 1536}) {
            if (cols % dtype_info(dtype).block_elements == 0) body(dtype, cols);
        }
    }
}

TEST(Panels, PlanesCoverEachByteOfABlockOnce) {
    for_all([](DType dtype, int64_t) {
        std::vector<int> seen(static_cast<size_t>(dtype_info(dtype).block_bytes));
        for (const PanelPlane& plane : panel_planes(dtype)) {
            for (int i = 0; i < plane.bytes * plane.count; ++i) {
                ++seen.at(static_cast<size_t>(plane.offset + i));
            }
        }
        for (const int times : seen) EXPECT_EQ(times, 1);
    });
}

TEST(Panels, RowsComeBack) {
    for_all([](DType dtype, int64_t cols) {
        WeightMatrix w{dtype, nullptr, 48, cols};
        const std::vector<std::byte> bytes = random_bytes(w.bytes(), 3);
        w.data = bytes.data();
        ASSERT_TRUE(panels_fit(w));
        std::vector<std::byte> packed(bytes.size());
        pack_panels(w, 0, 1, packed.data());
        pack_panels(w, 1, 3, packed.data() + 16 * w.row_bytes());
        const WeightMatrix panels{dtype, packed.data(), 48, cols, WeightLayout::panels};
        std::vector<std::byte> row(static_cast<size_t>(w.row_bytes()));
        for (int64_t i = 0; i < w.rows; ++i) {
            unpack_row(panels, i, row.data());
            EXPECT_TRUE(std::equal(row.begin(), row.end(), w.row(i))) << "row " << i;
        }
    });
}

TEST(Panels, MissingRowsAreCopiesOfTheFirst) {
    for_all([](DType dtype, int64_t cols) {
        WeightMatrix w{dtype, nullptr, 16, std::min<int64_t>(cols, kPanelChunk)};
        const std::vector<std::byte> bytes = random_bytes(w.bytes(), 4);
        w.data = bytes.data();
        std::vector<std::byte> packed(bytes.size());
        pack_chunk(dtype, w.data, w.row_bytes(), 5, w.cols / dtype_info(dtype).block_elements,
                   packed.data());
        const WeightMatrix panels{dtype, packed.data(), 16, w.cols, WeightLayout::panels};
        std::vector<std::byte> row(static_cast<size_t>(w.row_bytes()));
        for (int64_t i = 0; i < 16; ++i) {
            unpack_row(panels, i, row.data());
            EXPECT_TRUE(std::equal(row.begin(), row.end(), w.row(i < 5 ? i : 0))) << "row " << i;
        }
    });
}

TEST(Panels, PlainFormatsAndOddRowsHaveNone) {
    EXPECT_FALSE(panels_fit({DType::f32, nullptr, 16, 32}));
    EXPECT_FALSE(panels_fit({DType::bf16, nullptr, 16, 32}));
    EXPECT_FALSE(panels_fit({DType::q8_0, nullptr, 24, 32}));
    EXPECT_TRUE(panels_fit({DType::q8_0, nullptr, 32, 32}));
}

}  // namespace
}  // namespace muster
