// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace muster {

/// Holds the mean number of experts per token at a target by moving one global p (DTop-p, arXiv
/// 2512.13996): e_t = (target - a_t) / E, p = p_0 + Kp e_t + Ki * sum(e), with anti-windup (the
/// integral stands still while p is clamped and the error pushes further out). A value: it belongs
/// to a sequence or a training run.
class MeanController {
  public:
    struct Settings {
        double target = 2;  ///< experts per token, > 0
        int num_experts = 1;
        double start = 0.4;  ///< p_0
        double proportional = 0.5;
        double integral = 0.05;
        double low = 0.01;  ///< p stays within [low, high]
        double high = 0.99;
    };
    explicit MeanController(const Settings& settings);

    double p() const noexcept { return p_; }
    /// Reports the mean number of experts per token of the last batch or window; moves p.
    void update(double mean_experts) noexcept;

    double integral_state() const noexcept { return sum_; }
    void restore(double p, double sum) noexcept { p_ = p, sum_ = sum; }

  private:
    Settings settings_;
    double p_;
    double sum_ = 0;
};

}  // namespace muster
