// SPDX-License-Identifier: Apache-2.0
#include "muster/train/vocabulary/vocabulary.h"

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <numeric>
#include <unordered_map>
#include <vector>

#include "muster/core/error.h"
#include "muster/core/random.h"

namespace muster {
namespace {

constexpr std::string_view kWhere = "train_sentencepiece";
constexpr int kFixedPieces = 3 + 256;  // <unk>, <s>, </s> and the bytes

/// Which documents to read, in a random order fixed by the seed, up to `limit` bytes.
std::vector<size_t> sample(std::span<const std::string_view> texts, int64_t limit, uint64_t seed) {
    std::vector<size_t> order(texts.size());
    std::iota(order.begin(), order.end(), size_t{0});
    Random random(seed);
    int64_t bytes = 0;
    size_t taken = 0;
    for (; taken < order.size() && bytes < limit; ++taken) {
        std::swap(order[taken], order[taken + random.below(order.size() - taken)]);
        bytes += static_cast<int64_t>(texts[order[taken]].size());
    }
    order.resize(taken);
    return order;
}

/// Hands the lines of the chosen documents to SentencePiece, which takes each for a sentence.
class Lines final : public sentencepiece::SentenceIterator {
  public:
    Lines(std::span<const std::string_view> texts, std::vector<size_t> order)
        : texts_(texts), order_(std::move(order)) {
        Next();
    }
    bool done() const override { return done_; }
    const std::string& value() const override { return line_; }
    sentencepiece::util::Status status() const override { return {}; }

    void Next() override {
        do {
            if (!next_document()) return;
            const std::string_view line = rest_.substr(0, rest_.find('\n'));
            line_.assign(line.substr(0, reserved(line)));
            const size_t separator = line_.size() < line.size() ? kReservedBytes : 1;
            rest_.remove_prefix(std::min(rest_.size(), line_.size() + separator));
        } while (line_.empty());
    }

  private:
    static constexpr size_t kReservedBytes = 3;

    /// Where the first character stands that SentencePiece uses itself: U+2581 is its space, and a
    /// line with U+2585 would be dropped.
    static size_t reserved(std::string_view line) {
        return std::min(line.find("\u2581"), line.find("\u2585"));
    }

    /// False, and done, when all text has been read.
    bool next_document() {
        while (rest_.empty()) {
            if (next_ == order_.size()) {
                done_ = true;
                return false;
            }
            rest_ = texts_[order_[next_++]];
        }
        return true;
    }

    std::span<const std::string_view> texts_;
    std::vector<size_t> order_;
    size_t next_ = 0;
    std::string_view rest_;
    std::string line_;
    bool done_ = false;
};

std::unordered_map<std::string, std::string> settings(const VocabularyOptions& options) {
    return {
        {"model_type", "bpe"},
        {"vocab_size", std::to_string(options.vocab_size)},
        {"character_coverage", std::to_string(options.character_coverage)},
        {"byte_fallback", "true"},
        {"normalization_rule_name", "identity"},
        {"remove_extra_whitespaces", "false"},
        {"add_dummy_prefix", "false"},
        {"split_digits", "true"},
        // Keeps punctuation and letters apart, so that no pieces make up `</s>`: llama.cpp looks
        // merges up among all tokens and would find the control token.
        {"split_by_unicode_script", "true"},
        {"allow_whitespace_only_pieces", "true"},
        {"unk_id", "0"},
        {"bos_id", "1"},
        {"eos_id", "2"},
        {"pad_id", "-1"},
        {"unk_surface", " \xE2\x81\x87 "},
        {"max_sentence_length", "1073741824"},  // longer lines would be dropped without a word
        {"num_threads", "1"},
        {"self_test_sample_size", "0"},
        {"minloglevel", "4"},  // above SentencePiece's highest level: it prints nothing
    };
}

/// SentencePiece's message without the place in its sources in front.
std::string reason(const sentencepiece::util::Status& status) {
    const std::string message = status.ToString();
    const size_t place = message.rfind("] ");
    return place == std::string::npos ? message : message.substr(place + 2);
}

}  // namespace

std::string train_sentencepiece(std::span<const std::string_view> texts,
                                const VocabularyOptions& options) {
    if (options.vocab_size <= kFixedPieces || options.vocab_size > 1 << 20) {
        throw Error(kWhere, "vocab_size is " + std::to_string(options.vocab_size) +
                                ", expected 260 to 1048576");
    }
    if (!(options.character_coverage > 0.9 && options.character_coverage <= 1)) {
        throw Error(kWhere, "character_coverage is " + std::to_string(options.character_coverage) +
                                ", expected above 0.9 and at most 1");
    }
    Lines lines(texts, sample(texts, options.sample_bytes, options.seed));
    if (lines.done()) throw Error(kWhere, "there is no text to train on");
    std::string model;
    const auto status =
        sentencepiece::SentencePieceTrainer::Train(settings(options), &lines, &model);
    if (!status.ok()) throw Error(kWhere, reason(status));
    return model;
}

}  // namespace muster
