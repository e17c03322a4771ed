// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "muster/tokenizer/piece_index.h"
#include "muster/tokenizer/tokenizer.h"

namespace muster {

/// Byte-pair encoding of words' bytes by an ordered list of merges (Sennrich et al. 2016, arXiv
/// 1508.07909; Radford et al. 2019): of all adjacent symbols in the list the pair that stands first
/// merges first, the leftmost of equal ones. Immutable, safe to use from several threads.
class ByteBpe {
  public:
    /// Of a checked byte-level vocabulary; `bytes` [size] are the bytes of each piece, which the
    /// caller keeps alive.
    ByteBpe(const Vocabulary& vocabulary, const std::vector<std::string>& bytes);

    /// Buffers and a cache of words for one call of encode; bounded by 1 MiB and the longest word.
    class Scratch {
      public:
        /// For a text of so many bytes.
        explicit Scratch(size_t text_bytes);

      private:
        friend class ByteBpe;
        struct Slot {
            uint64_t hash = 0;
            uint8_t length = 0, count = 0;  ///< length 0: empty
            char word[22];
            int32_t ids[8];
        };
        std::vector<Slot> slots_;
        std::vector<int32_t> symbols_;
    };

    /// Appends the ids of a word. A byte without a piece gives the unknown token, or nothing where
    /// there is none, as in Hugging Face's tokenizers.
    void encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

  private:
    struct Merge {
        uint64_t key = ~uint64_t{0};
        int32_t rank = INT32_MAX;
        int32_t merged = -1;
    };

    const Merge& find(int32_t left, int32_t right) const noexcept;
    void encode_new(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;
    void merge_short(std::vector<int32_t>& symbols) const;
    void merge_long(std::vector<int32_t>& symbols) const;

    std::array<int32_t, 256> byte_ids_;
    int32_t unk_;
    std::vector<Merge> merges_;  ///< open addressing, a power of two
    PieceIndex words_;           ///< of normal pieces, where whole words are looked up first
    bool ignore_merges_;
};

}  // namespace muster
