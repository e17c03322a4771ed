// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/controller.h"

#include <algorithm>
#include <cmath>

#include "muster/core/error.h"

namespace muster {
namespace {

constexpr double kHorizon = 4;   ///< windows in which a debt is paid back
constexpr double kMostDebt = 8;  ///< windows of the target
constexpr double kSoftening = 0.25;
constexpr int kSpeedTokens = 8;       ///< between moves: their time outweighs the clock's noise
constexpr double kSpeedHorizon = 16;  ///< tokens in which lost time is made up for
constexpr double kFading = 0.5;       ///< of what was measured before, at every move

void require(bool holds, const char* what) {
    if (!holds) throw Error("routing", what);
}

double odds_of_mean(double m, double low, double high) noexcept {
    m = std::clamp(m, low, high);
    return std::log((m - low + kSoftening) / (high - m + kSoftening));
}

/// Beyond these log-odds p changes nothing: the best of E experts holds 1 / E of the mass or more,
/// the last one kEvenShare / E or more.
double lowest_odds(int experts) noexcept { return -1 - std::log(static_cast<double>(experts)); }
double highest_odds(int experts) noexcept { return 1 + std::log(experts / kEvenShare); }

double p_of(double u, int experts) noexcept {
    if (u >= highest_odds(experts)) return 1;
    return u <= lowest_odds(experts) ? 0 : 1 / (1 + std::exp(-u));
}

double clamp_odds(double u, int experts) noexcept {
    return std::clamp(u, lowest_odds(experts), highest_odds(experts));
}

void check_bounds(double low, double high, int experts) {
    require(std::isfinite(low) && std::isfinite(high) && low >= 0 && low <= high && high > 0,
            "controller's bounds of experts, expected 0 <= low <= high");
    require(experts >= 1, "controller for no experts, expected at least 1");
}

constexpr double grid_odds(int i) noexcept { return (i - 16) / 2.0; }

OverGrid<double> make_grid() noexcept {
    OverGrid<double> p;
    for (int i = 0; i < kGridPoints; ++i) p[i] = 1 / (1 + std::exp(-grid_odds(i)));
    return p;
}

}  // namespace

const OverGrid<double>& grid_p() noexcept {
    static const OverGrid<double> p = make_grid();
    return p;
}

MeanController::MeanController(const Settings& settings) : settings_(settings) {
    Settings& s = settings_;
    check_bounds(s.low, s.high, s.num_experts);
    require(std::isfinite(s.target) && s.target > 0, "controller's target, expected above 0");
    s.target = std::clamp(s.target, s.low, s.high);
    require(s.known_mean == 0 || (s.known_mean > 0 && s.known_p > 0 && s.known_p < 1),
            "controller's known mean, expected above 0 and its p between 0 and 1");
    restart();
}

void MeanController::restart() noexcept {
    const Settings& s = settings_;
    debt_ = 0;
    u_ = odds_of_mean(s.target, s.low, s.high);
    if (s.known_mean > 0)
        u_ += std::log(s.known_p / (1 - s.known_p)) - odds_of_mean(s.known_mean, s.low, s.high);
    u_ = clamp_odds(u_, s.num_experts);
    if (s.target <= s.low) u_ = lowest_odds(s.num_experts);
    if (s.target >= s.high) u_ = highest_odds(s.num_experts);
}

double MeanController::p() const noexcept { return p_of(u_, settings_.num_experts); }

void MeanController::update(double mean_experts) noexcept {
    const Settings& s = settings_;
    if (!std::isfinite(mean_experts) || s.target <= s.low || s.target >= s.high) return;
    const double error = mean_experts - s.target;
    const bool pushes_out = (u_ >= highest_odds(s.num_experts) && error < 0) ||
                            (u_ <= lowest_odds(s.num_experts) && error > 0);
    if (!pushes_out) debt_ = std::clamp(debt_ + error, -kMostDebt * s.target, kMostDebt * s.target);
    const double wanted = std::clamp(s.target - debt_ / kHorizon, s.target / 2, s.target * 2);
    const double step =
        odds_of_mean(wanted, s.low, s.high) - odds_of_mean(mean_experts, s.low, s.high);
    u_ = clamp_odds(u_ + step, s.num_experts);
}

void MeanController::begin(double mean_experts, const OverGrid<double>& means) noexcept {
    const Settings& s = settings_;
    int i = 0;
    while (i < kGridPoints && means[i] < s.target) ++i;
    if (i == 0) {
        u_ = lowest_odds(s.num_experts);
    } else if (i == kGridPoints) {
        u_ = highest_odds(s.num_experts);
    } else {
        const double part = (s.target - means[i - 1]) / (means[i] - means[i - 1]);
        u_ = clamp_odds(grid_odds(i - 1) + part * (grid_odds(i) - grid_odds(i - 1)), s.num_experts);
    }
    update(mean_experts);
}

void MeanController::restore(double log_odds, double debt) noexcept {
    u_ = clamp_odds(log_odds, settings_.num_experts);
    debt_ = debt;
}

SpeedController::SpeedController(const Settings& settings) : settings_(settings) {
    const Settings& s = settings_;
    check_bounds(s.low, s.high, s.num_experts);
    require(std::isfinite(s.tokens_per_second) && s.tokens_per_second > 0,
            "controller's speed, expected above 0");
    require(std::isfinite(s.fixed) && s.fixed >= 0, "controller's fixed cost, expected at least 0");
    require(s.start_p > 0 && s.start_p <= 1, "controller's first p, expected above 0, at most 1");
    u_ = clamp_odds(std::log(s.start_p / (1 - s.start_p)), s.num_experts);
}

double SpeedController::p() const noexcept { return p_of(u_, settings_.num_experts); }

bool SpeedController::update(double mean_experts, double seconds) noexcept {
    if (!std::isfinite(mean_experts) || !std::isfinite(seconds) || seconds <= 0) return false;
    experts_now_ += mean_experts;
    seconds_now_ += seconds;
    if (++tokens_now_ < kSpeedTokens) return false;
    move(experts_now_ / kSpeedTokens);
    experts_now_ = seconds_now_ = 0;
    tokens_now_ = 0;
    return true;
}

void SpeedController::move(double mean) noexcept {
    const Settings& s = settings_;
    const double per_token = 1 / s.tokens_per_second;
    cost_ = kFading * cost_ + kSpeedTokens * (s.fixed + mean);
    seconds_ = kFading * seconds_ + seconds_now_;
    const double late = seconds_now_ - kSpeedTokens * per_token;
    const double bound = kSpeedTokens * per_token;  // winds up no further, also out of reach
    debt_ = std::clamp(debt_ + late, -bound, bound);
    const double wanted = (per_token - debt_ / kSpeedHorizon) / unit() - s.fixed;
    u_ = clamp_odds(u_ + odds_of_mean(wanted, s.low, s.high) - odds_of_mean(mean, s.low, s.high),
                    s.num_experts);
    // Where even the fewest are too slow, they are gone to at once.
    if (per_token / unit() - s.fixed <= s.low) u_ = lowest_odds(s.num_experts);
}

SpeedReach SpeedController::reach(double tokens_per_second, double mean_experts) const noexcept {
    if (cost_ == 0) return SpeedReach::held;
    const auto speed = [&](double experts) {
        return speed_with(experts, tokens_per_second, mean_experts);
    };
    if (speed(settings_.low) < target()) return SpeedReach::too_high;
    if (speed(settings_.high) > target()) return SpeedReach::too_low;
    return SpeedReach::held;
}

}  // namespace muster
