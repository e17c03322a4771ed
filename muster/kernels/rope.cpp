// SPDX-License-Identifier: Apache-2.0
#include "muster/kernels/rope.h"

#include <cmath>

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

}  // namespace

void RopeTable::fill(int head_dim, std::span<const int32_t> positions, float theta) {
    MUSTER_ASSERT(head_dim > 0 && head_dim % 2 == 0);
    half_ = head_dim / 2;
    rows_ = static_cast<int64_t>(positions.size());
    values_.reserve(positions.size() * head_dim);
    frequencies_.reserve(half_);
    for (int i = 0; i < half_; ++i) frequencies_[i] = std::pow(double{theta}, -2.0 * i / head_dim);
    float* row = values_.data();
    for (const int32_t position : positions) {
        for (int i = 0; i < half_; ++i) {
            const double angle = position * frequencies_[i];
            row[i] = static_cast<float>(std::cos(angle));
            row[i + half_] = static_cast<float>(std::sin(angle));
        }
        row += head_dim;
    }
}

void rope(MatrixView<float> x, const RopeTable& table, int64_t first, bool interleaved) {
    const int half = table.half();
    MUSTER_ASSERT(half > 0 && x.cols % (2 * half) == 0);
    MUSTER_ASSERT(first >= 0 && first + x.rows <= table.rows());
    for (int64_t t = 0; t < x.rows; ++t) {
        const float* cosines = table.cosines(first + t);
        const float* sines = table.sines(first + t);
        for (float* head = x.row(t); head < x.row(t) + x.cols; head += 2 * half) {
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
