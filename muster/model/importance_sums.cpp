// SPDX-License-Identifier: Apache-2.0
#include "muster/model/importance_sums.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/tensor_checks.h"
#include "muster/core/error.h"

namespace muster {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";
constexpr std::string_view kLent = "muster.imatrix.lent";

std::string lent_name(std::string_view tensor, int64_t matrix) {
    return fmt::format("{}/{}", tensor, matrix);
}

void add_floats(GgufWriter& writer, const std::string& name, std::vector<int64_t> shape,
                const std::vector<double>& values) {
    std::vector<std::byte> bytes(values.size() * sizeof(float));
    for (size_t i = 0; i < values.size(); ++i) {
        const auto value = static_cast<float>(values[i]);
        std::memcpy(bytes.data() + i * sizeof(float), &value, sizeof(float));
    }
    writer.add_tensor(name, DType::f32, std::move(shape), std::move(bytes));
}

std::vector<double> read_floats(const TensorView& view, std::string_view file,
                                std::string_view name) {
    if (view.dtype != DType::f32)
        throw Error(file, fmt::format("tensor {} is {}, expected f32", quote(name),
                                      dtype_info(view.dtype).name));
    std::vector<double> out(static_cast<size_t>(view.elements()));
    for (size_t i = 0; i < out.size(); ++i) {
        float value = 0;
        std::memcpy(&value, view.data + i * sizeof(float), sizeof(float));
        if (!std::isfinite(value) || value < 0)
            throw Error(file, fmt::format("tensor {} holds {}, expected finite numbers of at "
                                          "least 0",
                                          quote(name), value));
        out[i] = value;
    }
    return out;
}

/// Matrix m of `from` is moved to what was lent.
void move_to_lent(ImportanceSums::Entry& e, int64_t m) {
    e.make_lent();
    const auto first = m * e.cols;
    std::swap_ranges(e.sums.begin() + first, e.sums.begin() + first + e.cols,
                     e.lent_sums.begin() + first);
    std::swap(e.counts[static_cast<size_t>(m)], e.lent_counts[static_cast<size_t>(m)]);
}

void add_values(std::vector<double>& to, const std::vector<double>& from) {
    for (size_t i = 0; i < from.size(); ++i) to[i] += from[i];
}

}  // namespace

void ImportanceSums::Entry::resize(int64_t matrices, int64_t columns) {
    cols = columns;
    sums.assign(static_cast<size_t>(matrices * columns), 0);
    counts.assign(static_cast<size_t>(matrices), 0);
}

void ImportanceSums::Entry::make_lent() {
    lent_sums.resize(sums.size());
    lent_counts.resize(counts.size());
}

void ImportanceSums::Entry::split(int64_t matrices) {
    cols /= matrices;
    counts.assign(static_cast<size_t>(matrices), counts[0]);
    if (!lent_counts.empty()) lent_counts.assign(counts.size(), lent_counts[0]);
}

void ImportanceSums::add(const ImportanceSums& other, std::string_view where) {
    for (const auto& [name, entry] : other.tensors) {
        const auto [at, fresh] = tensors.try_emplace(name, entry);
        if (fresh) continue;
        Entry& to = at->second;
        Entry from = entry;
        if (to.sums.size() == from.sums.size() && to.matrices() != from.matrices()) {
            if (to.matrices() == 1) to.split(from.matrices());
            if (from.matrices() == 1) from.split(to.matrices());
        }
        if (to.cols != from.cols || to.counts.size() != from.counts.size())
            throw Error(where, fmt::format("tensor {} has {} x {} values, expected {} x {}: it is "
                                           "of another model",
                                           quote(name), from.counts.size(), from.cols,
                                           to.counts.size(), to.cols));
        add_values(to.sums, from.sums);
        add_values(to.counts, from.counts);
        if (from.lent_counts.empty()) continue;
        to.make_lent();
        add_values(to.lent_sums, from.lent_sums);
        add_values(to.lent_counts, from.lent_counts);
    }
    for (const std::string& name : other.datasets)
        if (std::find(datasets.begin(), datasets.end(), name) == datasets.end())
            datasets.push_back(name);
    chunks += other.chunks;
    if (chunk_tokens == 0) chunk_tokens = other.chunk_tokens;
}

void write_importance(const std::filesystem::path& path, const ImportanceSums& all) {
    GgufWriter writer;
    writer.set_string("general.type", "imatrix");
    writer.set_strings("imatrix.datasets", all.datasets);
    writer.set_u32("imatrix.chunk_count", static_cast<uint32_t>(all.chunks));
    writer.set_u32("imatrix.chunk_size", static_cast<uint32_t>(all.chunk_tokens));
    std::vector<std::string> lent;
    for (const auto& [name, entry] : all.tensors) {
        const auto none = [](const std::vector<double>& counts) {
            return std::all_of(counts.begin(), counts.end(), [](double n) { return n == 0; });
        };
        if (none(entry.counts) && none(entry.lent_counts)) continue;
        std::vector<double> sums = entry.sums, counts = entry.counts;
        for (int64_t m = 0; m < entry.matrices() && !entry.lent_counts.empty(); ++m) {
            const auto i = static_cast<size_t>(m);
            if (counts[i] > 0 || entry.lent_counts[i] == 0) continue;
            counts[i] = entry.lent_counts[i];
            std::copy_n(entry.lent_sums.begin() + m * entry.cols, entry.cols,
                        sums.begin() + m * entry.cols);
            lent.push_back(lent_name(name, m));
        }
        add_floats(writer, name + std::string(kSums), {entry.matrices(), entry.cols}, sums);
        add_floats(writer, name + std::string(kCounts), {entry.matrices(), 1}, counts);
    }
    if (!lent.empty()) writer.set_strings(std::string(kLent), lent);
    writer.write(path);
}

ImportanceSums read_importance_sums(const std::filesystem::path& path) {
    const GgufFile file(path);
    if (!file.has("general.type") || file.string("general.type") != "imatrix")
        throw Error(file.name(), "is no importance matrix: general.type is not \"imatrix\"");
    ImportanceSums out;
    if (file.has("imatrix.datasets")) out.datasets = file.strings("imatrix.datasets");
    if (file.has("imatrix.chunk_count")) out.chunks = file.integer("imatrix.chunk_count");
    if (file.has("imatrix.chunk_size")) out.chunk_tokens = file.integer("imatrix.chunk_size");
    std::set<std::string> lent;
    if (file.has(kLent)) {
        const auto& names = file.strings(kLent);
        lent.insert(names.begin(), names.end());
    }
    for (const auto& [name, view] : file.tensors()) {
        if (!name.ends_with(kSums)) continue;
        const std::string base = name.substr(0, name.size() - kSums.size());
        const auto counts = file.tensors().find(base + std::string(kCounts));
        if (counts == file.tensors().end())
            throw Error(file.name(), fmt::format("has no tensor {} beside {}",
                                                 quote(base + std::string(kCounts)), quote(name)));
        ImportanceSums::Entry entry;
        entry.sums = read_floats(view, file.name(), name);
        entry.counts = read_floats(counts->second, file.name(), counts->first);
        if (entry.counts.empty() || entry.sums.size() % entry.counts.size() != 0)
            throw Error(file.name(),
                        fmt::format("tensor {} has {} counts, which do not divide its {} values",
                                    quote(base), entry.counts.size(), entry.sums.size()));
        entry.cols = static_cast<int64_t>(entry.sums.size() / entry.counts.size());
        for (int64_t m = 0; m < entry.matrices(); ++m)
            if (lent.contains(lent_name(base, m))) move_to_lent(entry, m);
        out.tensors.emplace(base, std::move(entry));
    }
    if (out.tensors.empty()) throw Error(file.name(), "has no tensors NAME.in_sum2");
    return out;
}

}  // namespace muster
