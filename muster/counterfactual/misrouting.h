// SPDX-License-Identifier: Apache-2.0
// Is there a better route at the same number of experts? (When are experts misrouted?, arXiv
// 2605.07260): routes of a token in one layer, drawn by Gumbel top-k, are compared with the
// router's own by the loss of the token that came.
#pragma once

#include <span>
#include <vector>

#include "muster/core/stats.h"
#include "muster/counterfactual/calibration.h"

namespace muster {

struct MisroutingOptions {
    int alternatives = 8;  ///< routes drawn for each token and layer, at least 1
    int rows = 16;         ///< tokens of each stratum and window that are looked at, at least 1
    /// An alternative is better when its loss is lower by more than so many nats.
    double least_gain = 0.01;
};

/// Over the tokens of a stratum, each in one layer.
struct Misrouting {
    int64_t tokens = 0;
    Interval better_share;  ///< of the drawn routes, those better than the router's
    Interval any_better;    ///< share of tokens with a better one among those drawn
    Interval best_gain;     ///< nats that the best of those drawn would have saved, or 0
};

struct MisroutingLayer {
    int layer = 0;
    Misrouting hard, easy;
};

/// What analyse_misrouting() will compute.
CalibrationCost misrouting_cost(const Model& model, std::span<const std::vector<int32_t>> windows,
                                const CalibrationOptions& calibration,
                                const MisroutingOptions& options);

/// Layers of calibration.layers (all), strata by its quantiles, routes of its baseline. Intervals
/// are bootstraps over windows, the first ones that calibration.seconds leave time for. The draws
/// are a function of calibration.seed. Empty when calibration.progress ended the work. Throws Error
/// as calibrate() does.
std::vector<MisroutingLayer> analyse_misrouting(const Model& model, Executor& executor,
                                                std::span<const std::vector<int32_t>> windows,
                                                const CalibrationOptions& calibration,
                                                const MisroutingOptions& options);

}  // namespace muster
