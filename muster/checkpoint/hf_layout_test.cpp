// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/hf_layout.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

namespace muster {
namespace {

using Tensors = std::map<std::string, std::vector<int>>;

int64_t elements(const std::vector<int64_t>& shape) {
    return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

/// Makes the tensors, each place inside its source.
Tensors made(const std::vector<Gather>& gathers, const Tensors& from) {
    Tensors result;
    for (const Gather& g : gathers) {
        std::vector<int>& out = result[g.name];
        for (int64_t run = 0; run * g.run < elements(g.shape); ++run) {
            const RunPlace place = g.place(run);
            const auto& source = from.at(g.sources.at(place.source).name);
            EXPECT_EQ(elements(g.sources[place.source].shape), int64_t(source.size()));
            for (int64_t i = 0; i < g.run; ++i)
                out.push_back(source.at(place.offset + i * place.stride));
        }
        EXPECT_EQ(int64_t(out.size()), elements(g.shape)) << g.name;
        // A part lies whole where its first run does.
        for (int64_t part = 0; part < g.parts; ++part) {
            const int64_t size = elements(g.shape) / g.parts;
            const RunPlace place = g.place(part * size / g.run);
            const auto& source = from.at(g.sources.at(place.source).name);
            for (int64_t i = 0; i < size; ++i)
                EXPECT_EQ(source.at(place.offset + i), out.at(part * size + i)) << g.name;
        }
    }
    return result;
}

/// Tensors of Hugging Face's side with values 0, 1, 2 ...
Tensors numbered(const Correspondence& c) {
    Tensors result;
    int next = 0;
    for (const Gather& g : c.hf) {
        auto& values = result[g.name];
        values.resize(elements(g.shape));
        std::iota(values.begin(), values.end(), next);
        next += static_cast<int>(values.size());
    }
    return result;
}

TEST(HfLayout, BothDirectionsUndoEachOther) {
    using namespace hf_layout;
    for (const Correspondence& c :
         {same("h", "g", {3, 4}), same("h", "g", {4}, {1, 4}), permuted("h", "g", 24, 5, 3),
          permuted("h", "g", 24, 0, 3), experts("h.{}.w", "g", 3, 4, 5),
          halves("h", "a", "b", 3, 4, 5), halves("h", "a", "b", 0, 4, 5),
          alternating("h", "a", "b", 3, 4, 5), alternating_transposed("h", "a", "b", 3, 4, 5),
          alternating_bias("h", "a", "b", 3, 4), transposed("h", "g", 3, 4, 5),
          latent("h", "k", "v", 3, 4, 2, 5)}) {
        const Tensors before = numbered(c);
        EXPECT_EQ(made(c.hf, made(c.gguf, before)), before) << c.gguf[0].name;
    }
}

TEST(HfLayout, PermutationIsTheConverters) {
    // reshape(heads, 2, dim / 2).swapaxes(1, 2) of a head of 8 values.
    const Correspondence c = hf_layout::permuted("h", "g", 8, 0, 1);
    EXPECT_EQ(made(c.gguf, numbered(c))["g"], (std::vector<int>{0, 4, 1, 5, 2, 6, 3, 7}));
}

TEST(HfLayout, GateAndUp) {
    const Correspondence h = hf_layout::halves("h", "a", "b", 2, 2, 1);
    EXPECT_EQ(made(h.gguf, numbered(h))["b"], (std::vector<int>{2, 3, 6, 7}));
    const Correspondence a = hf_layout::alternating("h", "a", "b", 1, 2, 2);
    EXPECT_EQ(made(a.gguf, numbered(a))["b"], (std::vector<int>{2, 3, 6, 7}));
    // [1, 2 inputs, 4]: column 1 is up's first row.
    const Correspondence t = hf_layout::alternating_transposed("h", "a", "b", 1, 2, 2);
    EXPECT_EQ(made(t.gguf, numbered(t))["b"], (std::vector<int>{1, 5, 3, 7}));
}

TEST(HfLayout, LatentKeysAreTransposed) {
    // Two heads of two key rows and one value row, rank 2.
    const Correspondence c = hf_layout::latent("h", "k", "v", 2, 2, 1, 2);
    const Tensors g = made(c.gguf, numbered(c));
    EXPECT_EQ(g.at("k"), (std::vector<int>{0, 2, 1, 3, 6, 8, 7, 9}));
    EXPECT_EQ(g.at("v"), (std::vector<int>{4, 5, 10, 11}));
}

}  // namespace
}  // namespace muster
