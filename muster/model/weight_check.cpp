// SPDX-License-Identifier: Apache-2.0
#include "muster/model/weight_check.h"

#include <algorithm>
#include <vector>

#include "muster/checkpoint/validate.h"
#include "muster/core/error.h"

namespace muster {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 21;  // whole blocks of any format, a few MB
constexpr int64_t kBatchBytes = int64_t{32} << 20;    // between two calls of the progress

struct Piece {
    const std::string* name;
    TensorView part;
};

std::vector<Piece> cut(const WeightMap& file) {
    std::vector<Piece> pieces;
    for (const auto& [name, tensor] : file.tensors()) {
        const int64_t n = tensor.elements();
        // Whole rows, which are what can be made.
        const int64_t row = std::max<int64_t>(1, tensor.shape.empty() ? 1 : tensor.shape.back());
        const int64_t step = std::max<int64_t>(1, kPieceElements / row) * row;
        for (int64_t i = 0; i < n; i += step)
            pieces.push_back({&name,
                              {tensor.dtype,
                               {std::min(step, n - i)},
                               tensor.data + dtype_bytes(tensor.dtype, i)}});
    }
    return pieces;
}

}  // namespace

void check_weights(const WeightMap& file, Executor& executor, const Progress& progress, bool drop) {
    const std::vector<Piece> pieces = cut(file);
    int64_t done = 0, total = 0;
    for (const Piece& p : pieces) total += p.part.bytes();
    std::vector<char> bad(pieces.size(), 0);
    for (size_t first = 0, last = 0; first < pieces.size(); first = last) {
        int64_t batch = 0;
        while (last < pieces.size() && batch < kBatchBytes) batch += pieces[last++].part.bytes();
        executor.run(static_cast<int>(last - first), [&](int task, int) {
            const size_t i = first + static_cast<size_t>(task);
            TensorView part = pieces[i].part;
            std::vector<std::byte> buffer;
            part.data = file.contents(part.data, part.bytes(), buffer);
            bad[i] = has_non_finite(part) ? 1 : 0;
        });
        for (size_t i = first; i < last; ++i) {
            if (bad[i] != 0)
                throw Error(file.name(),
                            "tensor " + *pieces[i].name + " holds NaN or infinite weights");
            const TensorView& part = pieces[i].part;
            if (drop) file.drop_pages(part.data, static_cast<size_t>(part.bytes()));
        }
        done += batch;
        if (progress && !progress("checking weights", done, total))
            throw Error(file.name(), "loading was stopped");
    }
}

}  // namespace muster
