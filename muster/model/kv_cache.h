// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "muster/core/buffer.h"
#include "muster/core/dtype.h"
#include "muster/kernels/attention.h"
#include "muster/model/config.h"

namespace muster {

/// What a saved prompt cache belongs to; a file of anything else is refused.
struct CacheIdentity {
    uint64_t model = 0;  ///< Model::hash()
    std::string policy;  ///< text of the routing policy the tokens were computed under
};

/// What a layer's keys and values look like.
struct KvLayerShape {
    int heads = 0;      ///< K/V heads
    int key_dim = 0;    ///< of a head's key
    int value_dim = 0;  ///< of a head's value
    /// The values are the first value_dim numbers of the keys and are not stored (multi-head latent
    /// attention).
    bool values_in_keys = false;

    bool operator==(const KvLayerShape&) const = default;
};

/// Of every layer of a model.
KvLayerShape kv_shape(const ModelConfig& config) noexcept;

/// Keys and values of one sequence, per layer [heads][position][dim] in f32, f16 or q8_0, keys
/// after RoPE; head by head, so that attention reads memory in order. A layer whose dimensions are
/// no multiples of 32 is kept in f16 where q8_0 is asked for. Memory is reserved for `capacity`
/// positions and touched as they fill. Layers with a sliding window keep all positions too, so that
/// truncate() to any length stays exact. Not thread-safe, but for store() of different positions.
class KvCache {
  public:
    /// `capacity` >= 1 positions. Throws std::bad_alloc, and Error for other formats.
    KvCache(std::span<const KvLayerShape> shapes, DType dtype, int capacity);
    KvCache(const ModelConfig& config, int capacity, DType dtype = DType::f32);

    int capacity() const noexcept { return capacity_; }
    int length() const noexcept { return static_cast<int>(tokens_.size()); }
    /// The tokens whose keys and values are held.
    std::span<const int32_t> tokens() const noexcept { return tokens_; }
    /// Forgets what stands at and after position `length` (<= length()).
    void truncate(int length) noexcept { tokens_.resize(length); }

    int layers() const noexcept { return static_cast<int>(layers_.size()); }
    DType dtype() const noexcept { return dtype_; }  ///< as asked for
    const KvLayerShape& shape(int layer) const noexcept { return layers_[layer].shape; }
    /// The layer's keys and values, with its own format; valid as long as the cache.
    KvView view(int layer) const noexcept;
    /// Stores one position: key [heads * key_dim] and value [heads * value_dim], head after head,
    /// rounded to the cache's format; `value` is not read where values lie in the keys.
    void store(int layer, int64_t position, const float* key, const float* value) noexcept;
    /// Bytes of one position of a layer, and the copying of them out of and into the cache, as
    /// stored.
    int64_t position_bytes(int layer) const noexcept;
    void copy_out(int layer, int64_t position, std::byte* out) const noexcept;
    void copy_in(int layer, int64_t position, const std::byte* in) noexcept;
    /// Announces that the next position holds `token`; its rows must be written next.
    void append(int32_t token) { tokens_.push_back(token); }

    /// Bytes that a cache of `capacity` positions takes when full.
    static int64_t bytes(std::span<const KvLayerShape> shapes, DType dtype, int capacity) noexcept;
    static int64_t bytes(const ModelConfig& config, int capacity, DType dtype = DType::f32);

    /// Writes tokens, keys and values atomically (format: kv_cache_file.cpp). `state` is the
    /// caller's (RequestRouting::controller_state()). Throws Error.
    void save(const std::filesystem::path& path, const CacheIdentity& identity,
              std::span<const double> state = {}) const;
    /// Replaces the content by a saved one and returns the saved `state`. Throws Error, leaving the
    /// cache empty or as it was, when the file is damaged, of another model, policy or format, or
    /// longer than the capacity.
    std::vector<double> load(const std::filesystem::path& path, const CacheIdentity& identity);

  private:
    struct Layer {
        KvLayerShape shape;
        DType dtype;
        int64_t key_bytes;    ///< of one row of one head
        int64_t value_bytes;  ///< likewise; 0 where values lie in the keys
        Buffer<std::byte> keys;
        Buffer<std::byte> values;
    };
    /// Bytes of `length` positions, head by head: f(start, bytes) for keys, then values of each
    /// layer.
    template <typename F>
    void for_stored(int length, F f) const;
    uint64_t layout() const noexcept;

    DType dtype_;
    int capacity_;
    std::vector<int32_t> tokens_;
    std::vector<Layer> layers_;
};

}  // namespace muster
