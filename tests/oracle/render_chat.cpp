// SPDX-License-Identifier: Apache-2.0
// render_chat: one JSON object a line from standard input, one answer a line to standard output.
// {"template", "messages", "add_generation_prompt", "tools", "variables", "bos", "eos", "now"}
// gives {"text"} or {"error"}; chat_oracle.py compares them with Jinja2's.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "muster/core/error.h"
#include "muster/tokenizer/chat_template.h"

namespace {

using nlohmann::ordered_json;

std::string render(const ordered_json& job) {
    const muster::ChatTemplate chat(job.at("template").get<std::string>(),
                                    job.value("bos", std::string()),
                                    job.value("eos", std::string()));
    muster::ChatTemplateOptions options;
    options.add_generation_prompt = job.value("add_generation_prompt", false);
    if (job.contains("tools") && !job["tools"].is_null()) options.tools = &job["tools"];
    if (job.contains("variables")) options.variables = &job["variables"];
    if (job.contains("now")) options.now = job["now"].get<std::time_t>();
    return chat.render(job.value("messages", ordered_json::array()), options);
}

}  // namespace

int main() {
    std::string line;
    while (std::getline(std::cin, line)) {
        ordered_json answer;
        try {
            answer["text"] = render(ordered_json::parse(line));
        } catch (const muster::Error& error) {
            answer["error"] = error.what();
        }
        std::cout << answer.dump() << '\n';
    }
    return 0;
}
