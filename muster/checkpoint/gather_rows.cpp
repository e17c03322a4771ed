// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/gather_rows.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "muster/core/error.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

constexpr int64_t kMostBlock = 256;  // values of the largest block format

/// `n` values from element `offset`, `stride` elements apart, as they are.
void move_values(const TensorView& from, int64_t offset, int64_t stride, int64_t n,
                 std::byte* out) {
    const auto size = static_cast<size_t>(dtype_bytes(from.dtype, 1));
    const std::byte* in = from.data + static_cast<size_t>(offset) * size;
    if (stride == 1) {
        std::memcpy(out, in, static_cast<size_t>(n) * size);
        return;
    }
    const auto step = static_cast<size_t>(stride) * size;
    for (int64_t i = 0; i < n; ++i, in += step, out += size) std::memcpy(out, in, size);
}

/// The same as f32, out of blocks: each is decoded once for values that follow each other in it.
void decode_values(const TensorView& from, int64_t offset, int64_t stride, int64_t n, float* out) {
    const int64_t block = dtype_info(from.dtype).block_elements;
    const int64_t bytes = dtype_info(from.dtype).block_bytes;
    if (stride == 1 && offset % block == 0 && n % block == 0)
        return decode_row(from.dtype, from.data + offset / block * bytes, out, n);
    std::array<float, kMostBlock> decoded;
    for (int64_t i = 0, held = -1; i < n; ++i) {
        const int64_t at = offset + i * stride;
        if (at / block != held) {
            held = at / block;
            decode_row(from.dtype, from.data + held * bytes, decoded.data(), block);
        }
        out[i] = decoded[static_cast<size_t>(at % block)];
    }
}

}  // namespace

GatherRows::GatherRows(Gather gather, std::vector<TensorView> sources, DType dtype)
    : gather_(std::move(gather)), sources_(std::move(sources)), dtype_(dtype) {
    MUSTER_ASSERT(sources_.size() == gather_.sources.size());
    MUSTER_ASSERT(dtype_info(dtype).block_elements == 1);
    for (const TensorView& s : sources_)
        MUSTER_ASSERT(dtype_info(s.dtype).block_elements <= kMostBlock);
}

void GatherRows::operator()(int64_t first, int64_t count, std::byte* out) const {
    const int64_t cols = gather_.shape.back(), run = gather_.run;
    const auto run_bytes = static_cast<size_t>(dtype_bytes(dtype_, run));
    std::vector<float> values(static_cast<size_t>(run));
    for (int64_t r = first * cols / run; r < (first + count) * cols / run; ++r, out += run_bytes) {
        const RunPlace place = gather_.place(r);
        const TensorView& source = sources_[static_cast<size_t>(place.source)];
        if (source.dtype == dtype_) {
            move_values(source, place.offset, place.stride, run, out);
            continue;
        }
        decode_values(source, place.offset, place.stride, run, values.data());
        encode_row(dtype_, values.data(), out, run);
    }
}

TensorView GatherRows::part(int64_t part) const {
    int64_t elements = 1;
    for (const int64_t n : gather_.shape) elements *= n;
    const RunPlace place = gather_.place(part * (elements / gather_.parts) / gather_.run);
    const TensorView& source = sources_[static_cast<size_t>(place.source)];
    std::vector<int64_t> shape = gather_.shape;
    if (gather_.parts > 1) shape.erase(shape.begin());
    return {source.dtype, std::move(shape), source.data + dtype_bytes(source.dtype, place.offset)};
}

}  // namespace muster
