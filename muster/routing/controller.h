// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

namespace muster {

/// Share of the gate's mass that `mean` and `speed` spread evenly over a token's candidates before
/// they count it, so that every number of experts has a p of its own, however sharp the router.
inline constexpr double kEvenShare = 0x1p-10;

/// Numbers of experts at a grid of p: point i has log(p / (1 - p)) = (i - 16) / 2, which goes from
/// a p that is below the best of 1,024 experts' share to one above all but the last's.
inline constexpr int kGridPoints = 47;
template <typename T>
using OverGrid = std::array<T, kGridPoints>;
/// [kGridPoints] the p of each point, in (0, 1).
const OverGrid<double>& grid_p() noexcept;

/// Holds the mean number of experts per token at a target by moving one global p, a PI controller
/// (DTop-p, arXiv 2512.13996) on scales that suit top-p: u = log(p / (1 - p)) follows
/// v(m) = log((m - low + 1/4) / (high - m + 1/4)), which is linear in u for a flat router and
/// slower than u for a sharp one. After a window with a mean of a experts,
///   debt += a - target,   u += v(target - debt / 4) - v(a),
/// so that what was spent too much is saved later: the mean over all windows is held, not only the
/// latest. It does not wind up: u stays within limits beyond which p changes nothing, and at a
/// limit the debt stands still while the error pushes further out. A value: it belongs to a
/// sequence or a training run.
class MeanController {
  public:
    struct Settings {
        double target = 2;  ///< experts per token, > 0; what is beyond low and high is cut to them
        double low = 1;     ///< experts that a token gets at least
        double high = 2;    ///< and at most, > 0
        int num_experts = 2;  ///< that it is chosen from, >= 1
        /// A mean that is known to come of a p in (0, 1), where u starts from; 0: the router is
        /// taken for flat.
        double known_mean = 0;
        double known_p = 0.5;
    };
    /// Throws Error when the settings make no sense.
    explicit MeanController(const Settings& settings);

    /// 0 at the lower limit, where a token has the fewest experts that it may, and 1 at the upper.
    double p() const noexcept;
    /// Reports the mean number of experts per token of the last batch or window; moves p.
    void update(double mean_experts) noexcept;

    /// log(p / (1 - p)), and what was spent above the target, in experts per token and window.
    double log_odds() const noexcept { return u_; }
    double debt() const noexcept { return debt_; }
    void restore(double log_odds, double debt) noexcept;
    /// Reports a first window that p did not lead: what it had by its mean, and the mean that each
    /// p of the grid would have given it, rising. u goes to where those reach the target.
    void begin(double mean_experts, const OverGrid<double>& means) noexcept;
    /// As it was made.
    void restart() noexcept;

  private:
    Settings settings_;
    double u_ = 0;
    double debt_ = 0;
};

/// Whether a target speed can be held.
enum class SpeedReach : uint8_t {
    held,      ///< it can
    too_high,  ///< the fewest experts are slower
    too_low,   ///< the most experts are faster
};

/// Holds a number of tokens per second by moving p as MeanController does. Its model of the cost of
/// a token is linear, seconds = unit * (fixed + mean experts per layer); the unit is measured all
/// the time, and time lost is made up for within the next tokens. A value: it belongs to a
/// sequence.
class SpeedController {
  public:
    struct Settings {
        double tokens_per_second = 1;  ///< > 0
        double fixed = 0;      ///< what a token costs beside its experts, in experts per layer
        double low = 1;        ///< experts per layer that a token gets at least
        double high = 2;       ///< and at most
        int num_experts = 2;   ///< that they are chosen from, >= 1
        double start_p = 1.0;  ///< until something is measured, in (0, 1]
    };
    /// Throws Error when the settings make no sense.
    explicit SpeedController(const Settings& settings);

    double p() const noexcept;
    /// Reports a token that was written: its mean number of experts per layer and its seconds.
    /// Moves p after every eighth; true then.
    bool update(double mean_experts, double seconds) noexcept;

    /// Whether the target lies between the speeds of the fewest and the most experts, where tokens
    /// of so many experts per layer came at that speed. Nothing is known before p has moved: held.
    SpeedReach reach(double tokens_per_second, double mean_experts) const noexcept;
    /// Experts per layer of a token at that end; at `held` anything.
    double limit(SpeedReach end) const noexcept {
        return end == SpeedReach::too_high ? settings_.low : settings_.high;
    }
    /// The speed that so many experts per layer would have, by the same tokens.
    double speed_with(double experts, double tokens_per_second,
                      double mean_experts) const noexcept {
        return tokens_per_second * (settings_.fixed + mean_experts) / (settings_.fixed + experts);
    }
    double target() const noexcept { return settings_.tokens_per_second; }
    /// Seconds of a token beside its experts, and per mean expert per layer; 0 before the eighth
    /// token.
    double fixed_seconds() const noexcept { return unit() * settings_.fixed; }
    double expert_seconds() const noexcept { return unit(); }

  private:
    void move(double mean) noexcept;
    double unit() const noexcept { return cost_ > 0 ? seconds_ / cost_ : 0; }

    Settings settings_;
    double u_ = 0;
    double debt_ = 0;                           ///< seconds behind the target
    double cost_ = 0, seconds_ = 0;             ///< fading sums over tokens
    double experts_now_ = 0, seconds_now_ = 0;  ///< sums since the last move
    int tokens_now_ = 0;
};

}  // namespace muster
