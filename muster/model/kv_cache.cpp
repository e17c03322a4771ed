// SPDX-License-Identifier: Apache-2.0
#include "muster/model/kv_cache.h"

#include <algorithm>

#include "muster/core/error.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

std::vector<KvLayerShape> shapes_of(const ModelConfig& config) {
    return std::vector<KvLayerShape>(config.num_layers(), kv_shape(config));
}

DType stored_type(const KvLayerShape& shape, DType dtype) noexcept {
    const bool whole_blocks = shape.key_dim % 32 == 0 && shape.value_dim % 32 == 0;
    return dtype == DType::q8_0 && !whole_blocks ? DType::f16 : dtype;
}

int64_t key_bytes(const KvLayerShape& shape, DType dtype) noexcept {
    return dtype_bytes(stored_type(shape, dtype), shape.key_dim);
}

int64_t value_bytes(const KvLayerShape& shape, DType dtype) noexcept {
    return shape.values_in_keys ? 0 : dtype_bytes(stored_type(shape, dtype), shape.value_dim);
}

}  // namespace

KvLayerShape kv_shape(const ModelConfig& c) noexcept {
    if (c.latent.used())
        return {.heads = 1,
                .key_dim = c.latent.kv_rank + c.rope_dims,
                .value_dim = c.latent.kv_rank,
                .values_in_keys = true};
    return {.heads = c.kv_heads, .key_dim = c.head_dim, .value_dim = c.head_dim};
}

KvCache::KvCache(std::span<const KvLayerShape> shapes, DType dtype, int capacity)
    : dtype_(dtype), capacity_(capacity) {
    MUSTER_ASSERT(capacity >= 1);
    if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::q8_0)
        throw Error("cache", "keys and values cannot be kept in " +
                                 std::string(dtype_info(dtype).name) +
                                 ", expected f32, f16 or q8_0");
    for (const KvLayerShape& shape : shapes) {
        MUSTER_ASSERT(shape.heads > 0 && shape.key_dim > 0 && shape.value_dim > 0);
        MUSTER_ASSERT(!shape.values_in_keys || shape.value_dim <= shape.key_dim);
        Layer& layer = layers_.emplace_back(Layer{.shape = shape,
                                                  .dtype = stored_type(shape, dtype),
                                                  .key_bytes = muster::key_bytes(shape, dtype),
                                                  .value_bytes = muster::value_bytes(shape, dtype),
                                                  .keys = {},
                                                  .values = {}});
        layer.keys.reserve(static_cast<size_t>(layer.key_bytes) * shape.heads * capacity);
        layer.values.reserve(static_cast<size_t>(layer.value_bytes) * shape.heads * capacity);
    }
    tokens_.reserve(capacity);
}

KvCache::KvCache(const ModelConfig& config, int capacity, DType dtype)
    : KvCache(shapes_of(config), dtype, capacity) {}

KvView KvCache::view(int layer) const noexcept {
    const Layer& l = layers_[layer];
    KvView v{.keys = l.keys.data(),
             .values = l.values.data(),
             .key_stride = l.key_bytes,
             .value_stride = l.value_bytes,
             .key_head_stride = l.key_bytes * capacity_,
             .value_head_stride = l.value_bytes * capacity_,
             .dtype = l.dtype};
    if (l.shape.values_in_keys) {
        v.values = v.keys;
        v.value_stride = v.key_stride;
        v.value_head_stride = v.key_head_stride;
    }
    return v;
}

void KvCache::store(int layer, int64_t position, const float* key, const float* value) noexcept {
    Layer& l = layers_[layer];
    const EncodeFn encode = encoder(l.dtype, current_isa());
    const KvLayerShape& s = l.shape;
    for (int64_t h = 0; h < s.heads; ++h) {
        const int64_t row = h * capacity_ + position;
        encode(key + h * s.key_dim, l.keys.data() + row * l.key_bytes, s.key_dim);
        if (!s.values_in_keys)
            encode(value + h * s.value_dim, l.values.data() + row * l.value_bytes, s.value_dim);
    }
}

int64_t KvCache::position_bytes(int layer) const noexcept {
    const Layer& l = layers_[layer];
    return l.shape.heads * (l.key_bytes + l.value_bytes);
}

void KvCache::copy_out(int layer, int64_t position, std::byte* out) const noexcept {
    const Layer& l = layers_[layer];
    for (int64_t h = 0; h < l.shape.heads; ++h) {
        const int64_t row = h * capacity_ + position;
        out = std::copy_n(l.keys.data() + row * l.key_bytes, l.key_bytes, out);
        if (l.value_bytes > 0)
            out = std::copy_n(l.values.data() + row * l.value_bytes, l.value_bytes, out);
    }
}

void KvCache::copy_in(int layer, int64_t position, const std::byte* in) noexcept {
    Layer& l = layers_[layer];
    for (int64_t h = 0; h < l.shape.heads; ++h) {
        const int64_t row = h * capacity_ + position;
        std::copy_n(in, l.key_bytes, l.keys.data() + row * l.key_bytes);
        in += l.key_bytes;
        if (l.value_bytes == 0) continue;
        std::copy_n(in, l.value_bytes, l.values.data() + row * l.value_bytes);
        in += l.value_bytes;
    }
}

int64_t KvCache::bytes(std::span<const KvLayerShape> shapes, DType dtype, int capacity) noexcept {
    int64_t sum = 0;
    for (const KvLayerShape& s : shapes)
        sum += (muster::key_bytes(s, dtype) + muster::value_bytes(s, dtype)) * s.heads * capacity;
    return sum;
}

int64_t KvCache::bytes(const ModelConfig& config, int capacity, DType dtype) {
    return bytes(shapes_of(config), dtype, capacity);
}

}  // namespace muster
