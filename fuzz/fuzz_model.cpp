// SPDX-License-Identifier: Apache-2.0
// Any bytes as the file of a model - a GGUF file, or what Folder::write_huggingface() makes a
// Hugging Face directory of - load, so that shape, weights and the memory that they need fit each
// other, or give an Error. The same of config.json of a training checkpoint.
#include <algorithm>

#include "fuzz_folder.h"
#include "muster/core/executor.h"
#include "muster/model/memory.h"
#include "muster/model/model.h"
#include "muster/model/summary.h"

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

/// Whether there was no Error.
template <typename F>
bool attempt(F&& f) {
    try {
        f();
        return true;
    } catch (const muster::Error&) {
        return false;
    }
}

/// In no way to run the model a need is below 0. Returns that with panels.
muster::MemoryNeed foresee(const muster::Model& model) {
    muster::MemoryNeed need;
    for (const bool panels : {false, true}) {
        for (const auto kv : {muster::DType::f32, muster::DType::q8_0}) {
            const muster::MemorySettings settings{
                .kv = kv, .sequences = 4, .workers = 2, .panels = panels};
            need = muster::memory_need(model, settings);
            require(need.mapped >= 0 && need.made >= 0 && need.panels >= 0);
            require(need.caches > 0 && need.workspace > 0);
            muster::check_memory(model, settings, {});
            require(!attempt([&] { muster::check_memory(model, settings, {0, "test"}); }));
        }
    }
    const int own = model.config().context;
    require(muster::default_context(model, {}, {}) == own);
    require(muster::default_context(model, {}, {0, "test"}) == std::min(own, 256));
    return need;
}

void load(const std::filesystem::path& path) {
    muster::SerialExecutor executor;
    muster::MemoryNeed before;
    const auto see = [&](const muster::Model& model) {
        before = foresee(model);
        return true;
    };
    const auto model = muster::Model::load(path, {.panels = &executor, .foresee = see});
    require(foresee(model).held() == before.held());
    require(before.panels == static_cast<int64_t>(model.panel_bytes()));
    static_cast<void>(muster::to_json(muster::summarize(model)));
}

/// What is accepted can be written and read again.
void read_config(std::string_view text) {
    const std::string again = muster::to_json(muster::model_config_from_json(text, "test"));
    require(muster::to_json(muster::model_config_from_json(again, "again")) == again);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const muster::fuzzing::Folder folder;
    const std::string_view all(reinterpret_cast<const char*>(data), size);
    if (all.starts_with("GGUF")) {
        folder.write("model.gguf", all);
        attempt([] { load(folder.path() / "model.gguf"); });
        return 0;
    }
    attempt([&] { read_config(muster::fuzzing::halves(data, size).first); });
    folder.write_huggingface(data, size);
    folder.write("tokenizer.json",
                 R"({"model":{"type":"BPE","unk_token":"<unk>","vocab":{"<unk>":0},"merges":[]},)"
                 R"("pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","split":false}})");
    attempt([] { load(folder.path()); });
    return 0;
}
