// SPDX-License-Identifier: Apache-2.0
#include "muster/model/weight_check.h"

#include <algorithm>
#include <vector>

#include "muster/checkpoint/validate.h"
#include "muster/core/error.h"
#include "muster/model/batches.h"

namespace muster {
namespace {

constexpr int64_t kPieceElements = int64_t{1} << 21;  // whole blocks of any format, a few MB

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
    std::vector<char> bad(pieces.size(), 0);
    const auto check = [&](const Piece& p) {
        TensorView part = p.part;
        std::vector<std::byte> buffer;
        part.data = file.contents(part.data, part.bytes(), buffer);
        bad[static_cast<size_t>(&p - pieces.data())] = has_non_finite(part) ? 1 : 0;
    };
    const auto report = [&](size_t first, size_t last) {
        for (size_t i = first; i < last; ++i) {
            if (bad[i] != 0)
                throw Error(file.name(),
                            "tensor " + *pieces[i].name + " holds NaN or infinite weights");
            const TensorView& part = pieces[i].part;
            if (drop) file.drop_pages(part.data, static_cast<size_t>(part.bytes()));
        }
    };
    in_batches(
        pieces, [](const Piece& p) { return p.part.bytes(); }, executor, check, report, progress,
        "checking weights", file.name());
}

}  // namespace muster
