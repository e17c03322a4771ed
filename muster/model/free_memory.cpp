// SPDX-License-Identifier: Apache-2.0
// Reading what the system says is free. Linux: proc(5), cgroups(7).
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>

#include "muster/model/memory.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

std::optional<int64_t> number(std::string_view text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || value < 0) return std::nullopt;
    return value;
}

/// A file of one number; none where it is missing or says something else, such as "max".
std::optional<int64_t> file_number(const fs::path& path) {
    std::ifstream in(path);
    std::string word;
    if (!(in >> word)) return std::nullopt;
    return number(word);
}

/// The value of `key` in lines "key value" or "key: value unit"; 0 without.
int64_t keyed(const fs::path& path, std::string_view key) {
    std::ifstream in(path);
    std::string line;
    while (std::getline(in, line)) {
        if (!line.starts_with(key)) continue;
        const size_t digit = line.find_first_of("0123456789", key.size());
        const std::string_view between = std::string_view(line).substr(
            key.size(), digit == std::string::npos ? 0 : digit - key.size());
        if (digit == std::string::npos || between.find_first_not_of(": \t") != std::string::npos)
            continue;
        return number(std::string_view(line).substr(digit, line.find(' ', digit) - digit))
            .value_or(0);
    }
    return 0;
}

void lower(FreeMemory& free, int64_t bytes, std::string limit) {
    if (bytes >= free.bytes) return;
    free.bytes = std::max<int64_t>(0, bytes);
    free.limit = std::move(limit);
}

/// One control group: its limit less what it uses, file pages that can be taken back apart.
void lower_by_group(FreeMemory& free, const fs::path& group, bool second) {
    const auto limit = file_number(group / (second ? "memory.max" : "memory.limit_in_bytes"));
    const auto used = file_number(group / (second ? "memory.current" : "memory.usage_in_bytes"));
    if (!limit || !used) return;
    const std::string prefix = second ? "" : "total_";
    const int64_t pages = keyed(group / "memory.stat", prefix + "inactive_file") +
                          keyed(group / "memory.stat", prefix + "active_file");
    lower(
        free, *limit - std::max<int64_t>(0, *used - pages),
        second ? "memory.max of the control group" : "memory.limit_in_bytes of the control group");
}

/// The group and all above it, up to where groups are mounted.
void lower_by_groups(FreeMemory& free, const fs::path& mount, fs::path group, bool second) {
    group = group.relative_path();
    for (int depth = 0; depth < 64; ++depth) {
        lower_by_group(free, mount / group, second);
        if (group.empty() || group == "..") return;
        group = group.parent_path();
    }
}

}  // namespace

FreeMemory free_memory(const fs::path& root) {
    FreeMemory free;
    if (const int64_t kilobytes = keyed(root / "proc/meminfo", "MemAvailable"); kilobytes > 0)
        lower(free, kilobytes * 1024, "MemAvailable");
    std::ifstream groups(root / "proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        // "0::/group" of version 2; "4:cpu,memory:/group" of version 1.
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string names = "," + line.substr(first + 1, second - first - 1) + ",";
        const fs::path group = line.substr(second + 1);
        if (names == ",,") {
            lower_by_groups(free, root / "sys/fs/cgroup", group, true);
        } else if (names.find(",memory,") != std::string::npos) {
            lower_by_groups(free, root / "sys/fs/cgroup/memory", group, false);
        }
    }
    rlimit space{};
    if (::getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
        const int64_t pages = file_number(root / "proc/self/statm").value_or(0);
        lower(free, static_cast<int64_t>(space.rlim_cur) - pages * ::sysconf(_SC_PAGESIZE),
              "RLIMIT_AS (ulimit -v)");
    }
    return free;
}

}  // namespace muster
