// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/engine.h"

#include <fmt/format.h>

#include <ostream>

#include "muster/cli/progress_bar.h"
#include "muster/cli/text.h"
#include "muster/model/memory.h"

namespace muster::cli {
namespace {

/// Bits of a weight of the format, scales included.
double bits(DType dtype) {
    const DTypeInfo& info = dtype_info(dtype);
    return 8.0 * info.block_bytes / info.block_elements;
}

struct Formats {
    bool quantized = false;  ///< some weights are in blocks
    bool below_8 = false;    ///< some have fewer than 8 bits
    bool all_floats = true;  ///< nothing but f32
};

Formats formats_of(const Model& model) {
    Formats f;
    for (const auto& [name, tensor] : model.file().tensors()) {
        if (tensor.shape.size() < 2) continue;  // norms and biases are f32 everywhere
        f.quantized |= dtype_info(tensor.dtype).block_elements > 1;
        f.below_8 |= bits(tensor.dtype) < 8;
        f.all_floats &= tensor.dtype == DType::f32;
    }
    return f;
}

Compute compute_of(const std::string& word, const Formats& formats, bool exact) {
    if (word == "f32") return Compute::f32;
    if (word == "bf16") return Compute::bf16;
    if (word == "int8" || !exact) return Compute::int8;
    return formats.below_8 ? Compute::int8 : Compute::f32;
}

DType kv_of(const std::string& word, const Formats& formats, Compute compute) {
    if (word == "f32") return DType::f32;
    if (word == "f16") return DType::f16;
    if (word == "q8_0") return DType::q8_0;
    return compute == Compute::f32 || formats.all_floats ? DType::f32 : DType::f16;
}

/// Decides how the model runs, when its shape is known.
class Foresight {
  public:
    Foresight(Engine& engine, const EngineOptions& options, const EngineUse& use,
              Terminal& terminal)
        : engine_(engine), options_(options), use_(use), terminal_(terminal) {}

    bool operator()(const Model& model) const {
        const Formats formats = formats_of(model);
        engine_.compute = compute_of(options_.compute, formats, use_.exact);
        engine_.kv = kv_of(options_.kv, formats, engine_.compute);
        const bool panels = engine_.compute == Compute::int8 && !options_.mmap;
        MemorySettings settings{.context = use_.context,
                                .kv = engine_.kv,
                                .sequences = use_.sequences,
                                .rows = use_.rows,
                                .workers = engine_.team->workers(),
                                .panels = panels};
        const FreeMemory free = terminal_.free_memory ? terminal_.free_memory() : free_memory();
        if (use_.context == 0) {
            settings.context = default_context(model, settings, free);
            if (settings.context < model.config().context) {
                terminal_.err << fmt::format(
                                     "context of {} tokens instead of the model's {}: {} are free "
                                     "by {} (--ctx and --kv say otherwise)",
                                     settings.context, model.config().context,
                                     bytes_text(static_cast<double>(free.bytes)), free.limit)
                              << std::endl;
            }
        }
        check_memory(model, settings, free);
        engine_.context = settings.context;
        warn_of_paging(memory_need(model, settings), free);
        return panels;
    }

  private:
    void warn_of_paging(const MemoryNeed& need, const FreeMemory& free) const {
        if (need.held() + need.mapped <= free.bytes) return;
        terminal_.err << fmt::format(
                             "{} of weights and {} of memory are more than the {} that are free by "
                             "{}: weights will be read from the disk again and again",
                             bytes_text(static_cast<double>(need.mapped)),
                             bytes_text(static_cast<double>(need.held())),
                             bytes_text(static_cast<double>(free.bytes)), free.limit)
                      << std::endl;
    }

    Engine& engine_;
    const EngineOptions& options_;
    const EngineUse& use_;
    Terminal& terminal_;
};

}  // namespace

DType choose_kv(const std::string& word, const Model& model, Compute compute) {
    return kv_of(word, formats_of(model), compute);
}

std::string_view compute_name(Compute compute) noexcept {
    switch (compute) {
        case Compute::int8:
            return "int8";
        case Compute::bf16:
            return "bf16";
        case Compute::f32:
            break;
    }
    return "f32";
}

Engine load_engine(const ModelOptions& model, const EngineOptions& options, const EngineUse& use,
                   Terminal& terminal) {
    Engine engine;
    engine.team = std::make_unique<ThreadTeam>(model.threads);
    ProgressBar bar(terminal);
    LoadOptions load;
    load.check_values = !model.no_check;
    load.progress = bar.callback();
    load.panels = load.executor = engine.team.get();
    load.foresee = Foresight(engine, options, use, terminal);
    engine.model = std::make_unique<Model>(Model::load(model_path(model.model, terminal), load));
    return engine;
}

}  // namespace muster::cli
