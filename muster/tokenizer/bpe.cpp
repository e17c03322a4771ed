// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <queue>

#include "muster/tokenizer/utf8.h"
#include "muster/tokenizer/vocabulary.h"

namespace muster {
namespace {

/// Runs up to this many symbols are merged by scanning, longer ones with a heap.
constexpr size_t kShortRun = 32;

bool merges(TokenType type) noexcept {
    return type == TokenType::normal || type == TokenType::unused;
}

template <typename F>
void for_each_character(std::string_view text, F f) {
    for (size_t at = 0; at < text.size();) {
        const Utf8Step step = next_utf8(text.substr(at));
        f(at, step);
        at += step.bytes;
    }
}

}  // namespace

/// Symbols with no boundary between them; `pairs[i]` is the pair of symbols i and i + 1, nullptr
/// where the two do not merge.
struct BpeEncoder::Run {
    std::vector<int32_t> symbols;
    std::vector<const Pair*> pairs;
    int32_t forbidden = kNone;  ///< a piece that must not be made

    bool can_merge(const Pair* pair) const noexcept {
        return pair != nullptr && pair->merged != kNone && pair->merged != forbidden;
    }
};

BpeEncoder::BpeEncoder(const Vocabulary& vocabulary)
    : size_(vocabulary.size()), unk_(vocabulary.unk) {
    if (has_byte_fallback(vocabulary)) {
        byte_ids_.resize(256);
        for (int32_t id = 0; id < size_; ++id) {
            if (vocabulary.types[id] != TokenType::byte) continue;
            const auto byte = byte_of_piece(vocabulary.pieces[id]);
            if (byte) byte_ids_[*byte] = id;  // each is one in a checked vocabulary
        }
    }
    number_characters(vocabulary);
    collect_pairs(vocabulary);
    split_unused(vocabulary);
    // From here on the map is for text, where U+0020 is what U+2581 is in pieces.
    const auto space = characters_.find(kSpaceCodePoint);
    ascii_[' '] = space == characters_.end() ? kNone : space->second;
    if (space != characters_.end() && !byte_ids_.empty()) characters_.erase(space);
    for (int32_t id = 0; id < size_; ++id) {
        if (vocabulary.types[id] != TokenType::user_defined) continue;
        std::string text = with_spaces(vocabulary.pieces[id]);
        user_.resize(256);
        auto& list = user_[static_cast<uint8_t>(text[0])];
        list.push_back({std::move(text), id});
    }
    for (auto& list : user_) {
        std::stable_sort(list.begin(), list.end(), [](const UserPiece& a, const UserPiece& b) {
            return a.text.size() > b.text.size();
        });
    }
}

void BpeEncoder::number_characters(const Vocabulary& vocabulary) {
    std::vector<uint32_t> in_order;  // so that the numbers do not depend on a hash map's order
    for (int32_t id = 0; id < size_; ++id) {
        if (!merges(vocabulary.types[id])) continue;
        const std::string& piece = vocabulary.pieces[id];
        for_each_character(piece, [&](size_t, const Utf8Step& step) {
            int32_t& symbol = characters_.try_emplace(step.code_point, kNone).first->second;
            if (step.bytes == piece.size()) symbol = id;
            in_order.push_back(step.code_point);
        });
    }
    for (const uint32_t code_point : in_order) {
        int32_t& symbol = characters_[code_point];
        if (symbol != kNone) continue;
        symbol = size_ + static_cast<int32_t>(lone_.size());
        lone_.push_back(code_point);
    }
    ascii_.assign(128, kNone);
    for (const auto& [code_point, symbol] : characters_) {
        if (code_point < 128) ascii_[code_point] = symbol;
    }
}

void BpeEncoder::collect_pairs(const Vocabulary& vocabulary) {
    std::unordered_map<std::string, int32_t> symbols;
    for (int32_t id = 0; id < size_; ++id) {
        if (merges(vocabulary.types[id])) symbols.emplace(vocabulary.pieces[id], id);
    }
    for (size_t i = 0; i < lone_.size(); ++i) {
        std::string text;
        append_utf8(lone_[i], text);
        symbols.emplace(text, size_ + static_cast<int32_t>(i));
    }
    std::unordered_map<uint64_t, Pair> pairs;
    const auto add = [&](int32_t left, int32_t right, int32_t merged, float score) {
        Pair& pair = pairs.try_emplace(key(left, right)).first->second;
        pair.key = key(left, right);
        if (merged != kNone) pair.merged = merged, pair.score = score;
    };
    for (int32_t id = 0; id < size_; ++id) {
        if (!merges(vocabulary.types[id])) continue;
        const std::string& piece = vocabulary.pieces[id];
        int32_t before = kNone;
        for_each_character(piece, [&](size_t at, const Utf8Step& step) {
            const int32_t here = characters_.at(step.code_point);
            if (at > 0) {
                add(before, here, kNone, 0);
                const auto left = symbols.find(piece.substr(0, at));
                const auto right = symbols.find(piece.substr(at));
                if (left != symbols.end() && right != symbols.end()) {
                    add(left->second, right->second, id, vocabulary.scores[id]);
                }
            }
            before = here;
        });
    }
    pairs_.assign(std::bit_ceil(pairs.size() * 2 + 1), Pair{});
    for (const auto& [unused, pair] : pairs) insert(pair);
}

namespace {
size_t slot(uint64_t key, size_t slots) noexcept {
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15U) >> 32) & (slots - 1);
}
}  // namespace

void BpeEncoder::insert(const Pair& pair) {
    size_t at = slot(pair.key, pairs_.size());
    while (pairs_[at].key != ~uint64_t{0}) at = (at + 1) & (pairs_.size() - 1);
    pairs_[at] = pair;
}

const BpeEncoder::Pair* BpeEncoder::find(int32_t left, int32_t right) const noexcept {
    const uint64_t wanted = key(left, right);
    for (size_t at = slot(wanted, pairs_.size());; at = (at + 1) & (pairs_.size() - 1)) {
        if (pairs_[at].key == wanted) return &pairs_[at];
        if (pairs_[at].key == ~uint64_t{0}) return nullptr;
    }
}

/// An unused piece takes part in merging, and what remains of it gives way to the pieces that it
/// would have been merged from.
void BpeEncoder::split_unused(const Vocabulary& vocabulary) {
    for (int32_t id = 0; id < size_; ++id) {
        if (vocabulary.types[id] != TokenType::unused) continue;
        Run run;
        run.forbidden = id;
        for_each_character(vocabulary.pieces[id], [&](size_t, const Utf8Step& step) {
            const int32_t here = characters_.at(step.code_point);
            if (!run.symbols.empty()) run.pairs.push_back(find(run.symbols.back(), here));
            run.symbols.push_back(here);
        });
        if (run.symbols.size() < 2) continue;
        merge_long(*this, run);
        unused_.emplace(id, run.symbols);
    }
}

int32_t BpeEncoder::symbol(uint32_t code_point) const noexcept {
    if (code_point < 128) return ascii_[code_point];
    const auto found = characters_.find(code_point);
    return found == characters_.end() ? kNone : found->second;
}

const BpeEncoder::UserPiece* BpeEncoder::user_piece(std::string_view text) const noexcept {
    for (const UserPiece& piece : user_[static_cast<uint8_t>(text[0])]) {
        if (text.starts_with(piece.text)) return &piece;
    }
    return nullptr;
}

void BpeEncoder::encode(std::string_view text, std::vector<int32_t>& ids) const {
    Run run;
    if (user_.empty()) return encode_plain(text, run, ids);
    size_t plain = 0;
    for (size_t at = 0; at < text.size();) {
        const UserPiece* piece = user_piece(text.substr(at));
        if (piece == nullptr) {
            ++at;
            continue;
        }
        encode_plain(text.substr(plain, at - plain), run, ids);
        ids.push_back(piece->id);
        at += piece->text.size();
        plain = at;
    }
    encode_plain(text.substr(plain), run, ids);
}

void BpeEncoder::encode_plain(std::string_view text, Run& run, std::vector<int32_t>& ids) const {
    while (!text.empty()) {
        const Utf8Step step = next_utf8(text);
        text.remove_prefix(step.bytes);
        const int32_t here = symbol(step.code_point);
        if (here == kNone) {
            finish(run, ids);
            emit_bytes(step.code_point, ids);
            continue;
        }
        if (!run.symbols.empty()) {
            const Pair* pair = find(run.symbols.back(), here);
            if (pair == nullptr) {
                finish(run, ids);
            } else {
                run.pairs.push_back(pair);
            }
        }
        run.symbols.push_back(here);
    }
    finish(run, ids);
}

void BpeEncoder::finish(Run& run, std::vector<int32_t>& ids) const {
    if (run.symbols.size() > kShortRun) {
        merge_long(*this, run);
    } else if (run.symbols.size() > 1) {
        merge_short(*this, run);
    }
    for (const int32_t s : run.symbols) emit(s, ids);
    run.symbols.clear();
    run.pairs.clear();
}

void BpeEncoder::merge_short(const BpeEncoder& encoder, Run& run) {
    auto& symbols = run.symbols;
    auto& pairs = run.pairs;
    while (true) {
        size_t best = pairs.size();
        for (size_t i = 0; i < pairs.size(); ++i) {
            if (!run.can_merge(pairs[i])) continue;
            if (best == pairs.size() || pairs[i]->score > pairs[best]->score) best = i;
        }
        if (best == pairs.size()) return;
        symbols[best] = pairs[best]->merged;
        symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
        pairs.erase(pairs.begin() + static_cast<ptrdiff_t>(best));
        if (best > 0) pairs[best - 1] = encoder.find(symbols[best - 1], symbols[best]);
        if (best < pairs.size()) pairs[best] = encoder.find(symbols[best], symbols[best + 1]);
    }
}

void BpeEncoder::merge_long(const BpeEncoder& encoder, Run& run) {
    struct Node {
        int32_t symbol;
        int32_t previous, next;  // kNone at the ends
        const Pair* pair;        // with the next one; nullptr also when this node was absorbed
    };
    struct Candidate {
        const Pair* pair;
        int32_t left, right;
        bool operator<(const Candidate& other) const noexcept {
            if (pair->score != other.pair->score) return pair->score < other.pair->score;
            return left > other.left;
        }
    };
    const auto size = static_cast<int32_t>(run.symbols.size());
    std::vector<Node> nodes(run.symbols.size());
    std::vector<Candidate> first;
    for (int32_t i = 0; i < size; ++i) {
        const bool last = i + 1 == size;
        nodes[i] = {run.symbols[i], i - 1, last ? kNone : i + 1, last ? nullptr : run.pairs[i]};
        if (run.can_merge(nodes[i].pair)) first.push_back({nodes[i].pair, i, i + 1});
    }
    std::priority_queue<Candidate> queue(std::less<Candidate>{}, std::move(first));
    const auto renew = [&](int32_t left) {
        Node& node = nodes[left];
        node.pair =
            node.next == kNone ? nullptr : encoder.find(node.symbol, nodes[node.next].symbol);
        if (run.can_merge(node.pair)) queue.push({node.pair, left, node.next});
    };
    while (!queue.empty()) {
        const Candidate top = queue.top();
        queue.pop();
        Node& left = nodes[top.left];
        if (left.pair != top.pair || left.next != top.right) continue;  // merged away meanwhile
        Node& right = nodes[top.right];
        left.symbol = top.pair->merged;
        left.next = right.next;
        right.pair = nullptr;
        if (left.next != kNone) nodes[left.next].previous = top.left;
        if (left.previous != kNone) renew(left.previous);
        renew(top.left);
    }
    run.symbols.clear();
    for (int32_t i = 0; i != kNone; i = nodes[i].next) run.symbols.push_back(nodes[i].symbol);
}

void BpeEncoder::emit(int32_t symbol, std::vector<int32_t>& ids) const {
    if (symbol >= size_) return emit_bytes(lone_[static_cast<size_t>(symbol - size_)], ids);
    if (!unused_.empty()) {
        if (const auto parts = unused_.find(symbol); parts != unused_.end()) {
            for (const int32_t part : parts->second) emit(part, ids);
            return;
        }
    }
    ids.push_back(symbol);
}

void BpeEncoder::emit_bytes(uint32_t code_point, std::vector<int32_t>& ids) const {
    if (byte_ids_.empty()) {
        // One token for a run of characters that are unknown.
        if (ids.empty() || ids.back() != unk_) ids.push_back(unk_);
        return;
    }
    std::string text;
    append_utf8(code_point, text);
    for (const char c : text) ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
}

}  // namespace muster
