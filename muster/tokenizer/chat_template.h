// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <ctime>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace muster {

class WeightMap;

/// What one rendering may cost; untrusted templates cannot take more.
struct ChatTemplateLimits {
    /// Evaluations, elements of lists, 16 bytes of a string that is made or read: some 100 ns each.
    int64_t steps = 16'000'000;
    size_t output = size_t{64} << 20;  ///< bytes
    int depth = 400;                   ///< nested evaluations: blocks, expressions, macros
};

/// What a conversation is rendered with, beside its messages.
struct ChatTemplateOptions {
    bool add_generation_prompt = true;
    /// JSON array of tools in the form of the `tools` of OpenAI's API; null: none.
    const nlohmann::ordered_json* tools = nullptr;
    /// JSON object of further variables, e.g. {"enable_thinking": false}; null: none.
    const nlohmann::ordered_json* variables = nullptr;
    std::optional<std::time_t> now;  ///< for strftime_now, in local time; none: the clock's
    ChatTemplateLimits limits;
};

/// How a model wants a conversation written: a Jinja template as Hugging Face's transformers
/// renders it (Jinja2 3.1 with trim_blocks and lstrip_blocks, loop controls, `generation` blocks,
/// raise_exception, strftime_now, their tojson). Differences to Jinja2: whole numbers have 64 bits;
/// no templates are included or inherited; `safe` and `escape` give plain strings; lists and
/// dictionaries may be changed by their methods. Text that is no UTF-8 gets U+FFFD.
/// Templates are untrusted: size, nesting, steps (and by them time and memory) and output are
/// bounded. Immutable, safe to use from several threads.
class ChatTemplate {
  public:
    /// `bos` and `eos` are the texts of these tokens, which templates write themselves. Throws
    /// Error naming the line.
    ChatTemplate(std::string_view text, const std::string& bos, const std::string& eos);
    ~ChatTemplate();
    ChatTemplate(ChatTemplate&&) noexcept;
    ChatTemplate& operator=(ChatTemplate&&) noexcept;

    /// `messages`: JSON array of objects with `role`, `content` and whatever the template reads.
    /// Throws Error naming the template's line: a fault, a limit, or its own refusal.
    std::string render(const nlohmann::ordered_json& messages,
                       const ChatTemplateOptions& options = {}) const;

    const std::string& text() const noexcept;

  private:
    struct Impl;
    std::unique_ptr<const Impl> impl_;
};

/// The templates that come with a model, by name; the one that is meant for chats is `default`.
using ChatTemplateTexts = std::map<std::string, std::string, std::less<>>;

/// tokenizer.chat_template and tokenizer.chat_template.NAME of a checkpoint; empty without. Throws
/// Error when a key is no string.
ChatTemplateTexts chat_templates_of(const WeightMap& checkpoint);

}  // namespace muster
