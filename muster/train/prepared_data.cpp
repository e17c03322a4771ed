// SPDX-License-Identifier: Apache-2.0
#include "muster/train/prepared_data.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/tokenizer/tokenizer.h"

namespace muster::train {
namespace fs = std::filesystem;
namespace {

/// Which pieces of the training files are held out, when no test files are given: a share of them,
/// the same in every run, at least one and never all.
class Split {
  public:
    static constexpr size_t kPiece = 8192;  ///< bytes: few texts must give pieces enough

    Split(const std::vector<fs::path>& files, double share) : share_(share) {
        int64_t pieces = 0, held_out = 0;
        for_each_piece(files, kPiece, [&](Document&&) { held_out += chosen(pieces++) ? 1 : 0; });
        if (pieces < 2) {
            throw Error("data.train",
                        fmt::format("holds {} piece of {} bytes, expected at least 2, one of which "
                                    "is held out; or name data.test",
                                    pieces, kPiece));
        }
        if (held_out == 0) only_ = pieces / 2;
        if (held_out == pieces) never_ = 0;
    }
    bool held_out(int64_t piece) const {
        return piece != never_ && (piece == only_ || chosen(piece));
    }

  private:
    bool chosen(int64_t piece) const {
        return static_cast<double>(mix64(static_cast<uint64_t>(piece)) >> 11) * 0x1p-53 < share_;
    }
    double share_;
    int64_t only_ = -1, never_ = -1;
};

/// Everything that can be read from a descriptor, which it closes.
std::string drain(int fd) {
    std::string text;
    char chunk[1024];
    for (;;) {
        const ssize_t n = ::read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        text.append(chunk, static_cast<size_t>(n));
    }
    ::close(fd);
    return text;
}

/// Runs muster-vocabulary, which stands beside the running program or on the PATH. Throws Error
/// with its words.
void run_vocabulary_program(const TrainConfig& config, const fs::path& output) {
    std::error_code error;
    const fs::path beside =
        fs::read_symlink("/proc/self/exe", error).parent_path() / "muster-vocabulary";
    std::vector<std::string> arguments{
        fs::exists(beside, error) ? beside.string() : "muster-vocabulary",
        std::to_string(config.data.vocabulary_size), std::to_string(config.data.vocabulary_sample),
        std::to_string(config.training.seed), output.string()};
    for (const fs::path& file : config.data.train) arguments.push_back(file.string());
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        throw Error("muster-vocabulary", "cannot start: too many files are open");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    pid_t child = 0;
    int status = 0;
    const int failed = ::posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    std::string words = drain(ends[0]);
    if (failed != 0)
        throw Error("muster-vocabulary", "is not installed; it belongs beside muster-train");
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status)) throw Error("muster-vocabulary", "was stopped");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        while (words.ends_with('\n')) words.pop_back();
        throw Error(fmt::format("data.vocabulary_size = {}", config.data.vocabulary_size), words);
    }
}

/// What the prepared files depend on.
std::string description(const TrainConfig::Data& data) {
    const auto sizes = [](const std::vector<fs::path>& files) {
        nlohmann::json list = nlohmann::json::array();
        for (const fs::path& file : files) {
            std::error_code error;
            const auto bytes = fs::file_size(file, error);
            if (error) throw Error(file.string(), "cannot read: " + error.message());
            list.push_back({{"file", fs::absolute(file).string()}, {"bytes", bytes}});
        }
        return list;
    };
    nlohmann::json json = {{"train", sizes(data.train)}, {"test", sizes(data.test)}};
    if (data.test.empty()) json["held_out"] = data.held_out;
    if (data.tokenizer.empty()) {
        json["vocabulary_size"] = data.vocabulary_size;
        json["vocabulary_sample"] = data.vocabulary_sample;
    } else {
        json["tokenizer"] = sizes({data.tokenizer});
    }
    return json.dump(1) + "\n";
}

Tokenizer make_tokenizer(const TrainConfig& config, const fs::path& target,
                         const Progress& progress) {
    if (!fs::exists(target)) {
        if (!config.data.tokenizer.empty()) {
            write_file(target, read_file(config.data.tokenizer));
        } else {
            if (progress) progress("training the vocabulary", 0, 0);
            run_vocabulary_program(config, target);
        }
    }
    Tokenizer tokenizer = Tokenizer::from_sentencepiece(read_file(target));
    if (tokenizer.vocab_size() != config.data.vocabulary_size) {
        throw Error(target.string(),
                    fmt::format("has {} tokens, expected data.vocabulary_size = {}",
                                tokenizer.vocab_size(), config.data.vocabulary_size));
    }
    return tokenizer;
}

/// Removes what was made of other data, or refuses.
void drop_stale(const fs::path& directory, const std::string& description, bool resume) {
    const fs::path record = directory / "data.json";
    if (fs::exists(record) && read_file(record) == description) return;
    if (resume) {
        throw Error(record.string(),
                    "the run was started with other data than the config names now (files, their "
                    "sizes or [data] settings); expected the same, or another output.directory");
    }
    for (const char* name : {"tokenizer.model", "train.tokens", "test.tokens"})
        fs::remove(directory / name);
    write_file(record, description);
}

}  // namespace

PreparedData prepare_data(const TrainConfig& config, bool resume, const Progress& progress) {
    const fs::path& directory = config.output.directory;
    const TrainConfig::Data& data = config.data;
    drop_stale(directory, description(data), resume);
    const Tokenizer tokenizer = make_tokenizer(config, directory / "tokenizer.model", progress);
    const bool split_off = data.test.empty();
    const bool made =
        fs::exists(directory / "train.tokens") && fs::exists(directory / "test.tokens");
    std::optional<Split> split;
    if (split_off && !made) split.emplace(data.train, data.held_out);
    const auto load = [&](const char* name, const std::vector<fs::path>& files, bool test) {
        const fs::path tokens = directory / name;
        if (!fs::exists(tokens)) {
            TokenFileSource source;
            source.files = files;
            if (split) {
                source.longest = Split::kPiece;
                source.keep = [&](int64_t i) { return split->held_out(i) == test; };
            }
            write_token_file(tokens, source, tokenizer, progress);
        }
        return std::make_unique<TokenFile>(tokens, tokenizer.vocab_size());
    };
    return {load("train.tokens", data.train, false),
            load("test.tokens", split_off ? data.train : data.test, true)};
}

}  // namespace muster::train
