// SPDX-License-Identifier: Apache-2.0
// Which rows of windows are hard and which easy, and which layers are measured. Internal to
// counterfactual/.
#pragma once

#include <vector>

#include "muster/counterfactual/calibration.h"
#include "muster/counterfactual/window.h"

namespace muster {

inline constexpr int kShortestWindow = 32;  ///< tokens

struct Strata {
    double hard_loss = 0, easy_loss = 0;
    int lead = 0;  ///< rows at a window's start that are in neither

    /// Adds a window's losses behind its lead to those that of() takes quantiles of.
    static void gather(const Window& window, int lead, std::vector<double>& losses);
    static Strata of(const std::vector<double>& losses, const CalibrationOptions& options);

    /// Rows of a window above the one or below the other, ascending.
    std::vector<int> hard(const Window& window) const;
    std::vector<int> easy(const Window& window) const;
};

/// Throws Error when an option makes no sense for the model.
void check_options(const ModelConfig& config, const CalibrationOptions& options);

/// Tokens of the longest window.
int window_tokens(const ModelConfig& config, const CalibrationOptions& options);

/// MoE layers of options.layers, ascending. Throws Error when there are none.
std::vector<int> measured_layers(const ModelConfig& config, const CalibrationOptions& options);

/// How far from k numbers of experts are measured: by BudgetRule::loss, where there are so many,
/// else 0.
int budget_reach(const ModelConfig& config, const CalibrationOptions& options);

/// The baseline: the k experts of the highest scores.
RoutingPolicy top_k_policy(int k);

}  // namespace muster
