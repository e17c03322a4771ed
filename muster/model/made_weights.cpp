// SPDX-License-Identifier: Apache-2.0
#include "muster/model/made_weights.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "muster/core/error.h"

namespace muster {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int64_t kBatchBytes = int64_t{32} << 20;  // between two calls of the progress

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
    int64_t done = 0, total = 0;
    for (const Piece& p : pieces) total += p.bytes;
    for (size_t first = 0, last = 0; first < pieces.size(); first = last) {
        int64_t batch = 0;
        while (last < pieces.size() && batch < kBatchBytes) batch += pieces[last++].bytes;
        executor.run(static_cast<int>(last - first), [&](int task, int) {
            const Piece& p = pieces[first + static_cast<size_t>(task)];
            file.make(*p.name, p.first, p.count);
        });
        for (size_t i = first; i < last; ++i)
            if (i == first || pieces[i].name != pieces[i - 1].name)
                file.drop_pages(pieces[i].tensor->data, 0);
        done += batch;
        if (progress && !progress("making weights", done, total))
            throw Error(file.name(), "loading was stopped");
    }
    for (const std::string& name : names) file.keep_made(name);
}

}  // namespace muster
