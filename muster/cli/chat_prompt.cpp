// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/chat_prompt.h"

#include <nlohmann/json.hpp>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"

namespace muster::cli {
namespace {

constexpr size_t kMostTemplateBytes = size_t{1} << 20;

std::string piece(const Model& model, int32_t id) {
    return id >= 0 ? model.tokenizer().vocabulary().pieces[static_cast<size_t>(id)] : "";
}

/// The template to use; empty: there is none.
std::string template_text(const Model& model, const std::filesystem::path& file) {
    if (!file.empty()) return read_file(file, kMostTemplateBytes);
    const ChatTemplateTexts texts = chat_templates_of(model.file());
    const auto found = texts.find("default");
    return found == texts.end() ? "" : found->second;
}

}  // namespace

ChatPrompt::ChatPrompt(const Model& model, const std::filesystem::path& file) : model_(model) {
    const std::string text = template_text(model, file);
    const Vocabulary& v = model.tokenizer().vocabulary();
    if (!text.empty()) template_.emplace(text, piece(model, v.bos), piece(model, v.eos));
}

std::string ChatPrompt::text(const std::vector<ChatMessage>& messages) const {
    if (template_) {
        auto list = nlohmann::ordered_json::array();
        for (const ChatMessage& m : messages)
            list.push_back({{"role", m.role}, {"content", m.content}});
        return template_->render(list);
    }
    std::string out;
    for (const ChatMessage& m : messages) {
        if (m.role == "system") {
            out += m.content + "\n\n";
        } else {
            out += (m.role == "user" ? "User: " : "Assistant: ") + m.content + "\n";
        }
    }
    return out + "Assistant:";
}

std::vector<int32_t> ChatPrompt::tokens(const std::vector<ChatMessage>& messages) const {
    const std::string prompt = text(messages);
    const Vocabulary& v = model_.tokenizer().vocabulary();
    EncodeOptions options;
    options.parse_special = template_.has_value();
    const std::string begin = piece(model_, v.bos);
    options.add_special = !template_ || begin.empty() || !prompt.starts_with(begin);
    return model_.tokenizer().encode(prompt, options);
}

std::vector<std::string> ChatPrompt::stop_strings() const {
    if (template_) return {};
    return {"\nUser:", "\nAssistant:"};
}

}  // namespace muster::cli
