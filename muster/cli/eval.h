// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "muster/cli/engine.h"
#include "muster/evaluate/perplexity.h"

namespace muster::cli {

/// `muster eval`: score texts under routing policies.
struct EvalOptions {
    ModelOptions model;
    EngineOptions engine;
    std::vector<std::filesystem::path> files;
    std::vector<std::string> routing;  ///< the first is the baseline of the differences
    bool by_file = false;              ///< label text files by their names
    int window = 0;
    int stride = 0;
    int64_t tokens = 0;  ///< 0: all
    double confidence = 0.95;
    std::filesystem::path chart;  ///< .svg or .html; empty: none
    std::filesystem::path stats;  ///< of the first policy; empty: none
    bool json = false;
};

/// Throws Error.
int eval_command(const EvalOptions& options, Terminal& terminal);

/// Policies against each other: perplexity, difference to the first, experts, parameters, speed.
std::string comparison_table(const EvaluationResult& result, int indent = 0);
/// Experts per token of each layer under each policy.
std::string layers_table(const EvaluationResult& result, int indent = 0);
/// Perplexity of each domain under each policy; empty without labels.
std::string domains_table(const EvaluationResult& result, int indent = 0);

}  // namespace muster::cli
