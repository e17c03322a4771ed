// SPDX-License-Identifier: Apache-2.0
#include "muster/model/importance.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstring>

#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"

namespace muster {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";

std::vector<float> floats(const TensorView& view, std::string_view file, std::string_view name) {
    if (view.dtype != DType::f32) {
        throw Error(file, fmt::format("tensor {} is {}, expected f32", quote(name),
                                      dtype_info(view.dtype).name));
    }
    std::vector<float> values(static_cast<size_t>(view.elements()));
    std::memcpy(values.data(), view.data, values.size() * sizeof(float));
    for (const float value : values) {
        if (!std::isfinite(value) || value < 0) {
            throw Error(file, fmt::format("tensor {} holds {}, expected finite numbers of at "
                                          "least 0",
                                          quote(name), value));
        }
    }
    return values;
}

/// Means [counts.size(), cols] of sums; rows that were never called get the mean of the others.
std::vector<float> means(const std::vector<float>& sums, const std::vector<float>& counts) {
    const size_t cols = sums.size() / counts.size();
    std::vector<float> out(sums.size(), 0.0f);
    std::vector<double> mean(cols, 0.0);
    size_t called = 0;
    for (size_t r = 0; r < counts.size(); ++r) {
        if (!(counts[r] > 0)) continue;
        ++called;
        for (size_t c = 0; c < cols; ++c) {
            out[r * cols + c] = sums[r * cols + c] / counts[r];
            mean[c] += out[r * cols + c];
        }
    }
    for (size_t r = 0; r < counts.size() && called > 0; ++r) {
        if (counts[r] > 0) continue;
        for (size_t c = 0; c < cols; ++c)
            out[r * cols + c] = static_cast<float>(mean[c] / static_cast<double>(called));
    }
    return out;
}

ImportanceMatrix read_gguf(const std::filesystem::path& path) {
    const GgufFile file(path);
    if (!file.has("general.type") || file.string("general.type") != "imatrix")
        throw Error(file.name(), "is no importance matrix: general.type is not \"imatrix\"");
    ImportanceMatrix out;
    if (file.has("imatrix.chunk_count")) out.chunks = file.integer("imatrix.chunk_count");
    for (const auto& [name, view] : file.tensors()) {
        if (!name.ends_with(kSums)) continue;
        const std::string base = name.substr(0, name.size() - kSums.size());
        const auto counts = file.tensors().find(base + std::string(kCounts));
        if (counts == file.tensors().end()) {
            throw Error(file.name(), fmt::format("has no tensor {} beside {}",
                                                 quote(base + std::string(kCounts)), quote(name)));
        }
        const std::vector<float> sums = floats(view, file.name(), name);
        const std::vector<float> calls = floats(counts->second, file.name(), counts->first);
        if (calls.empty() || sums.size() % calls.size() != 0) {
            throw Error(file.name(), fmt::format("tensor {} has {} counts, which do not divide its "
                                                 "{} values",
                                                 quote(base), calls.size(), sums.size()));
        }
        out.values.emplace(base, means(sums, calls));
    }
    if (out.values.empty()) throw Error(file.name(), "has no tensors NAME.in_sum2");
    return out;
}

/// The bytes of the older format: int32 entries; for each: int32 length of the name, name, int32
/// calls, int32 values, values as f32 (sums of means over the calls, llama.cpp tools/imatrix). Then
/// perhaps int32 chunks and the name of the text.
class DatReader {
  public:
    DatReader(std::string_view bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {}

    ImportanceMatrix read() {
        ImportanceMatrix out;
        const int32_t entries = length(1, 1 << 20, "number of entries");
        for (int32_t i = 0; i < entries; ++i) {
            const auto size = static_cast<size_t>(length(1, 1 << 12, "length of a name"));
            const std::string name(take(size));
            const int32_t calls = length(0, INT32_MAX, "number of calls");
            const auto n = static_cast<size_t>(length(1, 1 << 28, "number of values"));
            const std::string_view stored = take(n * sizeof(float));
            std::vector<float> values(n);
            std::memcpy(values.data(), stored.data(), stored.size());
            for (float& value : values) {
                if (calls > 0) value /= static_cast<float>(calls);
                if (!std::isfinite(value) || value < 0) fail("a value of " + quote(name));
            }
            out.values.insert_or_assign(name, std::move(values));
        }
        if (!bytes_.empty()) out.chunks = length(0, INT32_MAX, "number of chunks");
        return out;
    }

  private:
    [[noreturn]] void fail(const std::string& what) const {
        throw Error(name_, "is no importance matrix, or damaged: " + what);
    }
    std::string_view take(size_t n) {
        if (n > bytes_.size()) fail("it ends too early");
        const std::string_view taken = bytes_.substr(0, n);
        bytes_.remove_prefix(n);
        return taken;
    }
    int32_t length(int32_t low, int32_t high, const char* what) {
        int32_t value = 0;
        std::memcpy(&value, take(sizeof(value)).data(), sizeof(value));
        if (value < low || value > high) fail(fmt::format("{} {}", what, value));
        return value;
    }

    std::string_view bytes_;
    std::string name_;
};

}  // namespace

ImportanceMatrix read_importance(const std::filesystem::path& path) {
    const std::string bytes = read_file(path, size_t{1} << 32);
    if (bytes.starts_with("GGUF")) return read_gguf(path);
    return DatReader(bytes, path.string()).read();
}

std::optional<StackedPart> stacked_part(std::string_view tensor) {
    constexpr std::string_view kEnd = ".weight";
    if (!tensor.starts_with("blk.") || !tensor.ends_with(kEnd)) return std::nullopt;
    tensor.remove_suffix(kEnd.size());
    const size_t dot = tensor.rfind('.');
    const std::string_view digits = tensor.substr(dot + 1), part = tensor.substr(0, dot);
    StackedPart out;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), out.matrix);
    if (error != std::errc() || end != digits.data() + digits.size() || out.matrix < 0)
        return std::nullopt;
    if (!part.ends_with(".ffn_gate") && !part.ends_with(".ffn_up") && !part.ends_with(".ffn_down"))
        return std::nullopt;
    out.tensor = std::string(part) + "_exps" + std::string(kEnd);
    return out;
}

}  // namespace muster
