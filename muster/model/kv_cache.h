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

/// Keys and values of one sequence, f32: [layers][position][kv_heads * head_dim], keys after RoPE.
/// Memory is reserved for `capacity` positions and touched as they fill. Not thread-safe.
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
    int width() const noexcept { return width_; }  ///< kv_heads * head_dim
    float* keys(int layer, int64_t position) noexcept {
        return keys_.data() + (int64_t{layer} * capacity_ + position) * width_;
    }
    float* values(int layer, int64_t position) noexcept {
        return values_.data() + (int64_t{layer} * capacity_ + position) * width_;
    }
    const float* keys(int layer, int64_t position) const noexcept {
        return const_cast<KvCache*>(this)->keys(layer, position);
    }
    const float* values(int layer, int64_t position) const noexcept {
        return const_cast<KvCache*>(this)->values(layer, position);
    }
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
    int layers_;
    int width_;
    int capacity_;
    std::vector<int32_t> tokens_;
    Buffer<float> keys_;
    Buffer<float> values_;
};

}  // namespace muster
