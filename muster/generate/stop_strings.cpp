// SPDX-License-Identifier: Apache-2.0
#include "muster/generate/stop_strings.h"

#include <algorithm>
#include <utility>

namespace muster {
namespace {

/// Length of the longest end of `text` that begins `stop` without being all of it.
size_t overlap(std::string_view text, std::string_view stop) {
    for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n)
        if (text.ends_with(stop.substr(0, n))) return n;
    return 0;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
    std::erase(strings_, "");
}

std::string StopStrings::push(std::string text) {
    if (met_) return {};
    if (strings_.empty()) return text;
    held_ += text;
    size_t first = std::string::npos;
    for (const std::string& stop : strings_) first = std::min(first, held_.find(stop));
    if (first != std::string::npos) {
        met_ = true;
        std::string shown = held_.substr(0, first);
        held_.clear();
        return shown;
    }
    size_t held = 0;
    for (const std::string& stop : strings_) held = std::max(held, overlap(held_, stop));
    std::string shown = held_.substr(0, held_.size() - held);
    held_.erase(0, held_.size() - held);
    return shown;
}

std::string StopStrings::flush() { return met_ ? std::string() : std::exchange(held_, {}); }

}  // namespace muster
