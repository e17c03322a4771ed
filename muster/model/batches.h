// SPDX-License-Identifier: Apache-2.0
// Work over all of a model's weights while it is loaded, cut into pieces. Internal to model/.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "muster/core/error.h"
#include "muster/core/executor.h"
#include "muster/core/progress.h"

namespace muster {

/// Runs work(piece) for all pieces on all workers, some 32 MB of pieces at a time; after each such
/// batch after(first, last) for its pieces, by number, and progress(what, done, total) in bytes,
/// both alone. bytes_of(piece) is an int64_t. Throws what they throw, and Error under `where` when
/// `progress` (may be empty) says stop.
template <typename Piece, typename BytesOf, typename Work, typename After>
void in_batches(const std::vector<Piece>& pieces, BytesOf bytes_of, Executor& executor, Work work,
                After after, const Progress& progress, const char* what, const std::string& where) {
    constexpr int64_t kBatchBytes = int64_t{32} << 20;
    int64_t done = 0, total = 0;
    for (const Piece& p : pieces) total += bytes_of(p);
    for (size_t first = 0, last = 0; first < pieces.size(); first = last) {
        int64_t batch = 0;
        while (last < pieces.size() && batch < kBatchBytes) batch += bytes_of(pieces[last++]);
        executor.run(static_cast<int>(last - first),
                     [&](int task, int) { work(pieces[first + static_cast<size_t>(task)]); });
        after(first, last);
        done += batch;
        if (progress && !progress(what, done, total)) throw Error(where, "loading was stopped");
    }
}

}  // namespace muster
