// SPDX-License-Identifier: Apache-2.0
// Rows of tensors that are made of others. Internal to checkpoint/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "muster/checkpoint/hf_layout.h"
#include "muster/core/tensor_view.h"

namespace muster {

/// Makes rows of the tensor that a Gather describes, in `dtype`, from views of its sources (as many
/// as it has, of their shapes; asserted). Formats may differ: values are converted, and where they
/// do not, moved as they are. Safe to call from several threads.
class GatherRows {
  public:
    /// `dtype` is a plain format: f32, f16 or bf16; the sources may be in any but i32.
    GatherRows(Gather gather, std::vector<TensorView> sources, DType dtype);

    /// Rows [first, first + count) of the tensor, leading dimensions flattened; `out` has room.
    void operator()(int64_t first, int64_t count, std::byte* out) const;

    /// Where part `part` of gather.parts (more than 0) lies, in the source's format.
    TensorView part(int64_t part) const;

  private:
    Gather gather_;
    std::vector<TensorView> sources_;
    DType dtype_;
};

}  // namespace muster
