// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/batch_reader.h"

#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace muster::cli {
namespace {

/// A request that is being read, and where it stands.
struct Reading {
    const std::string& where;
    BatchRequest& out;
    std::optional<std::string> prompt;
    std::vector<ChatMessage> messages;

    [[noreturn]] void fail(const std::string& what, const std::string& expected) const {
        throw Error(where, what + ", expected " + expected);
    }
    std::string text(const char* key, const ordered_json& value) const {
        if (!value.is_string()) fail(std::string(key) + " is no string", "one");
        return value.get<std::string>();
    }
    double number(const char* key, const ordered_json& value) const {
        if (!value.is_number()) fail(std::string(key) + " is no number", "one");
        return value.get<double>();
    }
    template <typename T>
    T whole(const char* key, const ordered_json& value, T low) const {
        const std::string expected = "a whole number of at least " + std::to_string(low);
        const bool sane =
            value.is_number_unsigned() ||
            (value.is_number_integer() && value.get<int64_t>() >= static_cast<int64_t>(low));
        if (!sane) fail(std::string(key) + " holds no valid number", expected);
        const auto n = value.get<uint64_t>();
        if (n > static_cast<uint64_t>(std::numeric_limits<T>::max()) ||
            n < static_cast<uint64_t>(low))
            fail(std::string(key) + " holds no valid number", expected);
        return static_cast<T>(n);
    }
};

void read_id(const ordered_json& value, Reading& r) {
    if (!value.is_string() && !value.is_number()) r.fail("id is neither", "a string or a number");
    r.out.id = value;
}

void read_messages(const ordered_json& value, Reading& r) {
    if (!value.is_array() || value.empty()) r.fail("messages is no list", "at least one message");
    for (const ordered_json& m : value) {
        if (!m.is_object() || m.size() != 2 || !m.contains("role") || !m.contains("content"))
            r.fail("a message is something else", "an object of role and content");
        r.messages.push_back({r.text("role", m["role"]), r.text("content", m["content"])});
        const std::string& role = r.messages.back().role;
        if (role != "system" && role != "user" && role != "assistant")
            r.fail("role is another", "system, user or assistant");
    }
}

void read_stop(const ordered_json& value, Reading& r) {
    std::vector<std::string>& stop = r.out.request.generate.stop;
    if (!value.is_array()) {
        stop.push_back(r.text("stop", value));
    } else {
        for (const ordered_json& s : value) stop.push_back(r.text("stop", s));
    }
    for (const std::string& s : stop)
        if (s.empty()) r.fail("a stop string is empty", "at least one character");
}

void read_ignore_end(const ordered_json& value, Reading& r) {
    if (!value.is_boolean()) r.fail("ignore_end is neither", "true or false");
    r.out.request.generate.ignore_end = value.get<bool>();
}

SamplerOptions& sampler(Reading& r) { return r.out.request.generate.sampler; }

using Json = ordered_json;
struct Key {
    std::string_view name;
    void (*read)(const Json& value, Reading& r);
};
constexpr Key kKeys[] = {
    {"id", read_id},
    {"prompt", [](const Json& v, Reading& r) { r.prompt = r.text("prompt", v); }},
    {"messages", read_messages},
    {"routing",
     [](const Json& v, Reading& r) {
         r.out.request.policy = RoutingPolicy::parse(r.text("routing", v));
     }},
    {"max_tokens",
     [](const Json& v, Reading& r) {
         r.out.request.generate.max_tokens = r.whole<int>("max_tokens", v, 0);
     }},
    {"stop", read_stop},
    {"ignore_end", read_ignore_end},
    {"temperature",
     [](const Json& v, Reading& r) { sampler(r).temperature = r.number("temperature", v); }},
    {"top_k", [](const Json& v, Reading& r) { sampler(r).top_k = r.whole<int>("top_k", v, 0); }},
    {"top_p", [](const Json& v, Reading& r) { sampler(r).top_p = r.number("top_p", v); }},
    {"min_p", [](const Json& v, Reading& r) { sampler(r).min_p = r.number("min_p", v); }},
    {"seed", [](const Json& v, Reading& r) { sampler(r).seed = r.whole<uint64_t>("seed", v, 0); }},
};

std::string known_keys() {
    std::string text;
    for (const Key& key : kKeys) text += (text.empty() ? "" : ", ") + std::string(key.name);
    return text;
}

void read_keys(const ordered_json& object, Reading& r) {
    if (const auto id = object.find("id"); id != object.end()) read_id(*id, r);
    for (const auto& [name, value] : object.items()) {
        const Key* key = nullptr;
        for (const Key& k : kKeys)
            if (k.name == name) key = &k;
        if (key == nullptr) r.fail("\"" + name + "\" is no known key", "some of " + known_keys());
        key->read(value, r);
    }
    if (r.prompt.has_value() == !r.messages.empty())
        r.fail(r.prompt ? "prompt and messages are both given" : "there is nothing to answer",
               "one of prompt and messages");
}

/// No object where the line is no JSON.
ordered_json parsed_line(const std::string& line, const Reading& reading) {
    try {
        return ordered_json::parse(line);
    } catch (const ordered_json::out_of_range&) {
        reading.fail("holds a number out of range", "one of 64 bits");
    } catch (const ordered_json::exception&) {
        return {};
    }
}

}  // namespace

BatchInput::Got BatchReader::read(int milliseconds) {
    do {
        const BatchInput::Got got = in_.read(text_, milliseconds, name_);
        if (got != BatchInput::Got::line) return got;
        ++line_;
        id_ = nullptr;
    } while (text_.find_first_not_of(" \t\r") == std::string::npos);
    return BatchInput::Got::line;
}

BatchRequest BatchReader::request() {
    BatchRequest out;
    out.line = line_;
    out.request.policy = defaults_.policy;
    out.request.generate.max_tokens = defaults_.max_tokens;
    out.request.generate.ignore_end = defaults_.ignore_end;
    out.request.generate.sampler = defaults_.sampler;
    out.request.generate.sampler.seed += static_cast<uint64_t>(line_);
    const std::string here = where();
    Reading reading{here, out, {}, {}};
    try {
        const ordered_json object = parsed_line(text_, reading);
        if (!object.is_object()) reading.fail("is no JSON object", "one request a line");
        read_keys(object, reading);
        id_ = out.id;
        std::vector<std::string>& stop = out.request.generate.stop;
        if (reading.prompt) {
            out.request.prompt = model_.tokenizer().encode(*reading.prompt);
        } else {
            out.request.prompt = chat_.tokens(reading.messages);
            for (std::string& s : chat_.stop_strings()) stop.push_back(std::move(s));
        }
    } catch (const Error&) {
        id_ = out.id;
        throw;
    }
    return out;
}

std::string BatchReader::message(const Error& error) const {
    const std::string here = "[" + where() + "] ";
    std::string text = error.what();
    if (text.starts_with(here)) return text;
    const size_t end = text.find("] ");
    if (!text.starts_with('[') || end == std::string::npos) return here + text;
    return here + text.substr(1, end - 1) + ": " + text.substr(end + 2);
}

}  // namespace muster::cli
