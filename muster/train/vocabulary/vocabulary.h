// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace muster {

struct VocabularyOptions {
    int vocab_size = 4096;               ///< all tokens, with 3 special ones and 256 bytes
    int64_t sample_bytes = 16 << 20;     ///< train on whole documents up to about this much text
    uint64_t seed = 0;                   ///< chooses the sampled documents
    double character_coverage = 0.9995;  ///< share of characters with pieces; bytes do the rest
};

/// Trains a SentencePiece BPE vocabulary on `texts` (one document each, UTF-8; invalid bytes count
/// as U+FFFD) and returns the bytes of its model file. Identity normalisation, white space kept, no
/// space put in front, digits split, byte fallback; ids 0 `<unk>`, 1 `<s>`, 2 `</s>`, then the
/// bytes. No piece contains a line end or a tab: those are always byte tokens; no two pieces make
/// up the spelling of a special token. The same texts and options give the same bytes. Uses one
/// thread. Throws Error when the options make no sense or the texts hold too little to fill the
/// vocabulary.
///
/// Not safe to call from several threads at once: SentencePiece's trainer keeps its log level in a
/// global variable.
std::string train_sentencepiece(std::span<const std::string_view> texts,
                                const VocabularyOptions& options);

}  // namespace muster
