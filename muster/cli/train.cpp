// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/train.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ostream>

#include "muster/core/error.h"

namespace muster::cli {
namespace {

constexpr const char* kTrainer = "muster-train";

bool executable_file(const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::is_regular_file(path, ignored) && ::access(path.c_str(), X_OK) == 0;
}

}  // namespace

std::optional<std::filesystem::path> find_trainer(const std::filesystem::path& executable,
                                                  std::string_view search_path) {
    if (!executable.empty()) {
        const auto beside = executable.parent_path() / kTrainer;
        if (executable_file(beside)) return beside;
    }
    while (!search_path.empty()) {
        const size_t end = std::min(search_path.find(':'), search_path.size());
        const auto candidate = std::filesystem::path(search_path.substr(0, end)) / kTrainer;
        if (end > 0 && executable_file(candidate)) return candidate;
        search_path.remove_prefix(std::min(end + 1, search_path.size()));
    }
    return std::nullopt;
}

int train_command(const TrainOptions& options, Terminal& terminal) {
    const char* search_path = std::getenv("PATH");
    const auto trainer = find_trainer(terminal.executable, search_path ? search_path : "");
    if (!trainer)
        throw Error(kTrainer,
                    "is not installed, expected beside muster or in PATH; it needs LibTorch: "
                    "tools/install-packages train, then cmake --preset test and "
                    "cmake --build --preset test (or -DMUSTER_TRAIN=ON in any build)");
    std::vector<std::string> words{trainer->string()};
    words.insert(words.end(), options.arguments.begin(), options.arguments.end());
    std::vector<char*> argv;
    argv.reserve(words.size() + 1);
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    terminal.out.flush();
    ::execv(words.front().c_str(), argv.data());
    throw Error(words.front(), std::string("cannot be started: ") + std::strerror(errno));
}

}  // namespace muster::cli
