// SPDX-License-Identifier: Apache-2.0
#include "muster/model/convert.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>

#include "muster/checkpoint/tensor_checks.h"
#include "muster/checkpoint/validate.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/tokenizer/tokenizer.h"

namespace muster {
namespace {

constexpr int64_t kChunkBytes = int64_t{1} << 22;

namespace fs = std::filesystem;

/// Removes a directory that did not become complete.
class Unfinished {
  public:
    explicit Unfinished(fs::path path) : path_(std::move(path)) {}
    ~Unfinished() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    Unfinished(const Unfinished&) = delete;
    Unfinished& operator=(const Unfinished&) = delete;

  private:
    fs::path path_;
};

std::string tokenizer_config(const WeightMap& model, const Vocabulary& v) {
    const std::string& architecture = model.string("general.architecture");
    nlohmann::ordered_json j{{"tokenizer_class", "PreTrainedTokenizerFast"},
                             {"model_max_length", model.integer(architecture + ".context_length")},
                             {"add_bos_token", v.add_bos},
                             {"add_eos_token", v.add_eos},
                             {"clean_up_tokenization_spaces", false}};
    const auto name = [&](const char* key, int32_t id) {
        if (id >= 0) j[key] = v.pieces[static_cast<size_t>(id)];
    };
    name("bos_token", v.bos);
    name("eos_token", v.eos);
    name("unk_token", v.unk);
    name("pad_token", v.pad);
    return j.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

/// Of whole rows.
void check_finite(const WeightMap& model, const std::string& name, const TensorView& tensor,
                  std::span<const std::byte> bytes) {
    const int64_t cols = tensor.shape.back();
    const int64_t rows = static_cast<int64_t>(bytes.size()) / dtype_bytes(tensor.dtype, cols);
    if (has_non_finite({tensor.dtype, {rows, cols}, bytes.data()}))
        throw Error(model.name(),
                    "tensor " + quote(name) + " holds NaN or infinity, expected finite weights");
}

/// An error under a temporary name, under the name that was asked for.
Error renamed(const Error& error, const std::string& temporary, const std::string& name) {
    std::string text = error.what();
    for (size_t at = 0; (at = text.find(temporary, at)) != std::string::npos; at += name.size())
        text.replace(at, temporary.size(), name);
    const size_t end = text.find("] ");
    return {text.substr(1, end - 1), text.substr(end + 2)};
}

}  // namespace

void give_rows(const WeightMap& model, const std::string& name, const GgufWriter::Sink& sink) {
    const auto found = model.tensors().find(name);
    if (found == model.tensors().end()) throw Error(model.name(), "has no tensor " + name);
    const TensorView& tensor = found->second;
    const int64_t row_bytes = dtype_bytes(tensor.dtype, tensor.shape.back());
    const int64_t rows = tensor.bytes() / row_bytes;
    const int64_t step = std::max<int64_t>(1, kChunkBytes / row_bytes);
    std::vector<std::byte> buffer;
    for (int64_t first = 0; first < rows; first += step) {
        const int64_t count = std::min(step, rows - first);
        const std::byte* data = model.rows(name, first, count, buffer);
        const auto bytes = static_cast<size_t>(count * row_bytes);
        sink({data, bytes});
        model.drop_pages(data, bytes);
    }
}

std::vector<std::filesystem::path> convert_to_gguf(const WeightMap& model,
                                                   const std::filesystem::path& path,
                                                   uint64_t max_shard_bytes,
                                                   const Progress& progress) {
    GgufWriter writer;
    writer.copy(model, "general.architecture");
    for (const auto& [key, value] : model.metadata())
        if (key != "general.alignment") writer.copy(model, key);
    for (const auto& [name, tensor] : model.tensors()) {
        writer.add_tensor(name, tensor.dtype, tensor.shape,
                          [&model, &name, &tensor](const GgufWriter::Sink& sink) {
                              give_rows(model, name, [&](std::span<const std::byte> bytes) {
                                  check_finite(model, name, tensor, bytes);
                                  sink(bytes);
                              });
                          });
    }
    if (max_shard_bytes > 0) return writer.write_split(path, max_shard_bytes, progress);
    writer.write(path, progress);
    return {path};
}

void convert_to_hf(const WeightMap& model, const fs::path& directory, const HfWriteOptions& options,
                   const Progress& progress) {
    std::error_code error;
    if (fs::exists(directory, error) &&
        !(fs::is_directory(directory, error) && fs::is_empty(directory, error)))
        throw Error(directory.string(), "is there already, expected a new or empty directory");
    const Vocabulary vocabulary = Tokenizer::from_gguf(model).vocabulary();
    const std::string tokenizer = to_tokenizer_json(vocabulary);
    fs::path whole = fs::absolute(directory);
    if (!whole.has_filename()) whole = whole.parent_path();
    const fs::path temporary = whole.string() + ".tmp" + std::to_string(::getpid());
    if (!fs::create_directories(temporary, error) || error)
        throw Error(directory.string(),
                    "cannot be created: " +
                        (error ? error : std::make_error_code(std::errc::file_exists)).message());
    const Unfinished unfinished(temporary);
    try {
        write_hf(model, temporary, options, progress);
        write_file(temporary / "tokenizer.json", tokenizer);
        write_file(temporary / "tokenizer_config.json", tokenizer_config(model, vocabulary));
        if (model.has("tokenizer.chat_template"))
            write_file(temporary / "chat_template.jinja", model.string("tokenizer.chat_template"));
    } catch (const Error& e) {
        throw renamed(e, temporary.string(), directory.string());
    }
    fs::rename(temporary, whole, error);
    if (error) throw Error(directory.string(), "cannot be put in place: " + error.message());
    sync_directory(whole.parent_path());
}

}  // namespace muster
