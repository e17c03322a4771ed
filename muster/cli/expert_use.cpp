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

std::string expert_use(const RoutingStatistics& statistics) {
    Table table({{"layer"}, {"per token"}, {"experts used"}, {"busiest", Table::Align::left}});
    for (size_t l = 0; l < statistics.layers.size(); ++l) {
        const LoadStatistics& layer = statistics.layers[l];
        if (layer.tokens == 0 || layer.load.empty()) continue;
        const auto used =
            std::count_if(layer.load.begin(), layer.load.end(), [](int64_t n) { return n > 0; });
        table.row({std::to_string(l), significant(layer.experts_per_token()),
                   fmt::format("{} of {}", used, layer.load.size()),
                   busiest(layer.load, layer.tokens)});
    }
    return table.empty() ? "No experts have worked yet.\n" : table.render();
}

}  // namespace muster::cli
