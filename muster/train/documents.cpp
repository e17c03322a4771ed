// SPDX-License-Identifier: Apache-2.0
#include "muster/train/documents.h"

#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/random.h"

namespace muster::train {
namespace {

constexpr std::string_view kMagic = "MSTRTOK1";

void jsonl_documents(const std::filesystem::path& path, const std::function<void(Document&&)>& f) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw Error(path.string(), "cannot open");
    std::string line;
    for (int64_t number = 1; std::getline(in, line); ++number) {
        if (line.empty() || line == "\r") continue;
        const auto bad = [&](std::string_view what) -> Error {
            return {fmt::format("{}:{}", path.string(), number),
                    fmt::format("{}, expected {{\"domain\": …, \"text\": …}}", what)};
        };
        const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
        if (json.is_discarded()) throw bad("is no JSON");
        if (!json.is_object() || !json.contains("text") || !json["text"].is_string())
            throw bad("has no \"text\"");
        Document document;
        document.text = json["text"].get<std::string>();
        const auto domain = json.find("domain");
        document.domain = domain != json.end() && domain->is_string() ? domain->get<std::string>()
                                                                      : path.stem().string();
        f(std::move(document));
    }
}

/// Bytes of the first piece of a text: of at most `longest`, to the end of the last line in its
/// second half, else of the last word there, else of the last whole character.
size_t first_piece(std::string_view text, size_t longest) {
    if (text.size() <= longest) return text.size();
    for (const char end : {'\n', ' '}) {
        const size_t at = text.rfind(end, longest - 1);
        if (at != std::string_view::npos && at >= longest / 2) return at + 1;
    }
    size_t bytes = longest;
    while (bytes > 1 && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80) --bytes;
    return bytes;
}

template <typename T>
void append(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

/// Reads fixed-size values off a token file and refuses to go beyond its end.
class Cursor {
  public:
    Cursor(std::span<const std::byte> bytes, std::string name)
        : bytes_(bytes), name_(std::move(name)) {}
    template <typename T>
    T take() {
        T value;
        std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
        return value;
    }
    std::span<const std::byte> take(uint64_t count) {
        if (count > bytes_.size())
            throw Error(name_, "ends early, expected a whole muster-tokens file");
        const auto part = bytes_.first(count);
        bytes_ = bytes_.subspan(count);
        return part;
    }
    size_t left() const { return bytes_.size(); }

  private:
    std::span<const std::byte> bytes_;
    std::string name_;
};

}  // namespace

void for_each_document(const std::vector<std::filesystem::path>& files,
                       const std::function<void(Document&&)>& f) {
    for (const std::filesystem::path& path : files) {
        if (path.extension() == ".jsonl") {
            jsonl_documents(path, f);
        } else {
            f({path.stem().string(), read_file(path)});
        }
    }
}

void for_each_piece(const std::vector<std::filesystem::path>& files, size_t longest,
                    const std::function<void(Document&&)>& f) {
    for_each_document(files, [&](Document&& document) {
        if (longest == 0 || document.text.size() <= longest) return f(std::move(document));
        std::string_view rest = document.text;
        while (!rest.empty()) {
            const std::string_view piece = rest.substr(0, first_piece(rest, longest));
            rest.remove_prefix(piece.size());
            f({document.domain, std::string(piece)});
        }
    });
}

TokenFile::TokenFile(const std::filesystem::path& path, int vocabulary) : file_(path) {
    const std::string name = path.string();
    Cursor in(file_.bytes(), name);
    const auto magic = in.take(kMagic.size());
    if (std::memcmp(magic.data(), kMagic.data(), kMagic.size()) != 0)
        throw Error(name, "is no muster-tokens file of version 1");
    const auto vocab = in.take<uint32_t>();
    if (vocab != static_cast<uint32_t>(vocabulary)) {
        throw Error(name, fmt::format("was written for {} tokens, expected {}", vocab, vocabulary));
    }
    const auto domains = in.take<uint32_t>();
    const auto documents = in.take<uint64_t>();
    const auto tokens = in.take<uint64_t>();
    for (uint32_t i = 0; i < domains; ++i) {
        const auto text = in.take(in.take<uint32_t>());
        std::string domain(reinterpret_cast<const char*>(text.data()), text.size());
        if (domain.ends_with('\0')) domain.pop_back();
        domains_.push_back(std::move(domain));
    }
    if (documents > in.left() / 12)
        throw Error(name, "ends early, expected a whole muster-tokens file");
    for (uint64_t i = 0; i < documents; ++i) {
        document_domains_.push_back(in.take<uint32_t>());
        ends_.push_back(in.take<uint64_t>());
        const uint64_t before = i == 0 ? 0 : ends_[i - 1];
        if (document_domains_.back() >= domains || ends_.back() < before || ends_.back() > tokens) {
            throw Error(name, fmt::format("document {} is out of order", i));
        }
    }
    if (tokens > in.left() / sizeof(uint16_t))
        throw Error(name, "ends early, expected a whole muster-tokens file");
    const std::byte* data = in.take(tokens * sizeof(uint16_t)).data();
    // Header fields have even sizes and names are padded, so that tokens lie aligned.
    if (reinterpret_cast<uintptr_t>(data) % alignof(uint16_t) != 0)
        throw Error(name, "is misaligned");
    tokens_ = {reinterpret_cast<const uint16_t*>(data), static_cast<size_t>(tokens)};
    for (const uint16_t token : tokens_) {
        if (token >= vocab)
            throw Error(name, fmt::format("holds token {}, expected less than {}", token, vocab));
    }
}

std::span<const uint16_t> TokenFile::document(int i) const noexcept {
    const uint64_t begin = i == 0 ? 0 : ends_[static_cast<size_t>(i) - 1];
    return tokens_.subspan(begin, ends_[static_cast<size_t>(i)] - begin);
}

void write_token_file(const std::filesystem::path& path, const TokenFileSource& source,
                      const Tokenizer& tokenizer, const Progress& progress) {
    if (tokenizer.vocab_size() > 65536)
        throw Error(path.string(), "token files hold vocabularies of at most 65536");
    const Vocabulary& vocabulary = tokenizer.vocabulary();
    if (vocabulary.bos < 0 || vocabulary.eos < 0) {
        throw Error(path.string(), "the vocabulary has no bos or eos token, expected both");
    }
    std::map<std::string, uint32_t> domain_ids;
    std::vector<std::string> domains;
    std::string index;
    std::vector<uint16_t> tokens;
    int64_t number = 0;
    uint64_t documents = 0;
    for_each_piece(source.files, source.longest, [&](Document&& document) {
        if (source.keep && !source.keep(number++)) return;
        const auto [at, added] =
            domain_ids.emplace(document.domain, static_cast<uint32_t>(domains.size()));
        // An even length keeps the tokens behind the names aligned.
        if (added)
            domains.push_back(document.domain + std::string(document.domain.size() % 2, '\0'));
        tokens.push_back(static_cast<uint16_t>(vocabulary.bos));
        for (const int32_t id : tokenizer.encode(document.text, false))
            tokens.push_back(static_cast<uint16_t>(id));
        tokens.push_back(static_cast<uint16_t>(vocabulary.eos));
        append(index, at->second);
        append(index, static_cast<uint64_t>(tokens.size()));
        if (++documents % 256 == 0 && progress &&
            !progress("tokenising", static_cast<int64_t>(tokens.size()), 0)) {
            throw Error(path.string(), "was not written: stopped while tokenising");
        }
    });
    if (documents == 0) throw Error(path.string(), "no documents to write, expected text");
    std::string header(kMagic);
    append(header, static_cast<uint32_t>(tokenizer.vocab_size()));
    append(header, static_cast<uint32_t>(domains.size()));
    append(header, documents);
    append(header, static_cast<uint64_t>(tokens.size()));
    for (const std::string& domain : domains) {
        append(header, static_cast<uint32_t>(domain.size()));
        header += domain;
    }
    AtomicFile file(path);
    file.write(header);
    file.write(index);
    file.write(std::as_bytes(std::span(tokens)));
    file.commit();
}

WindowSampler::WindowSampler(std::span<const uint16_t> tokens, int context, uint64_t seed)
    : tokens_(tokens), context_(context), seed_(seed) {
    windows_ = (static_cast<int64_t>(tokens.size()) - 1) / context;
    // One window is given up, so that each epoch can start at another offset.
    if (windows_ > 1) --windows_;
    if (windows_ < 1) {
        throw Error("data", fmt::format("holds {} tokens, expected more than the context of {}",
                                        tokens.size(), context));
    }
}

std::span<const uint16_t> WindowSampler::window(int64_t position) {
    const int64_t epoch = position / windows_;
    if (epoch != epoch_) {
        Random random(mix64(seed_ ^ mix64(static_cast<uint64_t>(epoch))));
        order_.resize(static_cast<size_t>(windows_));
        std::iota(order_.begin(), order_.end(), 0);
        for (size_t i = order_.size() - 1; i > 0; --i)
            std::swap(order_[i], order_[random.below(i + 1)]);
        const int64_t room = static_cast<int64_t>(tokens_.size()) - 1 - windows_ * context_;
        shift_ = static_cast<int64_t>(random.below(static_cast<uint64_t>(room) + 1));
        epoch_ = epoch;
    }
    const int64_t first =
        shift_ + int64_t{order_[static_cast<size_t>(position % windows_)]} * context_;
    return tokens_.subspan(static_cast<size_t>(first), static_cast<size_t>(context_) + 1);
}

}  // namespace muster::train
