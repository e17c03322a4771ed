// SPDX-License-Identifier: Apache-2.0
// What calibration measures, window by window. Internal to counterfactual/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "muster/counterfactual/calibration.h"

namespace muster {

/// Sums over one window. A layer that was not measured, or is dense, has empty lists.
struct WindowMeasurement {
    struct Layer {
        double hard = 0, easy = 0;    ///< absolute changes of the loss, mean over draws, summed
        std::vector<double> impact;   ///< [E] rises of the loss, summed
        std::vector<int64_t> tokens;  ///< [E] how many
        std::vector<double> rank;     ///< [E] gate ranks, summed over all rows
        std::vector<int64_t> load;    ///< [E] activations of all rows
        /// [2 reach + 1] changes of the loss with k - reach to k + reach experts in this layer,
        /// summed over the rows behind the lead; 0 for numbers that there are not. By loss alone.
        std::vector<double> numbers;
    };
    int64_t rows = 0, hard_rows = 0, easy_rows = 0;
    std::vector<Layer> layers;
};

/// Losses that part the strata, and what has been measured so far of the windows, in order.
struct Measurements {
    std::string settings;  ///< all that they depend on
    double hard_loss = 0, easy_loss = 0;
    std::vector<WindowMeasurement> windows;
};

void write_measurements(const std::filesystem::path& path, const Measurements& measurements);
/// None when there is no such file. Throws Error for one that is damaged or of other `settings`.
std::optional<Measurements> read_measurements(const std::filesystem::path& path,
                                              const std::string& settings);

/// The plan that measurements give.
CalibrationResult conclude(const ModelConfig& config, const Measurements& measurements,
                           const CalibrationOptions& options);

}  // namespace muster
