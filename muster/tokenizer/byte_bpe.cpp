// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/byte_bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <queue>
#include <tuple>

namespace muster {
namespace {

/// Words up to this many bytes are merged by scanning, longer ones with a heap.
constexpr size_t kShortWord = 48;

uint64_t key_of(int32_t left, int32_t right) noexcept {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

size_t place(uint64_t key, size_t slots) noexcept {
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15U) >> 32) & (slots - 1);
}

}  // namespace

ByteBpe::Scratch::Scratch(size_t text_bytes)
    : slots_(std::clamp<size_t>(std::bit_ceil(text_bytes / 16 + 1), 16, 16384)) {}

ByteBpe::ByteBpe(const Vocabulary& vocabulary, const std::vector<std::string>& bytes)
    : unk_(vocabulary.unk),
      merges_(std::bit_ceil(vocabulary.merges.size() * 3 / 2 + 1)),
      words_(bytes),
      ignore_merges_(vocabulary.ignore_merges) {
    byte_ids_.fill(-1);
    for (int32_t id = 0; id < vocabulary.size(); ++id) {
        const auto at = static_cast<size_t>(id);
        if (vocabulary.types[at] != TokenType::normal) continue;
        if (ignore_merges_) words_.insert(id);
        if (bytes[at].size() == 1) byte_ids_[static_cast<uint8_t>(bytes[at][0])] = id;
    }
    int32_t rank = 0;
    for (const auto& [left, right, merged] : vocabulary.merges) {
        const uint64_t key = key_of(left, right);
        size_t at = place(key, merges_.size());
        while (merges_[at].merged >= 0 && merges_[at].key != key) {
            at = (at + 1) & (merges_.size() - 1);
        }
        if (merges_[at].merged < 0) merges_[at] = {key, rank, merged};
        ++rank;
    }
}

const ByteBpe::Merge& ByteBpe::find(int32_t left, int32_t right) const noexcept {
    const uint64_t key = key_of(left, right);
    size_t at = place(key, merges_.size());
    while (merges_[at].merged >= 0 && merges_[at].key != key) at = (at + 1) & (merges_.size() - 1);
    return merges_[at];
}

void ByteBpe::encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
    if (word.size() > sizeof(Scratch::Slot::word)) return encode_new(word, scratch, ids);
    const uint64_t hash = hash_bytes(word);
    Scratch::Slot& slot = scratch.slots_[(hash >> 20) & (scratch.slots_.size() - 1)];
    if (slot.hash == hash && slot.length == word.size() &&
        std::memcmp(slot.word, word.data(), word.size()) == 0) {
        ids.insert(ids.end(), slot.ids, slot.ids + slot.count);
        return;
    }
    const size_t before = ids.size();
    encode_new(word, scratch, ids);
    const size_t count = ids.size() - before;
    if (count > std::size(slot.ids)) return;
    slot.hash = hash;
    slot.length = static_cast<uint8_t>(word.size());
    slot.count = static_cast<uint8_t>(count);
    std::memcpy(slot.word, word.data(), word.size());
    std::copy_n(ids.data() + before, count, slot.ids);
}

void ByteBpe::encode_new(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
    if (ignore_merges_) {
        if (const int32_t id = words_.find(word); id >= 0) return ids.push_back(id);
    }
    std::vector<int32_t>& symbols = scratch.symbols_;
    symbols.clear();
    for (const char c : word) {
        const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
        if (id >= 0 || unk_ >= 0) symbols.push_back(id >= 0 ? id : unk_);
    }
    symbols.size() > kShortWord ? merge_long(symbols) : merge_short(symbols);
    ids.insert(ids.end(), symbols.begin(), symbols.end());
}

void ByteBpe::merge_short(std::vector<int32_t>& symbols) const {
    if (symbols.size() < 2) return;
    std::array<const Merge*, kShortWord> pairs;
    size_t count = symbols.size();
    for (size_t i = 0; i + 1 < count; ++i) pairs[i] = &find(symbols[i], symbols[i + 1]);
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; ++i) {
            if (pairs[i]->rank < pairs[best]->rank) best = i;
        }
        if (pairs[best]->merged < 0) break;
        symbols[best] = pairs[best]->merged;
        for (size_t i = best + 1; i + 1 < count; ++i) {
            symbols[i] = symbols[i + 1];
            if (i + 2 < count) pairs[i] = pairs[i + 1];
        }
        --count;
        if (best > 0) pairs[best - 1] = &find(symbols[best - 1], symbols[best]);
        if (best + 1 < count) pairs[best] = &find(symbols[best], symbols[best + 1]);
    }
    symbols.resize(count);
}

void ByteBpe::merge_long(std::vector<int32_t>& symbols) const {
    struct Node {
        int32_t symbol, previous, next;  // -1: none; symbol -1: absorbed
    };
    using Candidate = std::tuple<int32_t, int32_t, uint64_t>;  // rank, place of the left one, key
    const auto size = static_cast<int32_t>(symbols.size());
    std::vector<Node> nodes(symbols.size());
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
    for (int32_t i = 0; i < size; ++i) {
        nodes[static_cast<size_t>(i)] = {symbols[static_cast<size_t>(i)], i - 1,
                                         i + 1 < size ? i + 1 : -1};
    }
    const auto node = [&](int32_t i) -> Node& { return nodes[static_cast<size_t>(i)]; };
    const auto offer = [&](int32_t left) {
        if (left < 0 || node(left).next < 0) return;
        const Merge& merge = find(node(left).symbol, node(node(left).next).symbol);
        if (merge.merged >= 0) queue.emplace(merge.rank, left, merge.key);
    };
    for (int32_t i = 0; i < size; ++i) offer(i);
    while (!queue.empty()) {
        const auto [rank, at, key] = queue.top();
        queue.pop();
        Node& left = node(at);
        if (left.symbol < 0 || left.next < 0) continue;
        Node& right = node(left.next);
        if (key_of(left.symbol, right.symbol) != key) continue;  // merged away meanwhile
        left.symbol = find(left.symbol, right.symbol).merged;
        right.symbol = -1;
        left.next = right.next;
        if (left.next >= 0) node(left.next).previous = at;
        offer(left.previous);
        offer(at);
    }
    symbols.clear();
    for (int32_t i = 0; i >= 0; i = node(i).next) symbols.push_back(node(i).symbol);
}

}  // namespace muster
