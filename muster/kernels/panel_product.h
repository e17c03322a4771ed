// SPDX-License-Identifier: Apache-2.0
// Products of weights in a block format with quantised activations: integer dot products inside a
// scale's reach, sums over scales in f32.
#pragma once

#include <cstdint>

#include "muster/core/tensor_view.h"
#include "muster/cpu/isa.h"
#include "muster/kernels/quantized_rows.h"

namespace muster {

/// out[i * ldo + j - first] = <x[i], row j of w> for j in [first, last), i in [0, m).
///
/// `w` has a block format, in either layout; `first` is a multiple of 16, and so is `last`, or it
/// is w.rows. x[i]: w.cols activations with activation_scale(w.dtype). The order of a sum depends
/// on w.cols alone, not on the rows' neighbours, the layout or how the work was cut.
struct PanelProduct {
    WeightMatrix w;
    int64_t first = 0, last = 0;
    const QuantizedChunk* const* x = nullptr;  ///< [m]
    int64_t m = 0;
    float* out = nullptr;
    int64_t ldo = 0;
};

using PanelProductFn = void (*)(const PanelProduct& product) noexcept;

/// The kernel for a block format (asserted).
PanelProductFn panel_product(DType dtype, Isa isa) noexcept;

/// How a product of `rows` activation rows with all of a matrix is cut into tasks: panels by rows,
/// so that each worker gets several. Results do not depend on it.
class PanelGrid {
  public:
    struct Part {
        int64_t first = 0, last = 0;  ///< rows of w
        int64_t row = 0, rows = 0;    ///< activation rows
    };
    /// Results of one task at most.
    static constexpr int64_t kOutputs = int64_t{32} << 10;

    PanelGrid() = default;  ///< no tasks
    PanelGrid(int64_t rows, const WeightMatrix& w, int workers) noexcept;
    int tasks() const noexcept { return static_cast<int>(row_parts_ * column_parts_); }
    Part part(int task) const noexcept;

  private:
    int64_t rows_ = 0, columns_ = 0;
    int64_t row_step_ = 0, column_step_ = 0;
    int64_t row_parts_ = 0, column_parts_ = 0;
};

}  // namespace muster
