// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/stats.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <ostream>

#include "muster/cli/json_text.h"
#include "muster/cli/outputs.h"
#include "muster/cli/statistics_file.h"
#include "muster/cli/table.h"
#include "muster/cli/text.h"
#include "muster/core/atomic_file.h"

namespace muster::cli {
namespace {

/// "3 (12 %)": the expert with the most activations.
std::string busiest(const LoadStatistics& layer) {
    const auto most = std::max_element(layer.load.begin(), layer.load.end());
    if (most == layer.load.end() || *most == 0) return "-";
    return fmt::format("{} ({:.0f} %)", most - layer.load.begin(),
                       100.0 * double(*most) / double(layer.tokens));
}

std::string layers_table(const RoutingStatistics& statistics) {
    Table table({{"layer"},
                 {"experts"},
                 {"per token"},
                 {"busiest (of tokens)"},
                 {"max/mean"},
                 {"never used"},
                 {"mean loss"}});
    for (size_t l = 0; l < statistics.layers.size(); ++l) {
        const LoadStatistics& s = statistics.layers[l];
        if (s.load.empty()) continue;
        const double loss = std::accumulate(s.loss.begin(), s.loss.end(), 0.0);
        const auto scored = std::accumulate(s.scored.begin(), s.scored.end(), int64_t{0});
        table.row({std::to_string(l), std::to_string(s.load.size()),
                   significant(s.experts_per_token()), busiest(s), significant(s.max_over_mean()),
                   std::to_string(s.dead_experts()),
                   scored > 0 ? significant(loss / double(scored)) : "-"});
    }
    return table.render();
}

/// Both or, when a place is bad or a disk full, neither.
void write_outputs(const StatsOptions& options, const RoutingStatistics& all) {
    std::optional<AtomicFile> merged, csv;
    if (!options.output.empty()) merged.emplace(options.output).write(to_json(all));
    if (!options.csv.empty()) csv.emplace(options.csv).write(to_csv(all));
    if (merged) merged->commit();
    if (csv) csv->commit();
}

}  // namespace

int stats_command(const StatsOptions& options, Terminal& terminal) {
    InputFiles().keep_from({options.output, options.csv});  // merging into a file is meant
    InputFiles().add(options.files).keep_from({options.csv});
    RoutingStatistics all = read_statistics(options.files.front());
    for (size_t i = 1; i < options.files.size(); ++i)
        all.merge(read_statistics(options.files[i]), options.files[i].string());
    write_outputs(options, all);
    if (options.json) {
        print_json(parsed(to_json(all)), terminal);
        return 0;
    }
    std::string policies;
    int64_t tokens = 0;
    for (const auto& [policy, n] : all.policies) {
        policies += fmt::format("{}{} ({})", policies.empty() ? "" : ", ", policy, n);
        tokens += n;
    }
    terminal.out << fmt::format("{}: {} under {}\n\n", all.model, plural(tokens, "token"),
                                policies.empty() ? "no policy" : policies)
                 << layers_table(all);
    return 0;
}

}  // namespace muster::cli
