// SPDX-License-Identifier: Apache-2.0
// What the values of tokenizer.ggml.pre mean. The names are llama.cpp's (src/llama-vocab.cpp); the
// patterns are those of the families' published tokenizer.json, which that program adapts to
// std::regex.
#include <array>
#include <utility>

#include "muster/tokenizer/pre_tokenizer.h"

namespace muster {
namespace {

constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+)"
    R"([\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
/// The published one has [...&&[^\p{Han}]] where this looks ahead.
constexpr std::string_view kKimiK2 =
    R"(\p{Han}+|[^\r\n\p{L}\p{N}]?(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])*)"
    R"((?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])+)"
    R"((?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*)"
    R"(|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kSeed =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kExaoneMoe =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kBloom = R"( ?[^(\s|.,!?…。，、।۔،)]+)";
constexpr std::string_view kPunctuation = R"([\p{P}\$\+<=>\^~\|]+)";
constexpr std::string_view kDeepseekLlmLetters =
    R"~(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)~";
constexpr std::string_view kDeepseekLlmPunctuation = R"~(\s?[!-/:-~！-／：-～‘-‟　-。]+)~";
constexpr std::string_view kDeepseekHan = R"~([一-龥ࠀ-一가-퟿]+)~";
constexpr std::string_view kDeepseek3Han = R"~([一-龥぀-ゟ゠-ヿ]+)~";
constexpr std::string_view kDeepseek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

using List = std::vector<std::string_view>;

/// Of names that mean the same the one that a written file gets stands first.
const std::vector<NamedSplit>& table() {
    static const std::vector<NamedSplit> names = [] {
        std::vector<NamedSplit> t;
        const auto add = [&](std::initializer_list<std::string_view> same, const List& patterns,
                             const NamedSplit& flags = {}) {
            for (const std::string_view name : same) {
                t.push_back({name, patterns, flags.ignore_merges, flags.add_bos, flags.nfc});
            }
        };
        NamedSplit nfc;
        nfc.nfc = true;
        NamedSplit whole;
        whole.ignore_merges = whole.add_bos = true;
        add({"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2",
             "midm-2.0"},
            {kLlama3}, whole);
        add({"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"}, {kLlama3});
        add({"qwen2", "deepseek-r1-qwen", "megrez", "kormo", "openpangu"}, {kQwen2}, nfc);
        add({"stablelm2", "hunyuan", "solar-open", "grok-2"}, {kQwen2});
        add({"qwen35"}, {kQwen35}, nfc);
        add({"gpt-4o", "llama4", "kanana2", "minimax-m2"}, {kGpt4o});
        add({"kimi-k2"}, {kKimiK2});
        add({"superbpe"}, {R"(\p{N}+)", R"((?=(\d{3})+(?!\d)))"});
        add({"tekken"}, {kTekken}, whole);
        add({"gpt-2", "jais", "trillion", "granite-docling", "phi-2", "gigachat", "exaone4",
             "mellum", "a.x-4.0"},
            {kGpt2});
        add({"olmo", "mpt"}, {kGpt2}, nfc);
        add({"refact", "starcoder", "command-r", "cohere2_moe", "smollm", "codeshell", "exaone",
             "minerva-7b"},
            {R"(\p{N})", kGpt2});
        add({"deepseek-llm"}, {R"([\r\n])", kDeepseekLlmLetters, kDeepseekLlmPunctuation, R"(\s+$)",
                               kDeepseekHan, R"(\p{N}+)"});
        add({"deepseek-coder"},
            {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepseekHan, R"(\p{N})"});
        add({"deepseek-v3", "hunyuan-dense", "joyai-llm"},
            {R"(\p{N}{1,3})", kDeepseek3Han, kDeepseek3});
        add({"bailingmoe", "bailingmoe2", "llada-moe"}, {kBailing});
        add({"seed-coder"}, {kSeed});
        add({"exaone-moe"}, {kExaoneMoe});
        add({"falcon"}, {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2, "[0-9][0-9][0-9]"});
        add({"bloom", "poro-chat", "gpt3-finnish"}, {kBloom});
        add({"viking"}, {kBloom, R"(\p{N})"});
        add({"default"}, {kPunctuation, kGpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"});
        return t;
    }();
    return names;
}

/// Some files have ends of lines themselves where others have their escapes.
std::string with_escapes(std::string_view pattern) {
    std::string out;
    for (const char c : pattern) {
        if (c == '\r' || c == '\n') {
            out += c == '\r' ? "\\r" : "\\n";
        } else {
            out += c;
        }
    }
    return out;
}

}  // namespace

std::string_view gpt2_pattern() noexcept { return kGpt2; }

const NamedSplit* named_split(std::string_view name) {
    for (const NamedSplit& named : table()) {
        if (named.name == name) return &named;
    }
    return nullptr;
}

std::string split_names() {
    std::string names;
    for (const NamedSplit& named : table()) {
        if (!names.empty()) names += ", ";
        names += named.name;
    }
    return names;
}

std::vector<SplitRule> rules_of(const NamedSplit& named) {
    std::vector<SplitRule> rules;
    rules.reserve(named.patterns.size());
    for (const std::string_view pattern : named.patterns) rules.push_back({std::string(pattern)});
    return rules;
}

std::string_view name_of_rules(const std::vector<SplitRule>& rules, bool ignore_merges, bool nfc) {
    const NamedSplit* best = nullptr;
    int best_agreement = -1;
    for (const NamedSplit& named : table()) {
        bool equal = named.patterns.size() == rules.size();
        for (size_t i = 0; equal && i < rules.size(); ++i) {
            equal = with_escapes(rules[i].pattern) == named.patterns[i];
        }
        const int agreement = (named.ignore_merges == ignore_merges) + 2 * (named.nfc == nfc);
        if (equal && agreement > best_agreement) best = &named, best_agreement = agreement;
    }
    return best == nullptr ? std::string_view() : best->name;
}

}  // namespace muster
