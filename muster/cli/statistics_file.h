// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "muster/model/model.h"
#include "muster/routing/statistics.h"

namespace muster::cli {

/// The file of --stats, which several runs fill one after another. Without a path all does nothing.
class StatisticsFile {
  public:
    /// Throws Error when the file exists and is damaged or of another model, or cannot be written:
    /// before the work.
    StatisticsFile(std::filesystem::path path, const Model& model);
    /// Adds to what the file holds by now and writes it. Throws Error, with the file as it was.
    void add(const RoutingStatistics& statistics) const;
    bool wanted() const { return !path_.empty(); }

  private:
    std::filesystem::path path_;
};

/// Reads a file of statistics; throws Error.
RoutingStatistics read_statistics(const std::filesystem::path& path);

}  // namespace muster::cli
