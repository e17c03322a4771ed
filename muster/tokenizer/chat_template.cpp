// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/chat_template.h"

#include <nlohmann/json.hpp>

#include "muster/checkpoint/weight_map.h"
#include "muster/core/error.h"
#include "muster/tokenizer/jinja_interpreter.h"
#include "muster/tokenizer/jinja_parser.h"
#include "muster/tokenizer/utf8.h"

namespace muster {
namespace {

constexpr size_t kMaxTemplate = size_t{1} << 20;  // bytes; the longest known have 20 thousand
constexpr const char* kWhere = "chat template";

void define(jinja::Interpreter& interpreter, std::string_view name,
            const nlohmann::ordered_json& value) {
    try {
        interpreter.define(name, jinja::from_json(interpreter.heap(), value));
    } catch (const jinja::Fault& fault) {
        throw Error(kWhere, "variable `" + std::string(name) + "`: " + fault.what());
    }
}

}  // namespace

struct ChatTemplate::Impl {
    std::string text, bos, eos;
    jinja::Block block;
};

ChatTemplate::ChatTemplate(std::string_view text, const std::string& bos, const std::string& eos) {
    if (text.size() > kMaxTemplate)
        throw Error(kWhere, "has " + std::to_string(text.size()) + " bytes, expected at most " +
                                std::to_string(kMaxTemplate));
    auto impl = std::make_unique<Impl>();
    impl->text = to_valid_utf8(text);
    impl->bos = to_valid_utf8(bos);
    impl->eos = to_valid_utf8(eos);
    impl->block = jinja::Parser::parse(impl->text);
    impl_ = std::move(impl);
}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

const std::string& ChatTemplate::text() const noexcept { return impl_->text; }

std::string ChatTemplate::render(const nlohmann::ordered_json& messages,
                                 const ChatTemplateOptions& options) const {
    if (!messages.is_array()) throw Error(kWhere, "the messages are not a list");
    try {
        const jinja::Limits limits{options.limits.steps, options.limits.output,
                                   options.limits.depth};
        jinja::Interpreter interpreter(limits, options.now ? *options.now : std::time(nullptr));
        define(interpreter, "bos_token", impl_->bos);
        define(interpreter, "eos_token", impl_->eos);
        define(interpreter, "messages", messages);
        define(interpreter, "add_generation_prompt", options.add_generation_prompt);
        define(interpreter, "tools", options.tools != nullptr ? *options.tools : nullptr);
        define(interpreter, "documents", nullptr);
        if (options.variables != nullptr) {
            if (!options.variables->is_object())
                throw Error(kWhere, "the further variables are not an object");
            for (const auto& [name, value] : options.variables->items())
                define(interpreter, name, value);
        }
        return interpreter.render(impl_->block);
    } catch (const jinja::Fault& fault) {  // before there is a line: too few steps to begin
        throw Error(kWhere, fault.what());
    }
}

ChatTemplateTexts chat_templates_of(const WeightMap& checkpoint) {
    constexpr std::string_view kKey = "tokenizer.chat_template";
    ChatTemplateTexts texts;
    if (checkpoint.has(kKey)) texts["default"] = checkpoint.string(kKey);
    const std::string prefix = std::string(kKey) + ".";
    for (auto at = checkpoint.metadata().lower_bound(prefix);
         at != checkpoint.metadata().end() && at->first.starts_with(prefix); ++at) {
        texts[at->first.substr(prefix.size())] = checkpoint.string(at->first);
    }
    return texts;
}

}  // namespace muster
