// SPDX-License-Identifier: Apache-2.0
// What running a model takes, compared with what is free, before anything is taken.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "muster/core/dtype.h"
#include "muster/model/model.h"

namespace muster {

/// How a model is going to be run.
struct MemorySettings {
    int context = 0;        ///< tokens of each cache; 0: the model's context
    DType kv = DType::f32;  ///< of the caches
    int sequences = 1;      ///< caches
    int rows = 256;         ///< of one pass
    int workers = 1;        ///< threads
    bool panels = false;    ///< LoadOptions::panels
};

/// Bytes.
struct MemoryNeed {
    /// Weights that are read where they lie in mapped files. The system can take these pages back
    /// and read them again, so that they may be more than is free, at the price of the disk.
    int64_t mapped = 0;
    /// Weights that lie in memory of their own because no file has them as they are used.
    int64_t made = 0;
    int64_t panels = 0;     ///< copies of weights
    int64_t caches = 0;     ///< keys and values of full contexts
    int64_t workspace = 0;  ///< of passes, roughly, the tokenizer, LatentWeights::transposed_keys
    /// What must be there.
    int64_t held() const noexcept { return made + panels + caches + workspace; }
};

/// Before or after the weights were copied, with one result. Thread-safe.
MemoryNeed memory_need(const Model& model, const MemorySettings& settings);

/// What a process may still take, and what says so.
struct FreeMemory {
    int64_t bytes = INT64_MAX;
    std::string limit;  ///< e.g. "MemAvailable", "memory.max of the control group", "RLIMIT_AS"
};

/// The least of: MemAvailable; what the process's control groups (version 2 and 1, and those above
/// them) leave, file pages counted as free; RLIMIT_AS less what is mapped. `root` stands before
/// /proc and /sys (tests). What cannot be read sets no limit.
FreeMemory free_memory(const std::filesystem::path& root = "/");

/// The context to use when none is asked for: the model's own where everything fits what is free,
/// else the greatest power of two that fits, but at least 256, which may then be refused.
int default_context(const Model& model, MemorySettings settings, const FreeMemory& free);

/// Throws Error with the numbers and what to change when the need is more than is free.
void check_memory(const Model& model, const MemorySettings& settings, const FreeMemory& free);

}  // namespace muster
