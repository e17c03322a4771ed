// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "muster/core/buffer.h"
#include "muster/model/config.h"

namespace muster {

/// What a saved prompt cache belongs to; a file of anything else is refused.
struct CacheIdentity {
    uint64_t model = 0;  ///< Model::hash()
    std::string policy;  ///< text of the routing policy the tokens were computed under
};

/// Keys and values of one sequence, f32: [layers][kv_heads][position][head_dim], keys after RoPE;
/// head by head, so that attention reads memory in order. Memory is reserved for `capacity`
/// positions and touched as they fill. Not thread-safe.
class KvCache {
  public:
    /// `capacity` >= 1 positions. Throws std::bad_alloc.
    KvCache(const ModelConfig& config, int capacity);

    int capacity() const noexcept { return capacity_; }
    int length() const noexcept { return static_cast<int>(tokens_.size()); }
    /// The tokens whose keys and values are held.
    std::span<const int32_t> tokens() const noexcept { return tokens_; }
    /// Forgets what stands at and after position `length` (<= length()).
    void truncate(int length) noexcept { tokens_.resize(length); }

    int layers() const noexcept { return layers_; }
    int heads() const noexcept { return heads_; }  ///< K/V heads
    int head_dim() const noexcept { return head_dim_; }
    /// Values from one head to the next.
    int64_t head_stride() const noexcept { return int64_t{capacity_} * head_dim_; }
    /// The head's key or value at position 0; position t follows at t * head_dim.
    float* keys(int layer, int head) noexcept { return keys_.data() + offset(layer, head); }
    float* values(int layer, int head) noexcept { return values_.data() + offset(layer, head); }
    const float* keys(int layer, int head) const noexcept {
        return keys_.data() + offset(layer, head);
    }
    const float* values(int layer, int head) const noexcept {
        return values_.data() + offset(layer, head);
    }
    /// Stores one position: key and value [heads * head_dim], head after head.
    void store(int layer, int64_t position, const float* key, const float* value) noexcept;
    /// Announces that the next position holds `token`; its rows must be written next.
    void append(int32_t token) { tokens_.push_back(token); }

    /// Bytes that a cache of `capacity` positions takes when full.
    static int64_t bytes(const ModelConfig& config, int capacity) noexcept;

    /// Writes tokens, keys and values atomically (format: kv_cache.cpp). `state` is the caller's
    /// (RequestRouting::controller_state()). Throws Error.
    void save(const std::filesystem::path& path, const CacheIdentity& identity,
              std::span<const double> state = {}) const;
    /// Replaces the content by a saved one and returns the saved `state`. Throws Error, leaving the
    /// cache empty or as it was, when the file is damaged, of another model or policy, or longer
    /// than the capacity.
    std::vector<double> load(const std::filesystem::path& path, const CacheIdentity& identity);

  private:
    int64_t offset(int layer, int head) const noexcept {
        return (int64_t{layer} * heads_ + head) * head_stride();
    }

    int layers_;
    int heads_;
    int head_dim_;
    int capacity_;
    std::vector<int32_t> tokens_;
    Buffer<float> keys_;
    Buffer<float> values_;
};

}  // namespace muster
