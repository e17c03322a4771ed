// SPDX-License-Identifier: Apache-2.0
// The files beside a tokenizer.json, as Hugging Face's transformers reads them.
#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "muster/checkpoint/weight_map.h"
#include "muster/core/error.h"
#include "muster/tokenizer/tokenizer.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr uintmax_t kMaxFile = uintmax_t{512} << 20;
constexpr int64_t kMaxRows = 4'000'000;

std::string read_text_file(const fs::path& path) {
    std::error_code error;
    const uintmax_t size = fs::file_size(path, error);
    if (error || size > kMaxFile) {
        throw Error(path.string(), "the file is missing or larger than 512 MiB");
    }
    std::ifstream in(path, std::ios::binary);
    std::string text(static_cast<size_t>(size), '\0');
    if (!in.read(text.data(), static_cast<std::streamsize>(size)))
        throw Error(path.string(), "the file cannot be read");
    return text;
}

/// An empty object when the file does not exist.
Json read_object(const fs::path& path) {
    if (!fs::exists(path)) return Json::object();
    bool deep = false;
    Json json = Json::parse(
        read_text_file(path),
        [&](int depth, Json::parse_event_t, Json&) {
            deep |= depth > 64;
            return !deep;
        },
        false);
    if (deep || !json.is_object()) {
        throw Error(path.string(), "this is not a JSON object of at most 64 levels");
    }
    return json;
}

/// The id of a token that is given as text or as an object with `content`; `before` without.
int32_t named_token(const Json& object, const char* key, const Vocabulary& v, int32_t before) {
    const auto found = object.find(key);
    if (found == object.end()) return before;
    const Json* text = &*found;
    if (text->is_object() && text->contains("content")) text = &(*text)["content"];
    if (!text->is_string()) return before;
    const auto piece =
        std::find(v.pieces.begin(), v.pieces.end(), text->get_ref<const std::string&>());
    return piece == v.pieces.end() ? before : static_cast<int32_t>(piece - v.pieces.begin());
}

void read_names(const Json& object, Vocabulary& v) {
    v.bos = named_token(object, "bos_token", v, v.bos);
    v.eos = named_token(object, "eos_token", v, v.eos);
    v.unk = named_token(object, "unk_token", v, v.unk);
    v.pad = named_token(object, "pad_token", v, v.pad);
}

void set_template(WeightMap& into, const std::string& name, std::string text) {
    const std::string key =
        name == "default" ? "tokenizer.chat_template" : "tokenizer.chat_template." + name;
    into.erase(key);
    into.set(key, std::move(text));
}

/// A template, or a list of {name, template}.
void read_templates(const Json& object, const fs::path& path, WeightMap& into) {
    const auto found = object.find("chat_template");
    if (found == object.end() || found->is_null()) return;
    if (found->is_string()) return set_template(into, "default", found->get<std::string>());
    const auto refuse = [&] {
        throw Error(path.string(), "chat_template is neither a string nor a list of templates");
    };
    if (!found->is_array()) refuse();
    for (const Json& entry : *found) {
        if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string() ||
            !entry.contains("template") || !entry["template"].is_string()) {
            refuse();
        }
        set_template(into, entry["name"].get<std::string>(), entry["template"].get<std::string>());
    }
}

void fill_up(Vocabulary& v, int64_t rows) {
    for (int64_t id = v.size(); id < rows; ++id) {
        v.pieces.push_back("[PAD" + std::to_string(id) + "]");
        v.types.push_back(TokenType::unused);
        if (v.kind == Vocabulary::Kind::scores) v.scores.push_back(-1e6F);
    }
}

}  // namespace

void read_huggingface_tokenizer(const fs::path& directory, WeightMap& into, int64_t rows) {
    const fs::path main = directory / "tokenizer.json";
    if (!fs::exists(main)) throw Error(main.string(), "the file is missing");
    if (rows < 0 || rows > kMaxRows) {
        throw Error(directory.string(), "the vocabulary has " + std::to_string(rows) +
                                            " rows, expected at most " + std::to_string(kMaxRows));
    }
    Vocabulary v = read_tokenizer_json(read_text_file(main), main.string());
    const fs::path config_path = directory / "tokenizer_config.json";
    const Json config = read_object(config_path);
    read_names(read_object(directory / "special_tokens_map.json"), v);
    read_names(config, v);
    const auto flag = [&](const char* key, bool& value) {
        if (const auto found = config.find(key); found != config.end() && found->is_boolean()) {
            value = found->get<bool>();
        }
    };
    flag("add_bos_token", v.add_bos);
    flag("add_eos_token", v.add_eos);
    if (v.bos < 0) v.add_bos = false;
    fill_up(v, rows);
    store_vocabulary(v, into);

    read_templates(config, config_path, into);
    const fs::path json_path = directory / "chat_template.json";
    read_templates(read_object(json_path), json_path, into);
    if (const fs::path jinja = directory / "chat_template.jinja"; fs::exists(jinja)) {
        set_template(into, "default", read_text_file(jinja));
    }
}

}  // namespace muster
