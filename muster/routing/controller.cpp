// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/controller.h"

#include <algorithm>
#include <cmath>

#include "muster/core/error.h"

namespace muster {

MeanController::MeanController(const Settings& settings) : settings_(settings), p_(0) {
    const auto require = [](bool holds, const char* what) {
        if (!holds) throw Error("routing", what);
    };
    const Settings& s = settings_;
    require(s.num_experts >= 1, "controller for no experts, expected at least 1");
    require(s.target > 0 && s.target <= s.num_experts,
            "controller's target, expected above 0 and at most the number of experts");
    require(s.low > 0 && s.low <= s.high && s.high <= 1,
            "controller's range of p, expected 0 < low <= high <= 1");
    require(s.proportional >= 0 && s.integral >= 0 && std::isfinite(s.proportional) &&
                std::isfinite(s.integral),
            "controller's gains, expected finite numbers of at least 0");
    require(std::isfinite(s.start), "controller's start, expected a finite number");
    p_ = std::clamp(s.start, s.low, s.high);
}

void MeanController::update(double mean_experts) noexcept {
    if (!std::isfinite(mean_experts)) return;
    const Settings& s = settings_;
    const double error = (s.target - mean_experts) / s.num_experts;
    const double sum = sum_ + error;
    const double wanted = s.start + s.proportional * error + s.integral * sum;
    const bool pushes_out = (wanted > s.high && error > 0) || (wanted < s.low && error < 0);
    if (!pushes_out) sum_ = sum;
    p_ = std::clamp(wanted, s.low, s.high);
}

}  // namespace muster
