// SPDX-License-Identifier: Apache-2.0
#include "muster/train/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "muster/checkpoint/safetensors.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"

namespace muster::train {
namespace fs = std::filesystem;
namespace {

NamedTensor named(const std::string& name, const at::Tensor& tensor) {
    MUSTER_ASSERT(tensor.is_contiguous() && tensor.scalar_type() == at::kFloat);
    return {name,
            {DType::f32, tensor.sizes().vec(),
             reinterpret_cast<const std::byte*>(tensor.data_ptr<float>())}};
}

void fill(const at::Tensor& tensor, const SafetensorsFile& file, const std::string& name) {
    const TensorView& view = file.tensor(name, tensor.sizes().vec());
    if (view.dtype != DType::f32)
        throw Error(file.name(), fmt::format("tensor '{}' is not f32", name));
    std::memcpy(tensor.data_ptr<float>(), view.data, static_cast<size_t>(view.bytes()));
}

/// Step number of a directory named step-N, or -1.
int64_t step_of(const fs::path& path) {
    const std::string name = path.filename().string();
    constexpr std::string_view kPrefix = "step-";
    int64_t step = -1;
    if (!name.starts_with(kPrefix)) return -1;
    const char* end = name.data() + name.size();
    const auto result = std::from_chars(name.data() + kPrefix.size(), end, step);
    return result.ec == std::errc() && result.ptr == end ? step : -1;
}

std::vector<fs::path> checkpoints(const fs::path& directory) {
    std::vector<fs::path> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory / "checkpoints", error)) {
        if (step_of(entry.path()) >= 0) found.push_back(entry.path());
    }
    std::sort(found.begin(), found.end(),
              [](const fs::path& a, const fs::path& b) { return step_of(a) < step_of(b); });
    return found;
}

std::string state_json(const TrainerState& state) {
    nlohmann::ordered_json json{{"format", "muster-trainer"},
                                {"version", 1},
                                {"step", state.step},
                                {"tokens", state.tokens},
                                {"window", state.window},
                                {"seconds", state.seconds},
                                {"controllers", state.controllers},
                                {"mean_experts", state.mean_experts},
                                {"config", state.config}};
    return json.dump(2) + '\n';
}

}  // namespace

std::vector<std::pair<std::string, at::Tensor>> named_weights(const LanguageModelImpl& model) {
    namespace names = tensor_names;
    std::vector<std::pair<std::string, at::Tensor>> out;
    out.emplace_back(names::kEmbedding, model.embedding);
    for (int l = 0; l < model.config().num_layers(); ++l) {
        const BlockImpl& block = *model.blocks()[static_cast<size_t>(l)];
        const MoEImpl& moe = *block.moe;
        const auto add = [&](std::string_view rest, const at::Tensor& tensor) {
            if (tensor.defined()) out.emplace_back(names::layer(l, rest), tensor);
        };
        add(names::kAttentionNorm, block.attention_norm);
        add(names::kQuery, block.query);
        add(names::kKey, block.key);
        add(names::kValue, block.value);
        add(names::kOutput, block.output);
        add(names::kQueryNorm, block.query_norm);
        add(names::kKeyNorm, block.key_norm);
        add(names::kFeedForwardNorm, block.feed_forward_norm);
        add(names::kRouter, moe.router);
        for (int e = 0; e < static_cast<int>(moe.options().widths.size()); ++e) {
            if (moe.options().gated)
                out.emplace_back(names::expert(l, e, "gate"), moe.expert_gate(e));
            out.emplace_back(names::expert(l, e, "up"), moe.expert_up(e));
            out.emplace_back(names::expert(l, e, "down"), moe.expert_down(e));
        }
        add(names::kSharedGate, moe.shared_gate);
        add(names::kSharedUp, moe.shared_up);
        add(names::kSharedDown, moe.shared_down);
    }
    out.emplace_back(names::kFinalNorm, model.final_norm);
    if (model.head.defined()) out.emplace_back(names::kHead, model.head);
    return out;
}

fs::path save_checkpoint(const fs::path& directory, const LanguageModelImpl& model,
                         const AdamW& optimizer, const TrainerState& state,
                         const fs::path& tokenizer, int keep) {
    fs::path target = directory / "checkpoints" / fmt::format("step-{:07}", state.step);
    fs::path temporary = target;
    temporary += ".tmp";
    try {
        fs::remove_all(temporary);
        fs::create_directories(temporary);
        ModelConfig config = model.config();
        config.mean_experts = state.mean_experts;
        write_file(temporary / "config.json", to_json(config));
        std::vector<NamedTensor> weights;
        for (const auto& [name, tensor] : named_weights(model))
            weights.push_back(named(name, tensor));
        write_safetensors(temporary / "model.safetensors", weights, {{"format", "pt"}});
        std::vector<NamedTensor> moments;
        for (const AdamW::Parameter& p : optimizer.parameters()) {
            moments.push_back(named("m." + p.name, p.m));
            moments.push_back(named("v." + p.name, p.v));
        }
        write_safetensors(temporary / "optimizer.safetensors", moments);
        write_file(temporary / "tokenizer.model", read_file(tokenizer));
        write_file(temporary / "trainer.json", state_json(state));
        fs::remove_all(target);
        fs::rename(temporary, target);
        sync_directory(target.parent_path());  // before older ones go
        std::vector<fs::path> old = checkpoints(directory);
        for (size_t i = 0; i + static_cast<size_t>(keep) < old.size(); ++i) fs::remove_all(old[i]);
    } catch (const fs::filesystem_error& e) {
        throw Error(target.string(),
                    fmt::format("cannot write the checkpoint: {}", e.code().message()));
    }
    return target;
}

std::optional<fs::path> latest_checkpoint(const fs::path& directory) {
    const std::vector<fs::path> found = checkpoints(directory);
    if (found.empty()) return std::nullopt;
    return found.back();
}

void load_checkpoint(const fs::path& checkpoint, LanguageModelImpl& model, AdamW& optimizer,
                     TrainerState& state) {
    const fs::path path = checkpoint / "trainer.json";
    const nlohmann::json json = nlohmann::json::parse(read_file(path, 1 << 24), nullptr, false);
    try {
        if (json.at("format") != "muster-trainer" || json.at("version") != 1) {
            throw Error(path.string(), "is no trainer state of version 1");
        }
        for (const char* count : {"step", "tokens", "window"}) {
            constexpr int64_t kMost = int64_t{1} << 53;
            const nlohmann::json& n = json.at(count);
            if (!n.is_number_integer() || n.get<int64_t>() < 0 || n.get<int64_t>() > kMost)
                throw Error(path.string(),
                            fmt::format("\"{}\" is {}, expected a count", count, n.dump()));
        }
        state.step = json.at("step");
        state.tokens = json.at("tokens");
        state.window = json.at("window");
        state.seconds = json.at("seconds");
        state.config = json.at("config");
        state.controllers = json.at("controllers").get<std::vector<double>>();
        state.mean_experts = json.at("mean_experts").get<std::vector<double>>();
        if (state.step != step_of(checkpoint))
            throw Error(path.string(), fmt::format("\"step\" is {}, expected that of the "
                                                   "directory's name",
                                                   state.step));
    } catch (const nlohmann::json::exception&) {
        throw Error(path.string(), "is no trainer state of version 1");
    }
    const SafetensorsFile weights(checkpoint / "model.safetensors");
    for (const auto& [name, tensor] : named_weights(model)) fill(tensor, weights, name);
    const SafetensorsFile moments(checkpoint / "optimizer.safetensors");
    for (AdamW::Parameter& p : optimizer.parameters()) {
        fill(p.m, moments, "m." + p.name);
        fill(p.v, moments, "v." + p.name);
    }
    optimizer.set_steps(state.step);
}

}  // namespace muster::train
