// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/tokenize.h"

#include <fmt/format.h>

#include <ostream>

#include "muster/cli/json_text.h"
#include "muster/cli/text.h"
#include "muster/tokenizer/utf8.h"

namespace muster::cli {
namespace {

/// A token's bytes as something to look at: control characters and stray bytes escaped.
std::string shown(std::string_view bytes) {
    std::string out = "\"";
    while (!bytes.empty()) {
        const Utf8Step step = next_utf8(bytes);
        const std::string_view part = bytes.substr(0, step.bytes);
        if (part == "\n") {
            out += "\\n";
        } else if (part == "\t") {
            out += "\\t";
        } else if (part == "\"" || part == "\\") {
            out += "\\" + std::string(part);
        } else if (!step.valid || step.code_point < 0x20 || step.code_point == 0x7F) {
            for (const char c : part) out += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
        } else {
            out += part;
        }
        bytes.remove_prefix(step.bytes);
    }
    return out + "\"";
}

std::string piece_of(const Tokenizer& tokenizer, int32_t id) {
    const Vocabulary& vocabulary = tokenizer.vocabulary();
    const TokenType type = vocabulary.types[static_cast<size_t>(id)];
    if (type == TokenType::control || type == TokenType::unknown)
        return vocabulary.pieces[static_cast<size_t>(id)];
    return shown(tokenizer.token_bytes(id));
}

}  // namespace

int tokenize_command(const TokenizeOptions& options, Terminal& terminal) {
    ModelOptions load = options.model;
    load.no_check = true;  // the weights are not used
    const Model model = load_model(load, terminal);
    const Tokenizer& tokenizer = model.tokenizer();
    const std::string text = read_text(options.text, terminal);
    const std::vector<int32_t> ids = tokenizer.encode(text, !options.no_bos);

    if (options.json) {
        ordered_json document{{"ids", ids}};
        if (!options.ids) {
            ordered_json pieces = ordered_json::array();
            for (const int32_t id : ids) pieces.push_back(piece_of(tokenizer, id));
            document["pieces"] = pieces;
            document["bytes"] = text.size();
        }
        print_json(document, terminal);
    } else if (options.ids) {
        terminal.out << fmt::format("{}\n", fmt::join(ids, " "));
    } else {
        for (const int32_t id : ids)
            terminal.out << fmt::format("{:>7}  {}\n", id, piece_of(tokenizer, id));
        const auto n = static_cast<int64_t>(ids.size());
        terminal.err << fmt::format("{}, {} bytes, {} bytes per token\n", plural(n, "token"),
                                    text.size(),
                                    significant(n > 0 ? double(text.size()) / double(n) : 0));
    }
    return 0;
}

}  // namespace muster::cli
