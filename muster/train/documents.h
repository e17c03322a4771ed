// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muster/core/mapped_file.h"
#include "muster/core/progress.h"
#include "muster/tokenizer/tokenizer.h"

namespace muster::train {

struct Document {
    std::string domain;
    std::string text;
};

/// Calls f for every document of the files: each line of a .jsonl file (`text`, optional `domain`),
/// or a whole plain text file (domain: its name without extension). Throws Error naming file and
/// line.
void for_each_document(const std::vector<std::filesystem::path>& files,
                       const std::function<void(Document&&)>& f);

/// A stream of documents as token ids, memory-mapped. File format `muster-tokens` version 1,
/// little-endian: magic "MSTRTOK1", u32 vocabulary, u32 domains, u64 documents, u64 tokens; the
/// domains' names (u32 length, bytes, padded with a zero to an even length); per document u32
/// domain, u64 end (index after its last token); the tokens as u16. Every document stands between
/// bos and eos.
class TokenFile {
  public:
    /// Throws Error when the file is damaged or was written for another vocabulary size.
    TokenFile(const std::filesystem::path& path, int vocabulary);

    std::span<const uint16_t> tokens() const noexcept { return tokens_; }
    const std::vector<std::string>& domains() const noexcept { return domains_; }
    int documents() const noexcept { return static_cast<int>(ends_.size()); }
    int domain_of(int document) const noexcept {
        return static_cast<int>(document_domains_[document]);
    }
    std::span<const uint16_t> document(int i) const noexcept;

  private:
    MappedFile file_;
    std::vector<std::string> domains_;
    std::vector<uint32_t> document_domains_;
    std::vector<uint64_t> ends_;
    std::span<const uint16_t> tokens_;
};

/// The same, with documents of more than `longest` bytes cut into pieces of about that size at ends
/// of lines, or of words, or anywhere between characters; 0: none is cut.
void for_each_piece(const std::vector<std::filesystem::path>& files, size_t longest,
                    const std::function<void(Document&&)>& f);

struct TokenFileSource {
    std::vector<std::filesystem::path> files;
    /// Keeps a piece, by its index in the source; null: all.
    std::function<bool(int64_t index)> keep;
    size_t longest = 0;  ///< of a piece, as in for_each_piece
};

/// Tokenises and writes a token file atomically. Throws Error (no documents, vocabulary above
/// 65536, or `progress` asks to stop).
void write_token_file(const std::filesystem::path& path, const TokenFileSource& source,
                      const Tokenizer& tokenizer, const Progress& progress);

/// Windows of context + 1 tokens in a random order that depends on (seed, epoch) alone; the
/// position is its whole state.
class WindowSampler {
  public:
    WindowSampler(std::span<const uint16_t> tokens, int context, uint64_t seed);

    int64_t windows() const noexcept { return windows_; }
    /// Window number `position` of the endless stream: context + 1 tokens.
    std::span<const uint16_t> window(int64_t position);

  private:
    std::span<const uint16_t> tokens_;
    int context_;
    uint64_t seed_;
    int64_t windows_;
    int64_t epoch_ = -1;
    std::vector<int32_t> order_;
    int64_t shift_ = 0;
};

}  // namespace muster::train
