// SPDX-License-Identifier: Apache-2.0
#include "muster/model/training_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "muster/checkpoint/validate.h"
#include "muster/core/atomic_file.h"
#include "muster/core/buffer.h"
#include "muster/core/error.h"
#include "muster/model/request_routing.h"
#include "muster/quant/convert.h"

namespace muster {
namespace {

ModelConfig read_config(const std::filesystem::path& directory) {
    if (!std::filesystem::is_directory(directory))
        throw Error(directory.string(), "this is no directory, expected a training checkpoint");
    const std::filesystem::path path = directory / "config.json";
    return model_config_from_json(read_file(path), path.string());
}

}  // namespace

TrainingCheckpoint::TrainingCheckpoint(const std::filesystem::path& directory)
    : config_(read_config(directory)),
      weights_(directory / "model.safetensors"),
      tokenizer_(Tokenizer::from_sentencepiece(read_file(directory / "tokenizer.model"))) {
    if (tokenizer_.vocab_size() != config_.vocab)
        throw Error((directory / "tokenizer.model").string(),
                    "the vocabulary has " + std::to_string(tokenizer_.vocab_size()) +
                        " pieces, expected " + std::to_string(config_.vocab) +
                        " as config.json says");
}

const TensorView& TrainingCheckpoint::tensor(std::string_view name,
                                             const std::vector<int64_t>& shape) const {
    const TensorView& t = weights_.tensor(name, shape);
    if (t.dtype == DType::i32)
        throw Error(weights_.name(), "tensor " + std::string(name) + " is i32, expected f32");
    if (has_non_finite(t))
        throw Error(weights_.name(),
                    "tensor " + std::string(name) + " holds NaN or infinite weights");
    return t;
}

std::vector<std::byte> TrainingCheckpoint::converted(std::string_view name,
                                                     const std::vector<int64_t>& shape,
                                                     DType dtype) const {
    const TensorView& tensor = this->tensor(name, shape);
    std::vector<std::byte> out(dtype_bytes(dtype, tensor.elements()));
    const int64_t cols = tensor.shape.empty() ? 1 : tensor.shape.back();
    const int64_t rows = cols > 0 ? tensor.elements() / cols : 0;
    Buffer<float> row(cols);
    const std::byte* in = tensor.data;
    std::byte* to = out.data();
    for (int64_t r = 0; r < rows; ++r) {
        decode_row(tensor.dtype, in, row.data(), cols);
        encode_row(dtype, row.data(), to, cols);
        if (has_non_finite({dtype, {cols}, to}))
            refuse_unfit(weights_.name(), name, dtype, {row.data(), static_cast<size_t>(cols)});
        in += dtype_bytes(tensor.dtype, cols);
        to += dtype_bytes(dtype, cols);
    }
    return out;
}

int equivalent_top_k(const ModelConfig& config) {
    const RequestRouting own(config);
    double sum = 0;
    int layers = 0, fewest = 1 << 30;
    for (int l = 0; l < config.num_layers(); ++l) {
        if (config.layers[l].dense()) continue;
        const double expected = expected_experts(config, own, l);
        sum += expected < 0 ? 2.0 : expected;
        ++layers;
        fewest = std::min(fewest, config.layers[l].experts());
    }
    if (layers == 0) return 1;
    return std::clamp(static_cast<int>(std::ceil(sum / layers - 1e-9)), 1, fewest);
}

void expect_outside(const std::filesystem::path& checkpoint, const std::filesystem::path& out) {
    std::error_code error;
    if (std::filesystem::equivalent(checkpoint, out.empty() ? "." : out, error))
        throw Error(out.string(), "is the checkpoint itself, expected another directory");
}

void report_export(const Progress& progress, std::string_view what, int64_t done, int64_t total) {
    if (progress && !progress(what, done, total)) throw Error("export", "the export was stopped");
}

}  // namespace muster
