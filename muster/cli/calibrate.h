// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "muster/cli/engine.h"

namespace muster::cli {

/// `muster calibrate`: a plan of activations by counterfactual measurements on a text.
struct CalibrateOptions {
    ModelOptions model;
    EngineOptions engine;
    std::vector<std::filesystem::path> files;
    std::filesystem::path output;
    std::filesystem::path state;  ///< empty: output with ".state" behind it
    int64_t tokens = 20000;       ///< 0: all
    int experts = 0;              ///< of the baseline; 0: the model's mean
    std::string layers;           ///< such as 0-3,7; empty: all
    double minutes = 0;           ///< 0: as long as it takes
    int max_shift = 0;
    double lambda = 0.1;
    std::string ablation = "next";
    std::string impacts = "users";
    std::string budgets = "contrast";
    int clusters = 0;
    int window = 0;
    int draws = 8;
    double noise = 0.05;
    double hard = 0.8, easy = 0.2;
    int lead = 16;
    double epsilon = 1e-6;
    double confidence = 0.95;
    uint64_t seed = 1;
    int routes = 0;            ///< drawn for each token and layer to look for better ones; 0: none
    int route_tokens = 16;     ///< of each stratum and window, for which routes are drawn
    double route_gain = 0.01;  ///< nats that a better route saves at least
    bool json = false;
};

/// Gives the exit code: 130 after Ctrl-C, when the state holds what was measured. Throws Error.
int calibrate_command(const CalibrateOptions& options, Terminal& terminal);

}  // namespace muster::cli
