// SPDX-License-Identifier: Apache-2.0
#include "muster/model/panel_weights.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <new>
#include <vector>

#include "muster/core/error.h"
#include "muster/model/model.h"
#include "muster/quant/panels.h"

namespace muster {
namespace {

constexpr size_t kLargePage = size_t{2} << 20;
constexpr size_t kAlign = 64;        // a cache line, and the widest vector
constexpr int64_t kTaskPanels = 64;  // up to a few MB: enough tasks for any number of workers

size_t aligned(size_t bytes) noexcept { return (bytes + kAlign - 1) / kAlign * kAlign; }

void add(std::vector<WeightMatrix*>& out, WeightMatrix& w) {
    if (!w.empty() && w.layout == WeightLayout::rows && panels_fit(w)) out.push_back(&w);
}

void add(std::vector<WeightMatrix*>& out, ExpertBank& bank) {
    std::vector<WeightMatrix*> all;
    for (Expert& e : bank.experts) {
        for (WeightMatrix* w : {&e.gate, &e.up, &e.down}) {
            if (!w->empty()) all.push_back(w);
        }
    }
    // One plain matrix, and moe_forward() computes the whole bank in floating point, by rows.
    const auto plain = [](const WeightMatrix* w) { return panel_planes(w->dtype).empty(); };
    if (std::any_of(all.begin(), all.end(), plain)) return;
    for (WeightMatrix* w : all) add(out, *w);
}

/// By layer, the head last.
std::vector<std::vector<WeightMatrix*>> matrices(ModelWeights& weights) {
    std::vector<std::vector<WeightMatrix*>> out;
    for (LayerWeights& layer : weights.layers) {
        std::vector<WeightMatrix*>& of_layer = out.emplace_back();
        for (WeightMatrix* w : {&layer.query, &layer.key, &layer.value, &layer.output}) {
            add(of_layer, *w);
        }
        LatentWeights& latent = layer.latent;
        for (WeightMatrix* w : {&latent.query_down, &latent.down}) add(of_layer, *w);
        for (WeightMatrix& w : latent.keys) add(of_layer, w);
        for (WeightMatrix& w : latent.values) add(of_layer, w);
        add(of_layer, layer.experts);
        add(of_layer, layer.shared);
    }
    add(out.emplace_back(), weights.head);
    return out;
}

struct Piece {
    const WeightMatrix* from;
    int64_t first, last;  ///< panels
    std::byte* to;
};

/// Appends the pieces of `w` and returns what lies behind them.
std::byte* cut(const WeightMatrix& w, std::byte* to, std::vector<Piece>& pieces) {
    const int64_t panels = w.rows / kPanelRows;
    const int64_t panel_bytes = kPanelRows * w.row_bytes();
    for (int64_t p = 0; p < panels; p += kTaskPanels) {
        pieces.push_back({&w, p, std::min(panels, p + kTaskPanels), to + p * panel_bytes});
    }
    return to + aligned(static_cast<size_t>(w.bytes()));
}

}  // namespace

PanelWeights::PanelWeights(ModelWeights& weights, Executor& executor, const Progress& progress) {
    const std::vector<std::vector<WeightMatrix*>> groups = matrices(weights);
    for (const auto& group : groups) {
        for (const WeightMatrix* w : group) bytes_ += aligned(static_cast<size_t>(w->bytes()));
    }
    if (bytes_ == 0) return;
    const size_t size = (bytes_ + kLargePage - 1) / kLargePage * kLargePage;
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kLargePage, size)));
    if (memory_ == nullptr) throw std::bad_alloc();
#ifdef __linux__
    ::madvise(memory_.get(), size, MADV_HUGEPAGE);  // a wish: nothing depends on it
#endif
    std::byte* to = memory_.get();
    std::vector<Piece> pieces;
    for (const auto& group : groups) {
        pieces.clear();
        for (const WeightMatrix* w : group) to = cut(*w, to, pieces);
        executor.run(static_cast<int>(pieces.size()), [&](int task, int) {
            const Piece& p = pieces[static_cast<size_t>(task)];
            pack_panels(*p.from, p.first, p.last, p.to);
        });
        if (progress &&
            !progress("arranging weights", to - memory_.get(), static_cast<int64_t>(bytes_))) {
            throw Error("model", "loading was stopped");
        }
    }
    to = memory_.get();
    for (const auto& group : groups) {
        for (WeightMatrix* w : group) {
            w->data = to;
            w->layout = WeightLayout::panels;
            to += aligned(static_cast<size_t>(w->bytes()));
        }
    }
}

}  // namespace muster
