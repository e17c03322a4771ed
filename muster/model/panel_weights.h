// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>

#include "muster/core/executor.h"
#include "muster/core/progress.h"
#include "muster/model/made_weights.h"

namespace muster {

struct ModelWeights;

/// Weights of a model in the order in which products under Compute::int8 read them
/// (quant/panels.h). Files hold rows, which decoding would have to interleave again for every
/// token. In large pages where the system has them. Movable; owns its memory.
class PanelWeights {
  public:
    PanelWeights() = default;
    /// Copies the matrices of attention, experts, shared experts and head that are multiplied in
    /// integers and have whole panels, and points `weights` to the copies; everything else stays
    /// where it is, the embedding and the routers always, for they are read by rows and in f32.
    /// Weights without content are made on the way. Pages of `file` are dropped once they are
    /// copied, so that no more than a few dozen megabytes are ever held twice. Throws
    /// std::bad_alloc, and Error when `progress` (may be empty) says stop; `weights` is then as it
    /// was.
    PanelWeights(ModelWeights& weights, const WeightMap& file, Executor& executor,
                 const Progress& progress);

    /// What the copies of such weights take.
    static size_t bytes_of(const ModelWeights& weights);

    /// The tensors outside files (WeightMap::add_made) that are copied whole, so that nothing
    /// points to them afterwards.
    static TensorNames copied(const ModelWeights& weights, const WeightMap& file);

    size_t bytes() const noexcept { return bytes_; }

  private:
    struct Free {
        void operator()(std::byte* p) const noexcept { std::free(p); }
    };
    std::unique_ptr<std::byte, Free> memory_;
    size_t bytes_ = 0;
};

}  // namespace muster
