// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "muster/core/dtype.h"
#include "muster/core/error.h"

namespace muster {

/// A matrix somewhere in memory: `rows` rows of `cols` values, `stride` values from row to row.
/// Does not own its memory.
template <typename T>
struct MatrixView {
    T* data = nullptr;
    int64_t rows = 0;
    int64_t cols = 0;
    int64_t stride = 0;

    MatrixView() = default;
    MatrixView(T* d, int64_t r, int64_t c) : data(d), rows(r), cols(c), stride(c) {}
    MatrixView(T* d, int64_t r, int64_t c, int64_t s) : data(d), rows(r), cols(c), stride(s) {}

    T* row(int64_t i) const noexcept { return data + i * stride; }
    T& operator()(int64_t i, int64_t j) const noexcept { return data[i * stride + j]; }
    MatrixView slice(int64_t first, int64_t count) const noexcept {
        return {data + first * stride, count, cols, stride};
    }
    operator MatrixView<const T>() const noexcept
        requires(!std::is_const_v<T>)
    {
        return {data, rows, cols, stride};
    }
};

/// A tensor in a file or buffer, row-major, slowest dimension first (a linear layer's weight is
/// [out, in]); rows are contiguous and whole blocks of their format. Does not own its memory.
struct TensorView {
    DType dtype = DType::f32;
    std::vector<int64_t> shape;
    const std::byte* data = nullptr;

    int64_t elements() const noexcept {
        int64_t n = 1;
        for (int64_t d : shape) n *= d;
        return n;
    }
    int64_t bytes() const noexcept { return dtype_bytes(dtype, elements()); }
};

/// How the rows of a weight matrix lie in memory: one after the other, as in files, or interleaved
/// for the kernels, in as many bytes (quant/panels.h).
enum class WeightLayout : uint8_t { rows, panels };

/// A weight matrix [rows = out features, cols = in features] in any format, without gaps.
/// Does not own its memory.
struct WeightMatrix {
    DType dtype = DType::f32;
    const std::byte* data = nullptr;
    int64_t rows = 0;
    int64_t cols = 0;
    WeightLayout layout = WeightLayout::rows;

    int64_t row_bytes() const noexcept { return dtype_bytes(dtype, cols); }
    /// Start of row i, which is whole under WeightLayout::rows only.
    const std::byte* row(int64_t i) const noexcept { return data + i * row_bytes(); }
    int64_t bytes() const noexcept { return rows * row_bytes(); }
    bool empty() const noexcept { return data == nullptr; }
};

}  // namespace muster
