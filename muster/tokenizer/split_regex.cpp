// SPDX-License-Identifier: Apache-2.0
#include "muster/tokenizer/split_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstdint>
#include <new>

#include "muster/core/error.h"

namespace muster {
namespace {

constexpr size_t kMaxPattern = 16 << 10;
constexpr uint32_t kMaxNesting = 60;
/// Steps of one search, and more for each byte: the patterns of published tokenisers go back over a
/// run of spaces or letters at most a few times.
constexpr uint32_t kMaxSteps = 50'000;
constexpr size_t kMaxStepsPerByte = 8;
constexpr uint32_t kMaxHeapKiB = 32 << 10;
/// For patterns that repeat a group once per character, on long words.
constexpr size_t kMaxStack = 64 << 20;

std::string message_of(int code) {
    PCRE2_UCHAR text[256] = {};
    pcre2_get_error_message(code, text, sizeof text);
    return reinterpret_cast<const char*>(text);
}

/// Oniguruma's dialect in PCRE2's: `\s` and `\h` mean something else there.
std::string translate(std::string_view pattern, std::string_view where) {
    std::string out;
    bool in_class = false;
    for (size_t i = 0; i < pattern.size(); ++i) {
        const char c = pattern[i];
        if (c == '\\' && i + 1 < pattern.size()) {
            const char next = pattern[++i];
            if (next == 's' || next == 'S') {
                out.append(next == 's' ? "\\p{White_Space}" : "\\P{White_Space}");
            } else if (next == 'h' || next == 'H' || next == 'C' || next == 'K') {
                throw Error(where,
                            std::string("the pattern uses \\") + next + ", which is not supported");
            } else {
                out.append({c, next});
            }
            continue;
        }
        if (in_class) {
            if (c == '[' && pattern.substr(i, 2) != "[:") {
                throw Error(where, "the pattern has a class inside a class, expected none");
            }
            if (pattern.substr(i, 2) == "&&") {
                throw Error(where, "the pattern intersects classes with &&, expected none");
            }
            if (pattern.substr(i, 2) == "[:") {
                const size_t end = pattern.find(":]", i);
                if (end == std::string_view::npos) throw Error(where, "the pattern has a lone [:");
                out.append(pattern.substr(i, end + 2 - i));
                i = end + 1;
                continue;
            }
            in_class = c != ']';
        } else if (c == '[') {
            in_class = true;
            out += c;
            // A ']' that stands first belongs to the class.
            if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
            if (i + 1 < pattern.size() && pattern[i + 1] == ']') out.append("\\]"), ++i;
            continue;
        } else if (pattern.substr(i, 2) == "(*") {
            throw Error(where, "the pattern has a verb (*, expected none");
        }
        out += c;
    }
    return out;
}

}  // namespace

struct SplitRegex::Code {
    pcre2_code* code = nullptr;
    ~Code() { pcre2_code_free(code); }
};

struct SplitRegex::Search::State {
    pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
    pcre2_match_context* context = pcre2_match_context_create(nullptr);
    pcre2_jit_stack* stack = nullptr;

    State() {
        if (data == nullptr || context == nullptr) {
            free();
            throw std::bad_alloc();
        }
        pcre2_set_heap_limit(context, kMaxHeapKiB);
    }
    ~State() { free(); }
    void free() noexcept {
        pcre2_match_data_free(data);
        pcre2_match_context_free(context);
        pcre2_jit_stack_free(stack);
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    bool grow_stack() {
        if (stack != nullptr) return false;
        stack = pcre2_jit_stack_create(64 << 10, kMaxStack, nullptr);
        if (stack == nullptr) return false;
        pcre2_jit_stack_assign(context, nullptr, stack);
        return true;
    }
};

SplitRegex::Search::Search() : state_(std::make_unique<State>()) {}
SplitRegex::Search::~Search() = default;

SplitRegex::SplitRegex(std::string_view pattern, std::string_view where)
    : pattern_(pattern), code_(std::make_unique<Code>()) {
    if (pattern.size() > kMaxPattern) {
        throw Error(where, "the pattern has " + std::to_string(pattern.size()) +
                               " bytes, expected at most " + std::to_string(kMaxPattern));
    }
    const std::string text = translate(pattern, where);
    const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
        pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
    if (context == nullptr) throw std::bad_alloc();
    pcre2_set_parens_nest_limit(context.get(), kMaxNesting);
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    int error = 0;
    PCRE2_SIZE at = 0;
    // In Oniguruma's Ruby syntax ^ and $ are ends of lines.
    constexpr uint32_t kOptions =
        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_CAPTURE;
    code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), kOptions,
                                &error, &at, context.get());
    if (code_->code == nullptr) {
        throw Error(where, "the pattern cannot be read: " + message_of(error) + " at byte " +
                               std::to_string(at));
    }
    // Without a just-in-time compiler for this machine, PCRE2 interprets.
    (void)pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);
}

SplitRegex::~SplitRegex() = default;
SplitRegex::SplitRegex(SplitRegex&&) noexcept = default;
SplitRegex& SplitRegex::operator=(SplitRegex&&) noexcept = default;

bool SplitRegex::find(std::string_view text, size_t from, Search& search, Match& match) const {
    Search::State& state = *search.state_;
    const auto steps = static_cast<uint32_t>(
        std::min<size_t>(kMaxSteps + kMaxStepsPerByte * (text.size() - from), UINT32_MAX));
    pcre2_set_match_limit(state.context, steps);
    pcre2_set_depth_limit(state.context, steps);
    const auto run = [&] {
        return pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                           from, PCRE2_NO_UTF_CHECK, state.data, state.context);
    };
    int result = run();
    if (result == PCRE2_ERROR_JIT_STACKLIMIT && state.grow_stack()) result = run();
    if (result == PCRE2_ERROR_NOMATCH) return false;
    if (result < 0) {
        throw Error("pre-tokenizer", "the pattern " + pattern_.substr(0, 80) +
                                         " gives up on this text: " + message_of(result));
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state.data);
    match = {bounds[0], bounds[1]};
    return true;
}

}  // namespace muster
