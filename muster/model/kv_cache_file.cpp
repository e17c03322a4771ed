// SPDX-License-Identifier: Apache-2.0
// A saved cache, little-endian, version 2: Header, the policy's bytes, the caller's doubles, the
// token ids (int32), per layer the keys [head][length][key_dim], then likewise the values unless
// they lie in the keys, as the cache stores them, and a checksum of everything before it. The
// layers' shapes and formats stand in the header as a hash: a file of any other is refused, not
// converted.
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
constexpr uint32_t kVersion = 2;

struct Header {
    char magic[8];
    uint32_t version;
    uint32_t policy_bytes;
    uint64_t model;
    uint64_t layout;  ///< hash of the layers' shapes and formats
    uint64_t bytes;   ///< of keys and values
    uint32_t length;
    uint32_t states;
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
    // read_header() bounds the terms: the sum stays below 2^63.
    return sizeof(Header) + h.policy_bytes + uint64_t{h.states} * 8 + uint64_t{h.length} * 4 +
           h.bytes + 8;
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
    const bool sane = h.policy_bytes < kLimit && h.states < kLimit &&
                      h.bytes < (uint64_t{1} << 60) && h.length <= kLimit;
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

template <typename F>
void KvCache::for_stored(int length, F f) const {
    const auto part = [&](const Buffer<std::byte>& rows, const Layer& layer, int64_t row) {
        for (int64_t h = 0; h < layer.shape.heads && row > 0; ++h)
            f(rows.data() + h * capacity_ * row, static_cast<size_t>(length * row));
    };
    for (const Layer& layer : layers_) {
        part(layer.keys, layer, layer.key_bytes);
        part(layer.values, layer, layer.value_bytes);
    }
}

uint64_t KvCache::layout() const noexcept {
    uint64_t hash = layers_.size();
    for (const Layer& layer : layers_) {
        const KvLayerShape& s = layer.shape;
        for (const int n : {s.heads, s.key_dim, s.value_dim, int{s.values_in_keys},
                            static_cast<int>(layer.dtype)})
            hash = mix64(hash * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(n));
    }
    return hash;
}

void KvCache::save(const std::filesystem::path& path, const CacheIdentity& identity,
                   std::span<const double> state) const {
    Header h{.magic = {},
             .version = kVersion,
             .policy_bytes = static_cast<uint32_t>(identity.policy.size()),
             .model = identity.model,
             .layout = layout(),
             .bytes = 0,
             .length = static_cast<uint32_t>(length()),
             .states = static_cast<uint32_t>(state.size())};
    for_stored(length(), [&](const std::byte*, size_t bytes) { h.bytes += bytes; });
    std::memcpy(h.magic, kMagic, sizeof kMagic);
    Writer out(path);
    out.put(std::span<const Header>(&h, 1));
    out.put(std::span<const char>(identity.policy));
    out.put(state);
    out.put(std::span<const int32_t>(tokens_));
    for_stored(length(), [&](const std::byte* start, size_t bytes) {
        out.put(std::span<const std::byte>(start, bytes));
    });
    out.finish();
}

std::vector<double> KvCache::load(const std::filesystem::path& path,
                                  const CacheIdentity& identity) {
    const MappedFile file(path);
    const std::string where = path.string();
    const Header h = read_header(file.bytes(), where);
    if (h.model != identity.model)
        throw Error(where, "the prompt cache was made with another model");
    uint64_t expected = 0;
    if (h.length <= static_cast<uint32_t>(capacity_))
        for_stored(static_cast<int>(h.length), [&](auto*, size_t bytes) { expected += bytes; });
    if (h.layout != layout() ||
        (h.length <= static_cast<uint32_t>(capacity_) && h.bytes != expected))
        throw Error(where,
                    "the prompt cache was made with keys and values in another format, "
                    "expected " +
                        std::string(dtype_info(dtype_).name));
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
    for_stored(length(), [&](const std::byte* start, size_t bytes) {
        take(rest, const_cast<std::byte*>(start), bytes);
    });
    return state;
}

}  // namespace muster
