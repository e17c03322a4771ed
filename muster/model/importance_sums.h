// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace muster {

/// Sums of squared activations, from which importance matrices are made; can be added up over
/// texts and files.
struct ImportanceSums {
    /// Of one tensor of weights: `matrices` is the number of experts (or heads) of a stacked
    /// tensor, 1 otherwise.
    struct Entry {
        int64_t cols = 0;
        std::vector<double> sums;    ///< [matrices, cols]
        std::vector<double> counts;  ///< [matrices] rows that were multiplied
        /// The same over rows that an expert was not given by the router; they stand in for experts
        /// that were given none. Empty, or of the same sizes.
        std::vector<double> lent_sums, lent_counts;

        int64_t matrices() const noexcept { return static_cast<int64_t>(counts.size()); }
        void resize(int64_t matrices, int64_t columns);
        /// Sizes lent_sums and lent_counts.
        void make_lent();
        /// The same sums, of several matrices with the one count there was.
        void split(int64_t matrices);
    };
    std::map<std::string, Entry, std::less<>> tensors;
    std::vector<std::string> datasets;  ///< names of the texts
    int64_t chunks = 0;
    int64_t chunk_tokens = 0;

    /// Adds another file's sums. Throws Error, under `where`, when a tensor has another shape; but
    /// one count may stand for all matrices of a stacked tensor, as llama.cpp has it for those that
    /// are no experts.
    void add(const ImportanceSums& other, std::string_view where);
};

/// Writes llama.cpp's importance matrix (tools/imatrix): GGUF, general.type "imatrix",
/// imatrix.datasets, imatrix.chunk_count, imatrix.chunk_size, tensors `NAME.in_sum2` [matrices,
/// cols] and `NAME.counts` [matrices, 1]. Tensors without any are left out, matrices without rows
/// of their own take what was lent; muster.imatrix.lent lists them as NAME/MATRIX. Atomic. Throws
/// Error.
void write_importance(const std::filesystem::path& path, const ImportanceSums& all);

/// Reads such a file, with what was lent apart. Throws Error when it is damaged or none (the older
/// .dat does not say how many tokens its means are of).
ImportanceSums read_importance_sums(const std::filesystem::path& path);

}  // namespace muster
