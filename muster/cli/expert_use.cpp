// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/expert_use.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "muster/cli/table.h"
#include "muster/cli/text.h"

namespace muster::cli {
namespace {

constexpr size_t kBusiest = 4;

/// "12 (40 %), 3 (38 %)".
std::string busiest(const std::vector<int64_t>& counts, int64_t tokens) {
    std::vector<int> order(counts.size());
    std::iota(order.begin(), order.end(), 0);
    const size_t n = std::min(kBusiest, order.size());
    std::partial_sort(
        order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n), order.end(),
        [&](int a, int b) { return counts[a] > counts[b] || (counts[a] == counts[b] && a < b); });
    std::string text;
    for (size_t i = 0; i < n && counts[order[i]] > 0; ++i)
        text += fmt::format("{}{} ({:.0f} %)", i > 0 ? ", " : "", order[i],
                            100.0 * double(counts[order[i]]) / double(tokens));
    return text;
}

}  // namespace

ExpertUse::ExpertUse(const ModelConfig& config)
    : counts_(config.layers.size()), tokens_(config.layers.size(), 0) {
    for (size_t l = 0; l < counts_.size(); ++l)
        if (!config.layers[l].dense()) counts_[l].assign(config.layers[l].experts(), 0);
}

void ExpertUse::layer(const LayerTrace& trace) {
    const auto l = static_cast<size_t>(trace.layer);
    for (const int32_t e : trace.routes.experts) ++counts_[l][e];
    tokens_[l] += trace.routes.tokens();
}

void ExpertUse::clear() {
    for (auto& counts : counts_) std::fill(counts.begin(), counts.end(), 0);
    std::fill(tokens_.begin(), tokens_.end(), 0);
}

std::string ExpertUse::table() const {
    Table table({{"layer"}, {"per token"}, {"experts used"}, {"busiest", Table::Align::left}});
    for (size_t l = 0; l < counts_.size(); ++l) {
        if (tokens_[l] == 0 || counts_[l].empty()) continue;
        const auto sum = std::accumulate(counts_[l].begin(), counts_[l].end(), int64_t{0});
        const auto used =
            std::count_if(counts_[l].begin(), counts_[l].end(), [](int64_t n) { return n > 0; });
        table.row({std::to_string(l), significant(double(sum) / double(tokens_[l])),
                   fmt::format("{} of {}", used, counts_[l].size()),
                   busiest(counts_[l], tokens_[l])});
    }
    return table.empty() ? "No experts have worked yet.\n" : table.render();
}

}  // namespace muster::cli
