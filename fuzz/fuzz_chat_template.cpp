// SPDX-License-Identifier: Apache-2.0
// Any template on any messages (JSON behind a NUL; a short conversation without) gives a text
// within the limits, or an Error, in a time that the limits bound.
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>

#include "fuzz_parts.h"
#include "muster/tokenizer/chat_template.h"

namespace {

using Json = nlohmann::ordered_json;

const Json& conversation() {
    static const Json messages = Json::parse(R"([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Größe?"}]},
        {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "id": "c1",
         "function": {"name": "measure", "arguments": {"what": ["a", 1, 2.5, true]}}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "3 <m>"}])");
    return messages;
}

// 200,000 steps take some 10 ms, and no more than a second with what watches over fuzzing.
constexpr double kMaxSeconds = 3;

double processor_seconds() {
    std::timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto [text, json] = muster::fuzzing::halves(data, size);
    muster::ChatTemplateOptions options;
    options.now = 1'700'000'000;
    options.limits = {200'000, size_t{1} << 20, 100};
    const double begin = processor_seconds();
    try {
        const muster::ChatTemplate chat(text, "<s>", "</s>");
        const Json parsed = json.size() < 4096 ? Json::parse(json, nullptr, false) : Json();
        const std::string result =
            chat.render(parsed.is_array() ? parsed : conversation(), options);
        if (result.size() > options.limits.output) std::abort();
    } catch (const muster::Error&) {
    }
    if (processor_seconds() - begin > kMaxSeconds) std::abort();
    return 0;
}
