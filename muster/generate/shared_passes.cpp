// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "muster/core/error.h"
#include "muster/generate/generation.h"

namespace muster {
namespace {

constexpr int kLogitRows = 32;  // computed at a time: their memory is that many vocabularies

}  // namespace

SharedPasses::SharedPasses(const Model& model, Executor& executor, int max_rows, Compute compute,
                           int prompt_rows)
    : forward_(model, executor, std::max(1, max_rows), compute), prompt_rows_(prompt_rows) {
    rows_.reserve(static_cast<size_t>(forward_.max_rows()));
    alone_.reserve(static_cast<size_t>(forward_.max_rows()));
    parts_.reserve(static_cast<size_t>(forward_.max_rows()));
}

void SharedPasses::add(Generation& generation, int count) {
    const auto first = static_cast<int>(rows_.size());
    generation.add_rows(count, rows_);
    parts_.push_back({&generation, first, count, rows_.back().wanted});
}

void SharedPasses::plan(std::span<Generation* const> generations) {
    rows_.clear();
    parts_.clear();
    MUSTER_ASSERT(generations.size() <= static_cast<size_t>(forward_.max_rows()));
    for (Generation* g : generations)
        if (g->rows_left() > 0 && !g->reading()) add(*g, 1);
    int room = forward_.max_rows() - static_cast<int>(rows_.size());
    if (!rows_.empty() && prompt_rows_ > 0) room = std::min(room, prompt_rows_);
    for (Generation* g : generations) {
        if (room == 0) break;
        if (g->rows_left() == 0 || !g->reading()) continue;
        const int count = std::min(room, g->rows_left());
        add(*g, count);
        room -= count;
    }
}

void SharedPasses::forward(const PassOptions& options) {
    try {
        forward_.forward(rows_, options);
    } catch (...) {
        if (parts_.size() == 1) return parts_[0].generation->fail(std::current_exception());
        return forward_apart(options);
    }
    try {
        hand_out();
    } catch (...) {  // no memory for the logits; the caches have moved on
        for (const Part& part : parts_) part.generation->fail(std::current_exception());
    }
}

/// A failed pass leaves the caches as they were: each part alone shows whose fault it is.
void SharedPasses::forward_apart(const PassOptions& options) {
    alone_.assign(rows_.begin(), rows_.end());
    std::vector<Part> all;
    all.swap(parts_);
    for (const Part& part : all) {
        rows_.assign(alone_.begin() + part.first, alone_.begin() + part.first + part.count);
        parts_.assign(1, {part.generation, 0, part.count, part.wanted});
        forward(options);
    }
}

void SharedPasses::hand_out() {
    const int wanted = forward_.wanted();
    int next = 0, first = 0, end = 0;  // wanted rows: the next one, and those with logits
    MatrixView<float> logits;
    for (const Part& part : parts_) {
        std::span<const float> mine;
        if (part.wanted) {
            if (next == end) {
                first = next;
                end = std::min(wanted, first + kLogitRows);
                logits = forward_.logits(first, end - first);
            }
            mine = {logits.row(next - first), static_cast<size_t>(logits.cols)};
            ++next;
        }
        try {
            const int last = part.first + part.count - 1;
            part.generation->take(mine, last, forward_.experts_of(last));
        } catch (...) {
            part.generation->fail(std::current_exception());
        }
    }
}

void SharedPasses::run(std::span<Generation* const> generations, const PassOptions& options) {
    plan(generations);
    if (!parts_.empty()) forward(options);
}

}  // namespace muster
