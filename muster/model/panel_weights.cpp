// SPDX-License-Identifier: Apache-2.0
#include "muster/model/panel_weights.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <map>
#include <new>
#include <vector>

#include "muster/checkpoint/weight_map.h"
#include "muster/model/batches.h"
#include "muster/model/model.h"
#include "muster/quant/panels.h"

namespace muster {
namespace {

constexpr size_t kLargePage = size_t{2} << 20;
constexpr size_t kAlign = 64;                      // a cache line, and the widest vector
constexpr int64_t kPieceBytes = int64_t{1} << 20;  // of a task

size_t aligned(size_t bytes) noexcept { return (bytes + kAlign - 1) / kAlign * kAlign; }

void add(std::vector<const WeightMatrix*>& out, const WeightMatrix& w) {
    if (!w.empty() && w.layout == WeightLayout::rows && panels_fit(w)) out.push_back(&w);
}

void add(std::vector<const WeightMatrix*>& out, const ExpertBank& bank) {
    std::vector<const WeightMatrix*> all;
    for (const Expert& e : bank.experts) {
        for (const WeightMatrix* w : {&e.gate, &e.up, &e.down}) {
            if (!w->empty()) all.push_back(w);
        }
    }
    // One plain matrix, and moe_forward() computes the whole bank in floating point, by rows.
    const auto plain = [](const WeightMatrix* w) { return panel_planes(w->dtype).empty(); };
    if (std::any_of(all.begin(), all.end(), plain)) return;
    for (const WeightMatrix* w : all) add(out, *w);
}

/// What is arranged: layer by layer, the head last.
std::vector<const WeightMatrix*> matrices(const ModelWeights& weights) {
    std::vector<const WeightMatrix*> out;
    for (const LayerWeights& layer : weights.layers) {
        const LatentWeights& latent = layer.latent;
        for (const WeightMatrix* w : {&layer.query, &layer.key, &layer.value, &layer.output,
                                      &latent.query_down, &latent.down}) {
            add(out, *w);
        }
        for (const WeightMatrix& w : latent.keys) add(out, w);
        for (const WeightMatrix& w : latent.values) add(out, w);
        add(out, layer.experts);
        add(out, layer.shared);
    }
    add(out, weights.head);
    return out;
}

struct Piece {
    const WeightMatrix* from;
    int64_t first, last;  ///< panels
    std::byte* to;

    int64_t panel_bytes() const noexcept { return kPanelRows * from->row_bytes(); }
    const std::byte* source() const noexcept { return from->data + first * panel_bytes(); }
    int64_t bytes() const noexcept { return (last - first) * panel_bytes(); }
};

/// All pieces, in the order in which they are copied.
std::vector<Piece> cut(const std::vector<const WeightMatrix*>& matrices, std::byte* to) {
    std::vector<Piece> pieces;
    for (const WeightMatrix* w : matrices) {
        const int64_t panels = w->rows / kPanelRows;
        const int64_t panel_bytes = kPanelRows * w->row_bytes();
        const int64_t step = std::clamp<int64_t>(kPieceBytes / panel_bytes, 1, panels);
        for (int64_t p = 0; p < panels; p += step)
            pieces.push_back({w, p, std::min(panels, p + step), to + p * panel_bytes});
        to += aligned(static_cast<size_t>(w->bytes()));
    }
    return pieces;
}

size_t total_bytes(const std::vector<const WeightMatrix*>& matrices) {
    size_t bytes = 0;
    for (const WeightMatrix* w : matrices) bytes += aligned(static_cast<size_t>(w->bytes()));
    return bytes;
}

}  // namespace

size_t PanelWeights::bytes_of(const ModelWeights& weights) {
    return total_bytes(matrices(weights));
}

TensorNames PanelWeights::copied(const ModelWeights& weights, const WeightMap& file) {
    std::map<const std::byte*, int64_t> arranged;
    for (const WeightMatrix* w : matrices(weights)) arranged[w->data] = w->bytes();
    TensorNames names;
    for (const auto& [name, t] : file.tensors()) {
        int64_t bytes = t.bytes();
        if (t.data == nullptr || bytes == 0 || file.in_files(t.data)) continue;
        const auto last = arranged.lower_bound(t.data + bytes);
        for (auto w = arranged.lower_bound(t.data); w != last; ++w) bytes -= w->second;
        if (bytes == 0 && t.data != weights.embedding.data) names.insert(name);
    }
    return names;
}

PanelWeights::PanelWeights(ModelWeights& weights, const WeightMap& file, Executor& executor,
                           const Progress& progress) {
    const std::vector<const WeightMatrix*> all = matrices(weights);
    const size_t bytes = total_bytes(all);
    if (bytes == 0) return;
    const size_t size = (bytes + kLargePage - 1) / kLargePage * kLargePage;
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kLargePage, size)));
    if (memory_ == nullptr) throw std::bad_alloc();
    bytes_ = bytes;
#ifdef __linux__
    ::madvise(memory_.get(), size, MADV_HUGEPAGE);  // a wish: nothing depends on it
#endif
    const std::vector<Piece> pieces = cut(all, memory_.get());
    const auto pack = [&](const Piece& p) {
        std::vector<std::byte> buffer;
        WeightMatrix part = *p.from;
        part.data = file.contents(p.source(), p.bytes(), buffer);
        part.rows = (p.last - p.first) * kPanelRows;
        pack_panels(part, 0, p.last - p.first, p.to);
    };
    const auto drop = [&](size_t first, size_t last) {
        for (size_t i = first; i < last; ++i)
            file.drop_pages(pieces[i].source(), static_cast<size_t>(pieces[i].bytes()));
    };
    in_batches(
        pieces, [](const Piece& p) { return p.bytes(); }, executor, pack, drop, progress,
        "arranging weights", "model");
    std::byte* to = memory_.get();
    for (const WeightMatrix* arranged : all) {
        WeightMatrix& w = const_cast<WeightMatrix&>(*arranged);  // of `weights`, which is ours
        w.data = to;
        w.layout = WeightLayout::panels;
        to += aligned(static_cast<size_t>(w.bytes()));
    }
}

}  // namespace muster
