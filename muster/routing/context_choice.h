// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace muster {

struct ContextCluster;

/// Chooses the context cluster of a plan that one sequence belongs to: the centre nearest, in the
/// metric by which the clusters were found, to the shares that experts have of the sequence's
/// activations, later ones counting more. Sums are of whole numbers, so that the choice does not
/// depend on the order of reports. A value; not thread-safe; allocates only when made.
class ContextChoice {
  public:
    /// The plan has passed check().
    explicit ContextChoice(std::span<const ContextCluster> clusters);

    /// Reports the experts of one row in `layer`, which count once take() is called and not when
    /// drop() is.
    void note(int layer, std::span<const int32_t> experts) noexcept;
    void take() noexcept;
    void drop() noexcept;
    /// Ends a window of `rows`: forgets a part of what was before, and chooses.
    void end_window(int rows) noexcept;
    /// The sequence begins, or its window under way is to be read again.
    void restart() noexcept;
    void restart_window() noexcept;

    /// -1: nothing is known.
    int cluster() const noexcept { return cluster_; }

    /// What remains between windows: state_size() numbers, all 0 at the beginning.
    size_t state_size() const noexcept { return norms_.size() + 1; }
    void append_state(std::vector<double>& state) const;
    /// Also restarts the window.
    void restore(std::span<const double> state) noexcept;
    /// What was taken in the window under way: window_size() numbers.
    size_t window_size() const noexcept { return norms_.size(); }
    void append_window(std::vector<double>& state) const;
    void restore_window(std::span<const double> state) noexcept;

  private:
    void choose() noexcept;

    std::vector<std::vector<int64_t>> centres_;  ///< [L][E, C] in units of 2^-32
    std::vector<double> norms_;                  ///< [C] squared length of the centre
    /// [C] inner products of centres with rows' shares: not taken yet, of the window, of all
    /// before.
    std::vector<int64_t> pending_, window_;
    std::vector<double> before_;
    double before_rows_ = 0;
    int cluster_ = -1;
};

}  // namespace muster
