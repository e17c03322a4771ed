// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "muster/model/model.h"
#include "muster/tokenizer/chat_template.h"

namespace muster::cli {

struct ChatMessage {
    std::string role;  ///< system, user, assistant
    std::string content;
};

/// How a conversation becomes a prompt: by the model's chat template, a given one, or, for models
/// without, as plain text "User: … Assistant:".
class ChatPrompt {
  public:
    /// `file`: a Jinja template to use instead of the model's; may be empty. Throws Error. The
    /// model outlives it.
    ChatPrompt(const Model& model, const std::filesystem::path& file);

    /// Whether there is no template.
    bool plain() const noexcept { return !template_; }
    /// The text before the next answer. Throws Error, also when the template refuses.
    std::string text(const std::vector<ChatMessage>& messages) const;
    /// Its tokens, control tokens that stand in the text included, the begin token once.
    std::vector<int32_t> tokens(const std::vector<ChatMessage>& messages) const;
    /// What ends an answer beside end tokens: for plain text, the next turn.
    std::vector<std::string> stop_strings() const;

  private:
    const Model& model_;
    std::optional<ChatTemplate> template_;
};

}  // namespace muster::cli
