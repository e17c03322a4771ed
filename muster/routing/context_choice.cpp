// SPDX-License-Identifier: Apache-2.0
#include "muster/routing/context_choice.h"

#include <algorithm>
#include <cmath>

#include "muster/core/error.h"
#include "muster/routing/activation_plan.h"

namespace muster {
namespace {

constexpr double kUnit = 4294967296.0;  // 2^32
constexpr double kMemory = 512;         // rows that count, about: those of a window of calibration

}  // namespace

ContextChoice::ContextChoice(std::span<const ContextCluster> clusters) {
    const size_t n = clusters.size();
    MUSTER_ASSERT(n > 0);
    norms_.assign(n, 0);
    centres_.resize(clusters[0].centre.size());
    for (size_t l = 0; l < centres_.size(); ++l) {
        const size_t experts = clusters[0].centre[l].size();
        centres_[l].resize(experts * n);
        for (size_t e = 0; e < experts; ++e)
            for (size_t c = 0; c < n; ++c) {
                const double share = clusters[c].centre[l][e];
                centres_[l][e * n + c] = std::llround(share * kUnit);
                norms_[c] += share * share;
            }
    }
    pending_.assign(n, 0);
    window_.assign(n, 0);
    before_.assign(n, 0);
}

void ContextChoice::note(int layer, std::span<const int32_t> experts) noexcept {
    const std::vector<int64_t>& centres = centres_[static_cast<size_t>(layer)];
    const size_t n = norms_.size();
    if (experts.empty() || centres.empty()) return;
    const auto count = static_cast<int64_t>(experts.size());
    for (size_t c = 0; c < n; ++c) {
        int64_t sum = 0;
        for (const int32_t e : experts) sum += centres[static_cast<size_t>(e) * n + c];
        pending_[c] += sum / count;
    }
}

void ContextChoice::drop() noexcept { std::fill(pending_.begin(), pending_.end(), 0); }

void ContextChoice::take() noexcept {
    for (size_t c = 0; c < norms_.size(); ++c) window_[c] += pending_[c];
    drop();
}

void ContextChoice::end_window(int rows) noexcept {
    const double kept = std::max(0.0, 1 - rows / kMemory);
    for (size_t c = 0; c < norms_.size(); ++c)
        before_[c] = kept * before_[c] + static_cast<double>(window_[c]) / kUnit;
    before_rows_ = kept * before_rows_ + rows;
    restart_window();
    choose();
}

void ContextChoice::choose() noexcept {
    cluster_ = -1;
    if (before_rows_ <= 0) return;
    // |share - centre|^2 less |share|^2, which is the same for all.
    double least = 0;
    for (size_t c = 0; c < norms_.size(); ++c) {
        const double distance = norms_[c] - 2 * before_[c] / before_rows_;
        if (cluster_ >= 0 && distance >= least) continue;
        least = distance;
        cluster_ = static_cast<int>(c);
    }
}

void ContextChoice::restart_window() noexcept { std::fill(window_.begin(), window_.end(), 0); }

void ContextChoice::restart() noexcept {
    std::fill(before_.begin(), before_.end(), 0.0);
    before_rows_ = 0;
    restart_window();
    choose();
}

void ContextChoice::append_state(std::vector<double>& state) const {
    state.push_back(before_rows_);
    state.insert(state.end(), before_.begin(), before_.end());
}

void ContextChoice::restore(std::span<const double> state) noexcept {
    MUSTER_ASSERT(state.size() == state_size());
    before_rows_ = state[0];
    std::copy(state.begin() + 1, state.end(), before_.begin());
    restart_window();
    choose();
}

void ContextChoice::append_window(std::vector<double>& state) const {
    for (const int64_t x : window_) state.push_back(static_cast<double>(x));
}

void ContextChoice::restore_window(std::span<const double> state) noexcept {
    MUSTER_ASSERT(state.size() == window_size());
    for (size_t c = 0; c < state.size(); ++c) window_[c] = std::llround(state[c]);
}

}  // namespace muster
