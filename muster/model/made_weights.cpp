// SPDX-License-Identifier: Apache-2.0
#include "muster/model/made_weights.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "muster/model/batches.h"

namespace muster {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;

struct Piece {
    const std::string* name;
    const TensorView* tensor;
    int64_t first, count, bytes;  ///< rows
};

void cut(const std::string& name, const TensorView& tensor, std::vector<Piece>& pieces) {
    const int64_t cols = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (tensor.elements() == 0) return;
    const int64_t rows = tensor.elements() / cols, row_bytes = dtype_bytes(tensor.dtype, cols);
    const int64_t step = std::max<int64_t>(1, kPieceBytes / row_bytes);
    for (int64_t r = 0; r < rows; r += step) {
        const int64_t count = std::min(step, rows - r);
        pieces.push_back({&name, &tensor, r, count, count * row_bytes});
    }
}

}  // namespace

void make_weights(WeightMap& file, const TensorNames& except, Executor& executor,
                  const Progress& progress) {
    std::vector<std::string> names = file.made();
    std::erase_if(names, [&](const std::string& name) { return except.contains(name); });
    std::vector<Piece> pieces;
    for (const std::string& name : names) cut(name, file.tensors().find(name)->second, pieces);
    in_batches(
        pieces, [](const Piece& p) { return p.bytes; }, executor,
        [&](const Piece& p) { file.make(*p.name, p.first, p.count); },
        [&](size_t first, size_t last) {
            for (size_t i = first; i < last; ++i)
                if (i == first || pieces[i].name != pieces[i - 1].name)
                    file.drop_pages(pieces[i].tensor->data, 0);
        },
        progress, "making weights", file.name());
    for (const std::string& name : names) file.keep_made(name);
}

}  // namespace muster
