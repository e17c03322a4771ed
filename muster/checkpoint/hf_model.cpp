// SPDX-License-Identifier: Apache-2.0
#include "muster/checkpoint/hf_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <set>

#include "muster/checkpoint/gather_rows.h"
#include "muster/checkpoint/hf_config.h"
#include "muster/checkpoint/hf_family.h"
#include "muster/checkpoint/hf_files.h"
#include "muster/checkpoint/hf_mxfp4.h"
#include "muster/checkpoint/json_value.h"
#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHead = "lm_head.weight";
// llama.cpp's numbers (enum llama_ftype) of files in these formats.
constexpr uint64_t kF32 = 0, kF16 = 1, kBf16 = 32, kMxfp4Moe = 38;

/// Fills a map with the tensors of one directory.
class Importer {
  public:
    Importer(const std::shared_ptr<const HfFiles>& files, const HfConfig& config, HfUse use,
             WeightMap& map)
        : files_(*files), config_(config), use_(use), map_(map) {
        HfFiles::keep_in(files, map);
    }

    void run() {
        const HfShape shape = hf_shape(map_, *config_.family);
        check_counts(shape);
        const bool mxfp4 =
            files_.find_bytes("model.layers.0.mlp.experts.gate_up_proj_blocks") != nullptr;
        const auto present = [&](std::string_view hf, std::string_view) {
            return hf == kHead ? !config_.tied : files_.has(hf);
        };
        for (Correspondence& c : hf_correspondences(shape, present, /*reading=*/true, mxfp4))
            for (Gather& g : c.gguf) c.mxfp4 ? add_mxfp4(std::move(g)) : add(std::move(g), c.f32);
        if (!config_.rope_factors.empty()) add_factors();
        if (config_.tied && config_.family->gguf == "olmoe")  // whose GGUF files have a head
            map_.add("output.weight", map_.tensors().find("token_embd.weight")->second);
        refuse_unread(shape);
        const TensorView& embedding = map_.tensors().find("token_embd.weight")->second;
        map_.set("general.file_type", mxfp4                            ? kMxfp4Moe
                                      : embedding.dtype == DType::f32  ? kF32
                                      : embedding.dtype == DType::bf16 ? kBf16
                                                                       : kF16);
    }

  private:
    /// Before names of as many tensors as config.json pretends are made up.
    void check_counts(const HfShape& s) const {
        int64_t needed = s.layers;
        if (config_.family->experts == HfExperts::list ||
            config_.family->experts == HfExperts::mixtral) {
            for (int64_t l = s.dense_layers; l < s.layers; ++l)
                if (!files_.has(fmt::format("model.layers.{}.mlp.experts.gate_up_proj", l)))
                    needed += 3 * s.experts;
        }
        if (needed <= files_.size()) return;
        throw Error(map_.name(), fmt::format("has {} tensors, expected at least {} for {} layers",
                                             files_.size(), needed, s.layers));
    }

    const TensorView& source(const GatherSource& s) {
        const TensorView* view = files_.find(s.name);
        if (view == nullptr) throw Error(map_.name(), "has no tensor " + quote(s.name));
        if (view->shape != s.shape) {
            throw Error(map_.name(),
                        fmt::format("tensor {} has shape {}, expected {}", quote(s.name),
                                    shape_text(view->shape), shape_text(s.shape)));
        }
        if (view->dtype == DType::i32)
            throw Error(map_.name(),
                        "tensor " + quote(s.name) + " is i32, expected f32, f16 or bf16");
        read_.insert(s.name);
        return *view;
    }

    void add(Gather g, bool f32) {
        std::vector<TensorView> sources;
        sources.reserve(g.sources.size());
        for (const GatherSource& s : g.sources) sources.push_back(source(s));
        const DType stored = sources.front().dtype;
        const bool alike =
            std::ranges::all_of(sources, [&](const TensorView& s) { return s.dtype == stored; });
        const DType dtype = f32 || !alike ? DType::f32 : stored;
        const std::string name = g.name;
        const std::vector<int64_t> shape = g.shape;
        const size_t stacked = use_ == HfUse::run ? name.find("_exps.weight") : name.npos;
        // An expert's matrices lie apart or stacked all three.
        if (stacked != name.npos && g.parts == 1) g.parts = shape.front();
        const int64_t parts = f32 && stored != dtype ? 0 : g.parts;
        std::vector<std::span<const std::byte>> read;
        read.reserve(sources.size());
        for (const TensorView& s : sources)
            read.emplace_back(s.data, static_cast<size_t>(s.bytes()));
        const GatherRows rows(std::move(g), std::move(sources), dtype);
        if (stacked != name.npos && parts > 0) {
            for (int64_t e = 0; e < parts; ++e)
                map_.add(fmt::format("{}.{}.weight", name.substr(0, stacked), e), rows.part(e));
        } else if (parts == 1) {
            map_.add(name, rows.part(0));
        } else {
            make(name, dtype, shape, rows, std::move(read));
        }
    }

    void make(const std::string& name, DType dtype, const std::vector<int64_t>& shape,
              const WeightMap::RowMaker& maker, std::vector<std::span<const std::byte>> read) {
        if (use_ == HfUse::convert) return map_.add_rows(name, dtype, shape, maker);
        // Vectors are small, and there are many.
        if (shape.size() > 1) return map_.add_made(name, dtype, shape, maker, std::move(read));
        int64_t rows = 1;
        for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
        std::byte* out = map_.allocate(name, dtype, shape);
        maker(0, rows, out);
    }

    std::span<const std::byte> bytes(const std::string& name, const std::vector<int64_t>& shape) {
        const ByteTensor* t = files_.find_bytes(name);
        if (t == nullptr || t->shape != shape) {
            throw Error(map_.name(), fmt::format("has no U8 tensor {} of shape {}", quote(name),
                                                 shape_text(shape)));
        }
        read_.insert(name);
        return t->bytes;
    }

    void add_mxfp4(Gather g) {
        const GatherSource& s = g.sources.front();
        if (s.shape.back() % kMxfp4Block != 0)
            throw Error(map_.name(), fmt::format("tensor {} has rows of {} values, expected whole "
                                                 "blocks of {}",
                                                 quote(s.name), s.shape.back(), kMxfp4Block));
        std::vector<int64_t> scales = s.shape;
        scales.back() /= kMxfp4Block;
        std::vector<int64_t> blocks = scales;
        blocks.push_back(kMxfp4Block / 2);
        const auto packed = bytes(s.name + "_blocks", blocks);
        const auto exponents = bytes(s.name + "_scales", scales);
        const std::string name = g.name;
        const std::vector<int64_t> shape = g.shape;
        make(name, DType::mxfp4, shape,
             [g = std::move(g), packed, exponents](int64_t first, int64_t count, std::byte* out) {
                 const int64_t row_bytes = dtype_bytes(DType::mxfp4, g.run);
                 for (int64_t r = first; r < first + count; ++r, out += row_bytes)
                     mxfp4_to_ggml(packed, exponents, g.place(r).offset / kMxfp4Block,
                                   g.run / kMxfp4Block, out);
             },
             {packed, exponents});
    }

    void add_factors() {
        const std::vector<float>& f = config_.rope_factors;
        std::memcpy(map_.allocate("rope_freqs.weight", DType::f32, {std::ssize(f)}), f.data(),
                    f.size() * sizeof(float));
    }

    void refuse_unread(const HfShape& s) const {
        for (const std::string& name : files_.names()) {
            if (read_.contains(name) || name.ends_with("rotary_emb.inv_freq")) continue;
            if (name == kHead && config_.tied) continue;
            if (is_later_layer(name, s.layers)) continue;
            throw Error(map_.name(), fmt::format("tensor {} is not known in {}", quote(name),
                                                 config_.family->hf));
        }
    }

    /// Of layers that predict tokens after the next one.
    bool is_later_layer(std::string_view name, int64_t layers) const {
        constexpr std::string_view kLayers = "model.layers.";
        if (!name.starts_with(kLayers)) return false;
        int64_t layer = 0;
        const auto [end, error] =
            std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), layer);
        return error == std::errc() && layer >= layers && layer < layers + config_.later_layers;
    }

    const HfFiles& files_;
    const HfConfig& config_;
    HfUse use_;
    WeightMap& map_;
    std::set<std::string, std::less<>> read_;
};

/// The last part of the path, as a name for the model.
std::string name_of(const fs::path& directory) {
    std::error_code ignored;
    const fs::path whole = fs::weakly_canonical(directory, ignored);
    return whole.filename().string();
}

}  // namespace

WeightMap open_hf(const fs::path& directory, HfUse use) {
    WeightMap map(directory.string());
    const std::string where = (directory / "config.json").string();
    const JsonValue json = JsonValue::parse(read_file(where, JsonLimits{}.bytes), where);
    const HfConfig config = read_hf_config(json, where, map);
    map.set("general.name", name_of(directory));
    map.set("general.quantization_version", uint64_t{2});
    Importer(std::make_shared<const HfFiles>(directory), config, use, map).run();
    return map;
}

}  // namespace muster
