// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "muster/core/error.h"

namespace muster {
namespace {

void turn_halves(float* head, const float* cosines, const float* sines, int half) noexcept {
    for (int i = 0; i < half; ++i) {
        const float a = head[i], b = head[i + half];
        head[i] = a * cosines[i] - b * sines[i];
        head[i + half] = a * sines[i] + b * cosines[i];
    }
}

void turn_neighbours(float* head, const float* cosines, const float* sines, int half) noexcept {
    for (int i = 0; i < half; ++i) {
        const float a = head[2 * i], b = head[2 * i + 1];
        head[2 * i] = a * cosines[i] - b * sines[i];
        head[2 * i + 1] = a * sines[i] + b * cosines[i];
    }
}

/// The pair that turns `turns` times within the original context (arXiv 2309.00071, appendix A.2).
double pair_of_turns(const RopeAngles& a, double turns) {
    return a.dims * std::log(a.scaling.original_context / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(double{a.theta}));
}

/// Angle per position of every pair.
void fill_frequencies(const RopeAngles& a, double* frequencies) {
    const RopeScaling& s = a.scaling;
    double low = 0, high = 0;
    if (s.extrapolation != 0) {
        low = std::max(0.0, std::floor(pair_of_turns(a, s.beta_fast)));
        high = std::min(a.dims - 1.0, std::ceil(pair_of_turns(a, s.beta_slow)));
    }
    for (int i = 0; i < a.dims / 2; ++i) {
        double kept = std::pow(double{a.theta}, -2.0 * i / a.dims);
        if (!a.factors.empty()) kept /= a.factors[i];
        const double divided = kept / s.factor;
        frequencies[i] = divided;
        if (s.extrapolation == 0) continue;
        const double ramp = 1 - std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
        const double mix = ramp * s.extrapolation;
        frequencies[i] = divided * (1 - mix) + kept * mix;
    }
}

}  // namespace

void RopeTable::fill(int head_dim, std::span<const int32_t> positions, float theta) {
    fill({.dims = head_dim, .theta = theta}, positions);
}

void RopeTable::fill(const RopeAngles& angles, std::span<const int32_t> positions) {
    const int dims = angles.dims;
    MUSTER_ASSERT(dims > 0 && dims % 2 == 0);
    half_ = dims / 2;
    MUSTER_ASSERT(angles.factors.empty() || static_cast<int>(angles.factors.size()) == half_);
    rows_ = static_cast<int64_t>(positions.size());
    values_.reserve(positions.size() * dims);
    frequencies_.reserve(half_);
    fill_frequencies(angles, frequencies_.data());
    const double magnitude = angles.scaling.magnitude;
    float* row = values_.data();
    for (const int32_t position : positions) {
        for (int i = 0; i < half_; ++i) {
            const double angle = position * frequencies_[i];
            row[i] = static_cast<float>(std::cos(angle) * magnitude);
            row[i + half_] = static_cast<float>(std::sin(angle) * magnitude);
        }
        row += dims;
    }
}

void rope(MatrixView<float> x, const RopeTable& table, int64_t first, bool interleaved) {
    rope(x, table, first, interleaved, 2 * table.half());
}

void rope(MatrixView<float> x, const RopeTable& table, int64_t first, bool interleaved,
          int head_dim, int offset) {
    const int half = table.half();
    MUSTER_ASSERT(half > 0 && offset >= 0 && offset + 2 * half <= head_dim);
    MUSTER_ASSERT(x.cols % head_dim == 0);
    MUSTER_ASSERT(first >= 0 && first + x.rows <= table.rows());
    for (int64_t t = 0; t < x.rows; ++t) {
        const float* cosines = table.cosines(first + t);
        const float* sines = table.sines(first + t);
        for (int64_t at = offset; at < x.cols; at += head_dim) {
            float* head = x.row(t) + at;
            interleaved ? turn_neighbours(head, cosines, sines, half)
                        : turn_halves(head, cosines, sines, half);
        }
    }
}

void rope(MatrixView<float> x, int head_dim, std::span<const int32_t> positions, float theta,
          bool interleaved) {
    MUSTER_ASSERT(static_cast<int64_t>(positions.size()) == x.rows);
    if (x.rows == 0) return;
    RopeTable table;
    table.fill(head_dim, positions, theta);
    rope(x, table, 0, interleaved);
}

}  // namespace muster
