// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <vector>

#include "muster/core/random.h"
#include "muster/experts/moe.h"
#include "muster/quant/convert.h"
#include "muster/quant/panels.h"

namespace muster::bench {

struct LayerShape {
    int experts = 0;
    int64_t d_model = 0, width = 0;
    int tokens = 0;
    int top_k = 0;
    DType dtype = DType::f32;
    WeightLayout layout = WeightLayout::rows;
};

/// Routes of tokens to `top_k` different experts each, all equally likely.
inline RouteTable random_routes(const LayerShape& shape, Random& random) {
    RouteTable routes;
    routes.clear(shape.experts);
    std::vector<int32_t> order(static_cast<size_t>(shape.experts));
    for (int e = 0; e < shape.experts; ++e) order[static_cast<size_t>(e)] = e;
    for (int t = 0; t < shape.tokens; ++t) {
        for (int k = 0; k < shape.top_k; ++k) {
            const auto left = static_cast<uint64_t>(shape.experts - k);
            std::swap(order[static_cast<size_t>(k)],
                      order[static_cast<size_t>(k) + random.below(left)]);
            routes.experts.push_back(order[static_cast<size_t>(k)]);
            routes.weights.push_back(1.0f / static_cast<float>(shape.top_k));
        }
        routes.offsets.push_back(static_cast<int32_t>(routes.experts.size()));
    }
    return routes;
}

/// A gated silu layer with random weights, and an input for it.
struct Layer {
    LayerShape shape;
    ExpertBank bank;
    RouteTable routes;
    std::vector<std::byte> weights;
    std::vector<float> x;

    Layer(const LayerShape& s, uint64_t seed) : shape(s) {
        Random random(seed);
        const int64_t matrix = s.d_model * s.width;
        const auto bytes = static_cast<size_t>(dtype_bytes(s.dtype, matrix));
        weights.resize(bytes * 3 * static_cast<size_t>(s.experts));
        // One random matrix many times over: values do not affect speed.
        const bool blocks = s.layout == WeightLayout::panels || !panel_planes(s.dtype).empty();
        if (blocks) {  // any bytes, small enough that all scales are finite
            for (size_t i = 0; i < bytes; ++i) {
                weights[i] = static_cast<std::byte>(random.below(64));
            }
        } else {
            std::vector<float> values(static_cast<size_t>(matrix));
            for (float& v : values) {
                v = static_cast<float>((random.uniform() - 0.5) / std::sqrt(double(s.d_model)));
            }
            encode_row(s.dtype, values.data(), weights.data(), matrix);
        }
        bank.d_model = s.d_model;
        for (int e = 0; e < s.experts; ++e) {
            Expert expert;
            WeightMatrix* matrices[3] = {&expert.gate, &expert.up, &expert.down};
            for (size_t m = 0; m < 3; ++m) {
                std::byte* data = weights.data() + (static_cast<size_t>(e) * 3 + m) * bytes;
                if (data != weights.data()) std::copy_n(weights.data(), bytes, data);
                *matrices[m] = {s.dtype, data, s.width, s.d_model, s.layout};
            }
            std::swap(expert.down.rows, expert.down.cols);
            bank.experts.push_back(expert);
        }
        bank.check();
        routes = random_routes(s, random);
        x.resize(static_cast<size_t>(s.tokens * s.d_model));
        for (float& v : x) v = static_cast<float>(random.normal());
    }

    MatrixView<const float> input() const { return {x.data(), shape.tokens, shape.d_model}; }
    MatrixView<float> view(std::vector<float>& m) const {
        return {m.data(), shape.tokens, shape.d_model};
    }
    /// Multiply-adds times two of a forward pass.
    double forward_operations() const {
        return 6.0 * static_cast<double>(shape.d_model * shape.width) * routes.activations();
    }
};

}  // namespace muster::bench
