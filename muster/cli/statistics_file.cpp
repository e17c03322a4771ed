// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/statistics_file.h"

#include "muster/core/atomic_file.h"
#include "muster/evaluate/statistics_sink.h"

namespace muster::cli {

RoutingStatistics read_statistics(const std::filesystem::path& path) {
    return statistics_from_json(read_file(path), path.string());
}

StatisticsFile::StatisticsFile(std::filesystem::path path, const Model& model)
    : path_(std::move(path)) {
    if (path_.empty()) return;
    const AtomicFile refuses_a_bad_place(path_);
    if (!std::filesystem::exists(path_)) return;
    empty_statistics(model).merge(read_statistics(path_), path_.string());
}

void StatisticsFile::add(const RoutingStatistics& statistics) const {
    if (path_.empty()) return;
    RoutingStatistics all = statistics;
    if (std::filesystem::exists(path_)) all.merge(read_statistics(path_), path_.string());
    write_file(path_, to_json(all));
}

}  // namespace muster::cli
