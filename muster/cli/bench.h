// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "muster/cli/engine.h"

namespace muster::cli {

/// `muster bench`: speed of prefill and decode beside the machine's limits.
struct BenchOptions {
    ModelOptions model;
    EngineOptions engine;
    std::vector<std::string> routing;
    int prompt = 512;
    int decode = 128;
    int depth = 0;  ///< tokens in the cache before either
    int repeats = 5;
    uint64_t seed = 1;
    bool json = false;
};

/// Throws Error.
int bench_command(const BenchOptions& options, Terminal& terminal);

}  // namespace muster::cli
