// SPDX-License-Identifier: Apache-2.0
#include "muster/model/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/tensor_checks.h"
#include "muster/checkpoint/validate.h"
#include "muster/core/error.h"
#include "muster/model/convert.h"
#include "muster/quant/convert.h"
#include "muster/quant/quantize.h"

namespace muster {
namespace {

constexpr int64_t kChunkValues = int64_t{1} << 22;  // of rows that are in memory at once
constexpr int64_t kTaskValues = int64_t{1} << 16;
constexpr uint32_t kQuantizationVersion = 2;  // ggml.h: GGML_QNT_VERSION

bool in_blocks(DType dtype) { return dtype_info(dtype).block_elements > 1; }

/// Makes one tensor's bytes, chunk by chunk.
class TensorQuantizer {
  public:
    TensorQuantizer(const WeightMap& model, std::span<const float> importance,
                    QuantizedTensor& result, Executor& executor)
        : model_(model),
          view_(model.tensors().find(result.type.name)->second),
          importance_(importance),
          result_(result),
          executor_(executor) {}

    void run(const GgufWriter::Sink& sink) {
        const int64_t cols = view_.shape.back();
        const int64_t rows = view_.elements() / cols;
        const int64_t chunk = std::max<int64_t>(1, kChunkValues / cols);
        std::vector<std::byte> stored;
        for (int64_t first = 0; first < rows; first += chunk) {
            const int64_t count = std::min(chunk, rows - first);
            stored.resize(static_cast<size_t>(dtype_bytes(result_.type.to, count * cols)));
            run_rows(first, count, stored.data());
            sink(stored);
        }
    }

  private:
    struct Errors {
        double squared_error = 0, squared_values = 0;
    };

    void run_rows(int64_t first, int64_t count, std::byte* stored) {
        const int64_t cols = view_.shape.back();
        const int64_t task_rows = std::max<int64_t>(1, kTaskValues / cols);
        const auto tasks = static_cast<int>((count + task_rows - 1) / task_rows);
        std::vector<Errors> errors(static_cast<size_t>(tasks));
        executor_.run(tasks, [&](int task, int) {
            const int64_t start = task * task_rows;
            const int64_t n = std::min(task_rows, count - start);
            std::byte* out = stored + dtype_bytes(result_.type.to, start * cols);
            errors[static_cast<size_t>(task)] = convert(first + start, n, out);
        });
        for (const Errors& e : errors) {  // in a fixed order
            result_.squared_error += e.squared_error;
            result_.squared_values += e.squared_values;
        }
    }

    /// Rows of one task, which may lie in several experts.
    Errors convert(int64_t first, int64_t count, std::byte* out) const {
        const int64_t cols = view_.shape.back(), n = count * cols;
        std::vector<float> values(static_cast<size_t>(n)), decoded(values.size());
        std::vector<std::byte> buffer;
        decode_row(view_.dtype, model_.rows(result_.type.name, first, count, buffer), values.data(),
                   n);
        const int64_t matrix_rows = rows_per_importance();
        for (int64_t r = 0; r < count;) {
            const int64_t matrix = (first + r) / matrix_rows;
            const int64_t same = std::min(count - r, (matrix + 1) * matrix_rows - (first + r));
            quantize_rows(result_.type.to, values.data() + r * cols, same, cols,
                          importance_of(matrix), out + dtype_bytes(result_.type.to, r * cols));
            r += same;
        }
        decode_row(result_.type.to, out, decoded.data(), n);
        Errors errors;
        const double least = -largest_value(result_.type.to, true);
        const double most = largest_value(result_.type.to, false);
        bool fit = true;
        for (size_t i = 0; i < values.size(); ++i) {
            const double d = double{values[i]} - decoded[i];
            fit = fit && std::isfinite(decoded[i]) && values[i] >= least && values[i] <= most;
            errors.squared_error += d * d;
            errors.squared_values += double{values[i]} * values[i];
        }
        if (!fit) refuse_unfit(model_.name(), result_.type.name, result_.type.to, values);
        return errors;
    }

    int64_t rows_per_importance() const {
        const int64_t rows = view_.elements() / view_.shape.back();
        if (importance_.empty()) return rows;
        return rows / (static_cast<int64_t>(importance_.size()) / view_.shape.back());
    }
    std::span<const float> importance_of(int64_t matrix) const {
        if (importance_.empty()) return {};
        const auto cols = static_cast<size_t>(view_.shape.back());
        return importance_.subspan(static_cast<size_t>(matrix) * cols, cols);
    }

    const WeightMap& model_;
    const TensorView& view_;
    std::span<const float> importance_;
    QuantizedTensor& result_;
    Executor& executor_;
};

/// The importance of a tensor: one row, or one per expert; empty where the text has none.
std::span<const float> find_importance(const QuantizeSettings& settings, const std::string& name,
                                       const TensorView& view) {
    if (settings.importance == nullptr) return {};
    const auto& values = settings.importance->values;
    const auto part = stacked_part(name);
    auto found = values.find(name);
    const bool stacked = found == values.end() && part.has_value();
    if (stacked) found = values.find(part->tensor);
    if (found == values.end()) return {};
    const std::span<const float> all = found->second;
    const int64_t cols = view.shape.back();
    const auto size = static_cast<int64_t>(all.size());
    if (stacked && size % cols == 0 && part->matrix < size / cols)
        return all.subspan(static_cast<size_t>(part->matrix * cols), static_cast<size_t>(cols));
    const int64_t experts = view.shape.size() > 2 ? view.shape[view.shape.size() - 3] : 1;
    if (stacked || (size != cols && size != cols * experts)) {
        throw Error("quantize", fmt::format("the importance of {} has {} values, expected {} or {}",
                                            name, size, cols, cols * experts));
    }
    return all;
}

bool finite(const WeightMap& model, const std::string& name, const TensorView& view) {
    const int64_t cols = view.shape.back(), rows = view.elements() / cols;
    const int64_t chunk = std::max<int64_t>(1, kChunkValues / cols);
    std::vector<std::byte> buffer;
    for (int64_t first = 0; first < rows; first += chunk) {
        const int64_t count = std::min(chunk, rows - first);
        if (has_non_finite({view.dtype, {count, cols}, model.rows(name, first, count, buffer)}))
            return false;
    }
    return true;
}

void check_source(const WeightMap& model, const TensorType& type, const TensorView& view,
                  const QuantizeSettings& settings) {
    if (in_blocks(type.from) && type.from != type.to && !settings.allow_requantize) {
        throw Error(model.name(),
                    fmt::format("tensor {} is {} already, which loses more than from f16; expected "
                                "f32, f16 or bf16 (or --allow-requantize)",
                                type.name, dtype_info(type.from).name));
    }
    if (!finite(model, type.name, view)) {
        throw Error(model.name(), fmt::format("tensor {} holds NaN or infinity, expected finite "
                                              "weights",
                                              quote(type.name)));
    }
}

void copy_metadata(const WeightMap& model, const QuantizeSettings& settings, GgufWriter& writer) {
    writer.copy(model, "general.architecture");
    for (const auto& [key, value] : model.metadata())
        if (key != "general.alignment") writer.copy(model, key);
    writer.set_u32("general.quantization_version", kQuantizationVersion);
    writer.set_u32("general.file_type", settings.target.file_type);
    if (settings.importance == nullptr) return;
    writer.set_string("quantize.imatrix.file", settings.importance_name);
    writer.set_i32("quantize.imatrix.entries_count",
                   static_cast<int32_t>(settings.importance->values.size()));
    if (settings.importance->chunks > 0)
        writer.set_i32("quantize.imatrix.chunks_count",
                       static_cast<int32_t>(settings.importance->chunks));
}

double ratio(double error, double values) { return values > 0 ? std::sqrt(error / values) : 0; }

void add_up(QuantizeReport& report) {
    double error = 0, values = 0;
    for (const QuantizedTensor& t : report.tensors) {
        report.bytes_before += t.bytes_before;
        report.bytes_after += t.bytes_after;
        error += t.squared_error;
        values += t.squared_values;
    }
    report.relative_error = ratio(error, values);
}

}  // namespace

double QuantizedTensor::relative_error() const noexcept {
    return ratio(squared_error, squared_values);
}

QuantizeReport quantize_model(const WeightMap& model, const std::filesystem::path& output,
                              const QuantizeSettings& settings, Executor& executor,
                              const Progress& progress) {
    const std::vector<TensorType> plan =
        plan_tensor_types(model, settings.target, settings.importance != nullptr, settings.pure);
    GgufWriter writer;
    copy_metadata(model, settings, writer);
    QuantizeReport report;
    report.tensors.resize(plan.size());  // never again: the producers refer to them
    for (size_t i = 0; i < plan.size(); ++i) {
        const TensorView& view = model.tensors().find(plan[i].name)->second;
        QuantizedTensor& result = report.tensors[i];
        result.type = plan[i];
        result.shape = view.shape;
        result.bytes_before = view.bytes();
        result.bytes_after = dtype_bytes(plan[i].to, view.elements());
        check_source(model, plan[i], view, settings);
        if (plan[i].from == plan[i].to) {
            writer.add_tensor(plan[i].name, view.dtype, view.shape,
                              [&model, &result](const GgufWriter::Sink& sink) {
                                  give_rows(model, result.type.name, sink);
                              });
            continue;
        }
        const std::span<const float> importance = find_importance(settings, plan[i].name, view);
        result.weighted = !importance.empty() && in_blocks(plan[i].to);
        writer.add_tensor(plan[i].name, plan[i].to, view.shape,
                          [&model, importance, &result, &executor](const GgufWriter::Sink& sink) {
                              TensorQuantizer(model, importance, result, executor).run(sink);
                          });
    }
    writer.write(output, progress);
    add_up(report);
    return report;
}

}  // namespace muster
