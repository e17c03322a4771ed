// SPDX-License-Identifier: Apache-2.0
#include "muster/model/model.h"

#include <algorithm>
#include <cstring>

#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/model/arch/architecture.h"
#include "muster/model/open_model.h"
#include "muster/model/weight_check.h"
#include "muster/routing/activation_plan.h"

namespace muster {
namespace {

const Architecture& find_architecture(const WeightMap& file) {
    const std::string& name = file.string("general.architecture");
    std::string known;
    for (const Architecture* a : architectures()) {
        if (a->name == name) return *a;
        known += (known.empty() ? "" : ", ") + std::string(a->name);
    }
    throw Error(file.name(),
                "architecture \"" + name + "\" is not supported, expected one of " + known);
}

int vocabulary_size(const WeightMap& file, const Tokenizer& tokenizer) {
    const auto found = file.tensors().find("token_embd.weight");
    if (found == file.tensors().end())
        throw Error(file.name(), "tensor token_embd.weight is missing");
    const int64_t rows = found->second.shape.empty() ? 0 : found->second.shape[0];
    if (rows != tokenizer.vocab_size())
        throw Error(file.name(), "tensor token_embd.weight has " + std::to_string(rows) +
                                     " rows, expected " + std::to_string(tokenizer.vocab_size()) +
                                     ", the size of the vocabulary");
    return tokenizer.vocab_size();
}

ModelConfig read_config(const Architecture& architecture, const WeightMap& file, int vocab) {
    ModelConfig config = architecture.read_config(file);
    config.vocab = vocab;
    if (file.has("general.name")) config.name = file.string("general.name");
    binding::read_routing(file, config);
    try {
        config.check();
    } catch (const Error& e) {
        throw Error(file.name(), e.what());
    }
    return config;
}

uint64_t add_text(uint64_t hash, std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return mix64(hash);
}

/// 64 words spread over a tensor.
uint64_t add_sample(uint64_t hash, const WeightMap& file, const TensorView& t) {
    std::vector<std::byte> buffer;
    const int64_t words = t.bytes() / 8;
    const int64_t step = std::max<int64_t>(1, words / 64);
    for (int64_t i = 0; i < words; i += step) {
        uint64_t word;
        std::memcpy(&word, file.contents(t.data + i * 8, 8, buffer), 8);
        hash = mix64(hash ^ word);
    }
    return hash;
}

/// `drop`: pages that were touched are given back.
uint64_t hash_of(const WeightMap& file, const ModelConfig& config, bool drop) {
    uint64_t hash = add_text(0xcbf29ce484222325u, to_json(config));
    for (const auto& [name, tensor] : file.tensors()) {
        hash = add_text(hash, name);
        hash = mix64(hash ^ static_cast<uint64_t>(tensor.dtype));
        for (const int64_t n : tensor.shape) hash = mix64(hash ^ static_cast<uint64_t>(n));
        hash = add_sample(hash, file, tensor);
        if (drop) file.drop_pages(tensor.data, static_cast<size_t>(tensor.bytes()));
    }
    return hash;
}

}  // namespace

Model Model::load(const std::filesystem::path& path, const LoadOptions& options) {
    Model m;
    m.file_ = std::make_unique<WeightMap>(open_model(path, HfUse::run));
    WeightMap& file = *m.file_;
    const Architecture& architecture = find_architecture(file);
    m.tokenizer_ = std::make_unique<Tokenizer>(Tokenizer::from_gguf(file));
    m.config_ = read_config(architecture, file, vocabulary_size(file, *m.tokenizer_));
    m.weights_.layers.resize(m.config_.layers.size());
    TensorReader reader(file);
    architecture.bind(reader, m.config_, m.weights_);
    reader.refuse_unread(architecture.name);
    for (const LayerWeights& layer : m.weights_.layers) {
        layer.experts.check();
        if (layer.shared.size() > 0) layer.shared.check();
    }
    bool copied = options.panels != nullptr;
    if (options.foresee) copied = options.foresee(m) && copied;
    for (LayerWeights& layer : m.weights_.layers) transpose_keys(layer.latent);
    SerialExecutor alone;
    Executor& executor = copied                        ? *options.panels
                         : options.executor != nullptr ? *options.executor
                                                       : alone;
    TensorNames made;
    if (copied) made = PanelWeights::copied(m.weights_, file);
    make_weights(file, made, executor, options.progress);
    if (options.check_values) check_weights(file, executor, options.progress, copied);
    m.hash_ = hash_of(file, m.config_, copied);
    if (copied) m.panels_ = PanelWeights(m.weights_, file, executor, options.progress);
    for (const std::string& name : made) file.release_made(name);
    return m;
}

void Model::add_plan(const std::string& name, ActivationPlan plan) {
    const std::string where = "plan " + name;
    if (plan.model != hash_)
        throw Error(where, "was calibrated on another model, expected one of this model");
    std::vector<int> experts;
    experts.reserve(config_.layers.size());
    for (const FeedForwardConfig& ff : config_.layers) experts.push_back(ff.experts());
    plan.check(experts, where);
    config_.plans[name] = std::make_shared<const ActivationPlan>(std::move(plan));
}

std::vector<std::string_view> known_architectures() {
    std::vector<std::string_view> names;
    for (const Architecture* a : architectures()) names.push_back(a->name);
    return names;
}

}  // namespace muster
