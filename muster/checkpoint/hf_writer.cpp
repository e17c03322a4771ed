// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/hf_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "muster/checkpoint/gather_rows.h"
#include "muster/checkpoint/hf_config_writer.h"
#include "muster/checkpoint/hf_family.h"
#include "muster/checkpoint/hf_mxfp4.h"
#include "muster/checkpoint/safetensors.h"
#include "muster/checkpoint/tensor_checks.h"
#include "muster/checkpoint/validate.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr std::byte kE8m0Nan{255};
constexpr int64_t kChunkBytes = int64_t{1} << 22;

bool plain(DType dtype) { return dtype_info(dtype).block_elements == 1; }

/// The format that holds all of the sources' values; bf16 where some are in blocks.
DType plain_format(const std::vector<TensorView>& sources) {
    const DType first = sources.front().dtype;
    if (!std::ranges::all_of(sources, [](const TensorView& s) { return plain(s.dtype); }))
        return DType::bf16;
    const bool same =
        std::ranges::all_of(sources, [&](const TensorView& s) { return s.dtype == first; });
    return same ? first : DType::f32;
}

/// What config.json says of the whole: the format of most weights.
DType main_format(const WeightMap& model) {
    std::map<DType, int64_t> elements;
    for (const auto& [name, tensor] : model.tensors())
        elements[plain(tensor.dtype) ? tensor.dtype : DType::bf16] += tensor.elements();
    return std::ranges::max_element(elements, {}, [](const auto& e) { return e.second; })->first;
}

/// What a tensor is made of, and how: kept until its shard is written.
class Exporter {
  public:
    Exporter(const WeightMap& model, const HfShape& shape, std::optional<DType> dtype, bool mxfp4)
        : model_(model), dtype_(dtype) {
        const auto present = [&](std::string_view, std::string_view gguf) {
            return model.has_tensor(gguf);
        };
        for (Correspondence& c : hf_correspondences(shape, present, /*reading=*/false, mxfp4))
            for (Gather& g : c.hf) c.mxfp4 ? add_mxfp4(std::move(g)) : add(std::move(g));
        read_.insert("rope_freqs.weight");
        for (const auto& [name, tensor] : model.tensors())
            if (!read_.contains(name))
                throw Error(model.name(), fmt::format("tensor {} is not known in {}", quote(name),
                                                      shape.family->hf));
    }

    const std::vector<MadeTensor>& tensors() const noexcept { return tensors_; }

  private:
    std::vector<TensorView> sources(const Gather& g) {
        std::vector<TensorView> views;
        for (const GatherSource& s : g.sources) {
            views.push_back(model_.tensor(s.name, s.shape));
            if (views.back().dtype == DType::i32 || views.back().data == nullptr)
                throw Error(model_.name(), "tensor " + quote(s.name) +
                                               " is not of a GGUF file in a format of weights");
            read_.insert(s.name);
        }
        return views;
    }

    void add(Gather g) {
        std::vector<TensorView> from = sources(g);
        const std::string name = g.name;
        const std::vector<int64_t> shape = g.shape;
        // Selection biases are added in small steps that 16 bits would lose.
        const DType dtype = name.ends_with("e_score_correction_bias")
                                ? DType::f32
                                : dtype_.value_or(plain_format(from));
        const auto rows = std::make_shared<const GatherRows>(g, from, dtype);
        const auto values =
            std::make_shared<const GatherRows>(std::move(g), std::move(from), DType::f32);
        tensors_.push_back({name, dtype, shape, [=, this](const MadeTensor::Sink& sink) {
                                const int64_t cols = shape.back(),
                                              row_bytes = dtype_bytes(dtype, cols);
                                int64_t total = 1;
                                for (size_t i = 0; i + 1 < shape.size(); ++i) total *= shape[i];
                                const int64_t step = std::max<int64_t>(1, kChunkBytes / row_bytes);
                                std::vector<std::byte> bytes;
                                for (int64_t first = 0; first < total; first += step) {
                                    const int64_t count = std::min(step, total - first);
                                    bytes.resize(static_cast<size_t>(count * row_bytes));
                                    (*rows)(first, count, bytes.data());
                                    if (has_non_finite({dtype, {count, cols}, bytes.data()}))
                                        refuse(name, dtype, *values, first, count, cols);
                                    sink(bytes);
                                }
                            }});
    }

    [[noreturn]] void refuse(const std::string& name, DType dtype, const GatherRows& rows,
                             int64_t first, int64_t count, int64_t cols) const {
        std::vector<float> values(static_cast<size_t>(count * cols));
        rows(first, count, reinterpret_cast<std::byte*>(values.data()));
        refuse_unfit(model_.name(), name, dtype, values);
    }

    void add_mxfp4(Gather g) {
        const auto from = std::make_shared<const std::vector<TensorView>>(sources(g));
        const auto gather = std::make_shared<const Gather>(std::move(g));
        std::vector<int64_t> scales = gather->shape;
        scales.back() /= kMxfp4Block;
        std::vector<int64_t> blocks = scales;
        blocks.push_back(kMxfp4Block / 2);
        const auto make = [&](bool exponents) {
            return [from, gather, exponents, where = model_.name()](const MadeTensor::Sink& sink) {
                give_mxfp4(where, *gather, *from, exponents, sink);
            };
        };
        tensors_.push_back({gather->name + "_blocks", std::nullopt, blocks, make(false)});
        tensors_.push_back({gather->name + "_scales", std::nullopt, scales, make(true)});
    }

    static void give_mxfp4(const std::string& where, const Gather& g,
                           const std::vector<TensorView>& from, bool exponents,
                           const MadeTensor::Sink& sink) {
        const int64_t rows = g.shape[0] * g.shape[1], blocks = g.run / kMxfp4Block;
        const int64_t size = exponents ? 1 : kMxfp4Block / 2;
        std::vector<std::byte> row(static_cast<size_t>(blocks * size));
        for (int64_t r = 0; r < rows; ++r) {
            const RunPlace place = g.place(r);
            const std::byte* in = from[static_cast<size_t>(place.source)].data +
                                  place.offset / kMxfp4Block * kMxfp4BlockBytes;
            for (int64_t b = 0; b < blocks; ++b, in += kMxfp4BlockBytes) {
                std::byte* out = row.data() + b * size;
                exponents ? void(*out = *in) : mxfp4_from_ggml(in, out);
            }
            if (exponents && std::ranges::find(row, kE8m0Nan) != row.end())
                throw Error(where, fmt::format("tensor {} holds NaN, expected finite weights",
                                               quote(g.name)));
            sink(row);
        }
    }

    const WeightMap& model_;
    std::optional<DType> dtype_;
    std::vector<MadeTensor> tensors_;
    std::set<std::string, std::less<>> read_;
};

bool all_mxfp4(const WeightMap& model, const HfFamily& family) {
    if (family.experts != HfExperts::gpt_oss) return false;
    return std::ranges::all_of(model.tensors(), [](const auto& t) {
        return !t.first.ends_with("_exps.weight") || t.second.dtype == DType::mxfp4;
    });
}

void write_tensors(const std::vector<MadeTensor>& tensors, const fs::path& directory, uint64_t most,
                   const Progress& progress) {
    int64_t total = 0, done = 0;
    for (const MadeTensor& t : tensors) total += t.bytes();
    const auto written = [&](int64_t bytes) {
        done += bytes;
        if (progress && !progress("writing tensors", done, total))
            throw Error(directory.string(), "writing was stopped");
    };
    const std::map<std::string, std::string> metadata{{"format", "pt"}};
    const auto shards = shards_of(tensors, most);
    if (shards.size() == 1)
        return write_made_safetensors(directory / "model.safetensors", tensors, metadata, written);
    nlohmann::ordered_json index{{"metadata", {{"total_size", total}}}};
    for (size_t i = 0; i < shards.size(); ++i) {
        const std::string name =
            fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
        write_made_safetensors(directory / name, shards[i], metadata, written);
        for (const MadeTensor& t : shards[i]) index["weight_map"][t.name] = name;
    }
    write_file(directory / "model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace

void write_hf(const WeightMap& model, const fs::path& directory, const HfWriteOptions& options,
              const Progress& progress) {
    const DType dtype = options.dtype.value_or(main_format(model));
    if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16)
        throw Error("convert", fmt::format("a Hugging Face directory cannot hold {}, expected f32, "
                                           "f16 or bf16",
                                           dtype_info(dtype).name));
    const HfFamily& family = hf_family_of(model);
    const HfShape shape = hf_shape(model, family);
    const bool mxfp4 = all_mxfp4(model, family);
    const std::string config = hf_config_text(model, shape, dtype, mxfp4);
    const Exporter exporter(model, shape, options.dtype, mxfp4);
    write_tensors(exporter.tensors(), directory, options.max_shard_bytes, progress);
    write_file(directory / "config.json", config);
}

}  // namespace muster
