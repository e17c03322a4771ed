// SPDX-License-Identifier: Apache-2.0
// Sources: modeling_*.py of huggingface/transformers, and what llama.cpp's convert_hf_to_gguf.py
// makes of them.
#include "muster/checkpoint/hf_layout.h"

#include <algorithm>

namespace muster::hf_layout {
namespace {

using Shape = std::vector<int64_t>;

/// Rows of one source, in another order or all; contiguous when `parts` says so.
Gather rows_of(std::string name, Shape shape, GatherSource source, int64_t parts,
               std::function<int64_t(int64_t)> row) {
    const int64_t cols = shape.back();
    return {std::move(name),
            std::move(shape),
            {std::move(source)},
            cols,
            [cols, row = std::move(row)](int64_t r) {
                return RunPlace{0, row(r) * cols, 1};
            },
            parts};
}

int64_t identity(int64_t row) { return row; }

/// `first` and `second` rows taking turns in blocks of `block` rows, `cols` values each.
Correspondence two_in_one(const std::string& hf, const std::string& first,
                          const std::string& second, Shape one, Shape both, int64_t block) {
    const auto part = [&](const std::string& name, int64_t half, int64_t parts) {
        return rows_of(name, one, {hf, both}, parts, [block, half](int64_t r) {
            return (r / block * 2 + half) * block + r % block;
        });
    };
    // Whole experts lie together where a block is all rows of an expert.
    const int64_t experts = one.size() > 2 ? one[0] : 1;
    const int64_t parts = block == one[one.size() - 2] ? experts : 0;
    const int64_t cols = one.back();
    Gather joined{
        hf,
        both,
        {{first, one}, {second, one}},
        cols,
        [block, cols](int64_t r) {
            const int64_t turn = r / block;
            return RunPlace{static_cast<int>(turn % 2), (turn / 2 * block + r % block) * cols, 1};
        },
        0};
    return {{part(first, 0, parts), part(second, 1, parts)}, {std::move(joined)}};
}

}  // namespace

Correspondence same(const std::string& hf, const std::string& gguf, const Shape& shape,
                    Shape hf_shape) {
    if (hf_shape.empty()) hf_shape = shape;
    Gather to_gguf = rows_of(gguf, shape, {hf, hf_shape}, 1, identity);
    Gather to_hf = rows_of(hf, hf_shape, {gguf, shape}, 1, identity);
    return {{std::move(to_gguf)}, {std::move(to_hf)}};
}

Correspondence permuted(const std::string& hf, const std::string& gguf, int64_t rows, int64_t cols,
                        int64_t heads) {
    const Shape shape = cols > 0 ? Shape{rows, cols} : Shape{rows};
    const int64_t run = std::max<int64_t>(cols, 1), dim = rows / heads, half = dim / 2;
    const auto gather = [&](const std::string& name, const std::string& from, auto&& order) {
        return Gather{name,
                      shape,
                      {{from, shape}},
                      run,
                      [=](int64_t r) {
                          return RunPlace{0, (r / dim * dim + order(r % dim)) * run, 1};
                      },
                      0};
    };
    return {{gather(gguf, hf, [half](int64_t i) { return i % 2 * half + i / 2; })},
            {gather(hf, gguf, [half](int64_t i) { return i % half * 2 + i / half; })}};
}

Correspondence experts(std::string_view hf, const std::string& gguf, int64_t experts, int64_t rows,
                       int64_t cols) {
    const Shape one{rows, cols}, all{experts, rows, cols};
    const size_t at = hf.find("{}");
    Correspondence result;
    Gather stack{gguf,
                 all,
                 {},
                 cols,
                 [rows, cols](int64_t r) {
                     return RunPlace{static_cast<int>(r / rows), r % rows * cols, 1};
                 },
                 experts};
    for (int64_t e = 0; e < experts; ++e) {
        std::string name =
            std::string(hf.substr(0, at)) + std::to_string(e) + std::string(hf.substr(at + 2));
        stack.sources.push_back({name, one});
        result.hf.push_back(rows_of(std::move(name), one, {gguf, all}, 1,
                                    [e, rows](int64_t r) { return e * rows + r; }));
    }
    result.gguf.push_back(std::move(stack));
    return result;
}

Correspondence halves(const std::string& hf, const std::string& gate, const std::string& up,
                      int64_t experts, int64_t width, int64_t cols) {
    if (experts == 0) return two_in_one(hf, gate, up, {width, cols}, {2 * width, cols}, width);
    return two_in_one(hf, gate, up, {experts, width, cols}, {experts, 2 * width, cols}, width);
}

Correspondence alternating(const std::string& hf, const std::string& gate, const std::string& up,
                           int64_t experts, int64_t width, int64_t cols) {
    return two_in_one(hf, gate, up, {experts, width, cols}, {experts, 2 * width, cols}, 1);
}

Correspondence alternating_transposed(const std::string& hf, const std::string& gate,
                                      const std::string& up, int64_t experts, int64_t width,
                                      int64_t cols) {
    const Shape one{experts, width, cols}, both{experts, cols, 2 * width};
    const auto part = [&](const std::string& name, int64_t half) {
        return Gather{
            name,
            one,
            {{hf, both}},
            cols,
            [=](int64_t r) {
                return RunPlace{0, r / width * cols * 2 * width + r % width * 2 + half, 2 * width};
            },
            0};
    };
    Gather joined{
        hf,
        both,
        {{gate, one}, {up, one}},
        1,
        [width, cols](int64_t i) {
            const int64_t j = i % (2 * width), k = i / (2 * width) % cols;
            const int64_t expert = i / (2 * width * cols);
            return RunPlace{static_cast<int>(j % 2), (expert * width + j / 2) * cols + k, 1};
        },
        0};
    return {{part(gate, 0), part(up, 1)}, {std::move(joined)}};
}

Correspondence alternating_bias(const std::string& hf, const std::string& gate,
                                const std::string& up, int64_t experts, int64_t width) {
    const Shape one{experts, width}, both{experts, 2 * width};
    const auto part = [&](const std::string& name, int64_t half) {
        return Gather{name,
                      one,
                      {{hf, both}},
                      width,
                      [=](int64_t r) { return RunPlace{0, r * 2 * width + half, 2}; },
                      0};
    };
    Gather joined{hf,
                  both,
                  {{gate, one}, {up, one}},
                  1,
                  [](int64_t i) {
                      return RunPlace{static_cast<int>(i % 2), i / 2, 1};
                  },
                  0};
    return {{part(gate, 0), part(up, 1)}, {std::move(joined)}};
}

Correspondence transposed(const std::string& hf, const std::string& gguf, int64_t experts,
                          int64_t rows, int64_t cols) {
    const auto turned = [](const std::string& name, const std::string& from, int64_t n, int64_t r,
                           int64_t c) {
        return Gather{name,
                      {n, r, c},
                      {{from, {n, c, r}}},
                      c,
                      [r, c](int64_t i) {
                          return RunPlace{0, i / r * c * r + i % r, r};
                      },
                      0};
    };
    return {{turned(gguf, hf, experts, rows, cols)}, {turned(hf, gguf, experts, cols, rows)}};
}

Correspondence latent(const std::string& hf, const std::string& k, const std::string& v,
                      int64_t heads, int64_t nope, int64_t value, int64_t rank) {
    const Shape whole{heads * (nope + value), rank};
    const Shape keys{heads, rank, nope}, values{heads, value, rank};
    Gather to_k{k,
                keys,
                {{hf, whole}},
                nope,
                [=](int64_t r) {
                    return RunPlace{0, r / rank * (nope + value) * rank + r % rank, rank};
                },
                0};
    Gather to_v = rows_of(v, values, {hf, whole}, heads,
                          [=](int64_t r) { return r / value * (nope + value) + nope + r % value; });
    Gather joined{hf,
                  whole,
                  {{k, keys}, {v, values}},
                  rank,
                  [=](int64_t r) {
                      const int64_t head = r / (nope + value), i = r % (nope + value);
                      if (i < nope) return RunPlace{0, head * rank * nope + i, nope};
                      return RunPlace{1, (head * value + i - nope) * rank, 1};
                  },
                  0};
    return {{std::move(to_k), std::move(to_v)}, {std::move(joined)}};
}

}  // namespace muster::hf_layout
