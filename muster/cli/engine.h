// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "muster/cli/inputs.h"
#include "muster/core/thread_team.h"
#include "muster/kernels/matmul.h"
#include "muster/model/model.h"

namespace muster::cli {

/// How commands that compute run a model.
struct EngineOptions {
    bool mmap = false;  ///< weights stay in the file's layout and take no memory of their own
    std::string compute = "auto";  ///< auto, int8, bf16 or f32
    std::string kv = "auto";       ///< of keys and values: auto, f32, f16 or q8_0
};

/// What a command is going to do with the model.
struct EngineUse {
    int context = 0;     ///< asked for; 0: the model's own, or what fits
    int sequences = 1;   ///< caches
    int rows = 256;      ///< of a pass
    bool exact = false;  ///< `auto` rounds activations to 8 bits only where weights have fewer
};

/// A model ready to run.
struct Engine {
    std::unique_ptr<ThreadTeam> team;
    std::unique_ptr<Model> model;
    Compute compute = Compute::f32;
    DType kv = DType::f32;
    int context = 0;
};

/// The format of keys and values that the word of --kv means under `compute`.
DType choose_kv(const std::string& word, const Model& model, Compute compute);

/// int8, bf16, f32.
std::string_view compute_name(Compute compute) noexcept;

/// Loads with a progress bar, in panels where the computation takes them, once the memory that this
/// needs is known to be free; says on `err` when the context is not the model's own for lack of
/// memory. Throws Error.
Engine load_engine(const ModelOptions& model, const EngineOptions& options, const EngineUse& use,
                   Terminal& terminal);

}  // namespace muster::cli
