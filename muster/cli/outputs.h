// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "muster/cli/terminal.h"
#include "muster/routing/policy.h"

namespace muster::cli {

/// The files that a command reads: whatever it writes must be none of them.
class InputFiles {
  public:
    InputFiles() = default;
    /// `model` as given: `default`, a file (any part of a split one), a directory. Throws Error
    /// when the shipped model is meant and missing; any other is not looked for here.
    InputFiles(const std::string& model, const Terminal& terminal);
    InputFiles& add(const std::filesystem::path& file);
    InputFiles& add(const std::vector<std::filesystem::path>& files);
    /// The plans that policies name.
    InputFiles& add(const std::vector<RoutingPolicy>& policies);

    /// Throws Error, before the work, where one of `outputs` is one of these files or another
    /// output; empty paths are not wanted.
    void keep_from(const std::vector<std::filesystem::path>& outputs) const;

  private:
    bool has(const std::filesystem::path& file) const;

    std::vector<std::filesystem::path> files_, directories_;
};

}  // namespace muster::cli
