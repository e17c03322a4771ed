// SPDX-License-Identifier: Apache-2.0
// muster-vocabulary: trains a SentencePiece vocabulary. A program of its own because Debian's
// libsentencepiece carries its own Protocol Buffers, which clash with those that LibTorch loads
// into the same process.
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/train/documents.h"
#include "muster/train/vocabulary/vocabulary.h"

namespace {

using namespace muster;

constexpr std::string_view kUsage =
    "expected: muster-vocabulary SIZE SAMPLE_BYTES SEED OUTPUT FILE…";

template <typename T>
T number(std::string_view text) {
    T value{};
    const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
    if (result.ec != std::errc() || result.ptr != text.data() + text.size()) {
        throw Error("muster-vocabulary", fmt::format("'{}' is no number; {}", text, kUsage));
    }
    return value;
}

void train_vocabulary(const std::vector<std::string_view>& arguments) {
    if (arguments.size() < 5) throw Error("muster-vocabulary", kUsage);
    VocabularyOptions options;
    options.vocab_size = number<int>(arguments[0]);
    options.sample_bytes = number<int64_t>(arguments[1]);
    options.seed = number<uint64_t>(arguments[2]);
    const std::vector<std::filesystem::path> files(arguments.begin() + 4, arguments.end());
    std::vector<std::string> texts;
    train::for_each_document(files,
                             [&](train::Document&& d) { texts.push_back(std::move(d.text)); });
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    write_file(arguments[3], train_sentencepiece(views, options));
}

}  // namespace

int main(int argc, char** argv) {
    try {
        train_vocabulary({argv + 1, argv + argc});
        return 0;
    } catch (const std::exception& e) {
        fmt::print(stderr, "{}\n", e.what());
        return 1;
    }
}
