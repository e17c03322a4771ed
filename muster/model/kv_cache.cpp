// SPDX-License-Identifier: Apache-2.0
// A saved cache, little-endian, version 1: Header, the policy's bytes, the caller's doubles, the
// token ids (int32), per layer and K/V head the keys [length][head_dim], then likewise the values,
// and a checksum of everything before it.
#include "muster/model/kv_cache.h"

#include <bit>
#include <cstring>
#include <string_view>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/mapped_file.h"
#include "muster/core/random.h"

namespace muster {
namespace {

static_assert(std::endian::native == std::endian::little, "cache files are little-endian");

constexpr char kMagic[8] = {'M', 'U', 'S', 'T', 'E', 'R', 'K', 'V'};
constexpr uint32_t kVersion = 1;

struct Header {
    char magic[8];
    uint32_t version;
    uint32_t policy_bytes;
    uint64_t model;
    uint32_t layers;
    uint32_t heads;
    uint32_t head_dim;
    uint32_t length;
    uint32_t states;
    uint32_t reserved;
};
static_assert(sizeof(Header) == 48);

/// Order-sensitive and quick; finds damage, not malice. Does not depend on how the bytes are cut.
class Checksum {
  public:
    void add(std::span<const std::byte> bytes) noexcept {
        while (!bytes.empty() && held_ > 0) bytes = take_byte(bytes);
        for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
            std::memcpy(&word_, bytes.data(), 8);
            mix();
        }
        while (!bytes.empty()) bytes = take_byte(bytes);
    }
    /// Of all bytes so far, filled up with zeros; the end.
    uint64_t finish() noexcept {
        if (held_ > 0) mix();
        return mix64(value_);
    }

  private:
    std::span<const std::byte> take_byte(std::span<const std::byte> bytes) noexcept {
        word_ |= static_cast<uint64_t>(bytes[0]) << (8 * held_);
        if (++held_ == 8) mix();
        return bytes.subspan(1);
    }
    void mix() noexcept {
        value_ = (std::rotl(value_, 5) ^ word_) * 0x9e3779b97f4a7c15u;
        word_ = 0;
        held_ = 0;
    }

    uint64_t value_ = 0x6d7573746572;
    uint64_t word_ = 0;
    int held_ = 0;
};

class Writer {
  public:
    explicit Writer(const std::filesystem::path& path) : file_(path) {}
    template <typename T>
    void put(std::span<const T> values) {
        const auto bytes = std::as_bytes(values);
        sum_.add(bytes);
        file_.write(bytes);
    }
    void finish() {
        const uint64_t sum = sum_.finish();
        file_.write(std::as_bytes(std::span(&sum, 1)));
        file_.commit();
    }

  private:
    AtomicFile file_;
    Checksum sum_;
};

/// Takes pieces off the front; sizes were checked before.
template <typename T>
void take(std::span<const std::byte>& rest, T* out, size_t count) {
    if (count > 0) std::memcpy(out, rest.data(), count * sizeof(T));
    rest = rest.subspan(count * sizeof(T));
}

uint64_t file_size(const Header& h) {
    // read_header() bounds the factors: the product stays below 2^63.
    const uint64_t values = uint64_t{h.layers} * h.heads * h.head_dim * h.length * 2;
    return sizeof(Header) + h.policy_bytes + uint64_t{h.states} * 8 + uint64_t{h.length} * 4 +
           values * 4 + 8;
}

/// The header of a whole and intact cache file.
Header read_header(std::span<const std::byte> bytes, const std::string& where) {
    Header h;
    if (bytes.size() < sizeof h + 8 || std::memcmp(bytes.data(), kMagic, 8) != 0)
        throw Error(where, "this is no prompt cache of muster");
    std::memcpy(&h, bytes.data(), sizeof h);
    if (h.version != kVersion)
        throw Error(where, "prompt cache version " + std::to_string(h.version) +
                               " is not known, expected " + std::to_string(kVersion));
    constexpr uint32_t kLimit = 1 << 24;
    const bool sane = h.policy_bytes < kLimit && h.states < kLimit && h.layers < (1 << 12) &&
                      h.heads < (1 << 12) && h.head_dim < (1 << 12) && h.length <= kLimit;
    Checksum sum;
    uint64_t stored = 0;
    if (sane && file_size(h) == bytes.size()) {
        sum.add(bytes.first(bytes.size() - 8));
        std::memcpy(&stored, bytes.data() + bytes.size() - 8, 8);
    }
    if (!sane || file_size(h) != bytes.size() || sum.finish() != stored)
        throw Error(where, "the prompt cache is damaged or cut off");
    return h;
}

}  // namespace

KvCache::KvCache(const ModelConfig& config, int capacity)
    : layers_(config.num_layers()),
      heads_(config.kv_heads),
      head_dim_(config.head_dim),
      capacity_(capacity) {
    MUSTER_ASSERT(capacity >= 1);
    const size_t values = static_cast<size_t>(layers_) * heads_ * head_stride();
    keys_.reserve(values);
    values_.reserve(values);
    tokens_.reserve(capacity);
}

void KvCache::store(int layer, int64_t position, const float* key, const float* value) noexcept {
    const size_t bytes = head_dim_ * sizeof(float);
    for (int h = 0; h < heads_; ++h) {
        std::memcpy(keys(layer, h) + position * head_dim_, key + h * head_dim_, bytes);
        std::memcpy(values(layer, h) + position * head_dim_, value + h * head_dim_, bytes);
    }
}

int64_t KvCache::bytes(const ModelConfig& config, int capacity) noexcept {
    return int64_t{2} * config.num_layers() * config.kv_heads * config.head_dim * capacity *
           static_cast<int64_t>(sizeof(float));
}

void KvCache::save(const std::filesystem::path& path, const CacheIdentity& identity,
                   std::span<const double> state) const {
    Header h{.magic = {},
             .version = kVersion,
             .policy_bytes = static_cast<uint32_t>(identity.policy.size()),
             .model = identity.model,
             .layers = static_cast<uint32_t>(layers_),
             .heads = static_cast<uint32_t>(heads_),
             .head_dim = static_cast<uint32_t>(head_dim_),
             .length = static_cast<uint32_t>(length()),
             .states = static_cast<uint32_t>(state.size()),
             .reserved = 0};
    std::memcpy(h.magic, kMagic, sizeof kMagic);
    Writer out(path);
    out.put(std::span<const Header>(&h, 1));
    out.put(std::span<const char>(identity.policy));
    out.put(state);
    out.put(std::span<const int32_t>(tokens_));
    const size_t count = static_cast<size_t>(length()) * head_dim_;
    for (int i = 0; i < layers_ * heads_; ++i)
        out.put(std::span<const float>(keys_.data() + i * head_stride(), count));
    for (int i = 0; i < layers_ * heads_; ++i)
        out.put(std::span<const float>(values_.data() + i * head_stride(), count));
    out.finish();
}

std::vector<double> KvCache::load(const std::filesystem::path& path,
                                  const CacheIdentity& identity) {
    const MappedFile file(path);
    const std::string where = path.string();
    const Header h = read_header(file.bytes(), where);
    if (h.model != identity.model || h.layers != static_cast<uint32_t>(layers_) ||
        h.heads != static_cast<uint32_t>(heads_) || h.head_dim != static_cast<uint32_t>(head_dim_))
        throw Error(where, "the prompt cache was made with another model");
    auto rest = file.bytes().subspan(sizeof h);
    std::string policy(h.policy_bytes, '\0');
    take(rest, policy.data(), policy.size());
    if (policy != identity.policy)
        throw Error(where, "the prompt cache was made with routing `" + policy + "`, expected `" +
                               identity.policy + "`");
    if (h.length > static_cast<uint32_t>(capacity_))
        throw Error(where, "the prompt cache holds " + std::to_string(h.length) +
                               " tokens, expected at most " + std::to_string(capacity_) +
                               ", the context");
    std::vector<double> state(h.states);
    take(rest, state.data(), state.size());
    tokens_.resize(h.length);
    take(rest, tokens_.data(), tokens_.size());
    const size_t count = static_cast<size_t>(h.length) * head_dim_;
    for (int i = 0; i < layers_ * heads_; ++i) take(rest, keys_.data() + i * head_stride(), count);
    for (int i = 0; i < layers_ * heads_; ++i)
        take(rest, values_.data() + i * head_stride(), count);
    return state;
}

}  // namespace muster
