// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "muster/cli/engine.h"
#include "muster/evaluate/perplexity.h"

namespace muster::cli {

/// `muster eval`: score texts, or published evaluation data, under routing policies.
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

    std::string task;   ///< of published evaluation data; empty: `files` are texts
    int64_t items = 0;  ///< stop after so many; 0: all
    int shots = 0;      ///< solved items in front of each
    std::filesystem::path shots_file;
    std::filesystem::path records;  ///< where to write an item a line; empty: nowhere
    bool exit_lens = false;         ///< read the residual stream after each layer instead
};

/// The confidence of intervals. Throws Error where it is none.
double checked_confidence(double confidence);

/// Throws Error.
int eval_command(const EvalOptions& options, Terminal& terminal);

/// Policies against each other: perplexity, difference to the first, experts, parameters, speed.
std::string comparison_table(const EvaluationResult& result, int indent = 0);
/// Experts per token of each layer under each policy.
std::string layers_table(const EvaluationResult& result, int indent = 0);
/// Perplexity of each domain under each policy; empty without labels.
std::string domains_table(const EvaluationResult& result, int indent = 0);

}  // namespace muster::cli
