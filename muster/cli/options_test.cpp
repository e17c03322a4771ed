// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/options.h"

#include <gmock/gmock.h>

#include <string>
#include <vector>

namespace muster::cli {
namespace {

using Words = std::vector<std::string>;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename Options>
Options parse(const Words& words) {
    const CommandLine line = parse_command_line(words);
    EXPECT_FALSE(line.usage_error) << line.text;
    if (!line.command || !std::holds_alternative<Options>(*line.command)) {
        ADD_FAILURE() << "not the command expected; " << line.text;
        return {};
    }
    return std::get<Options>(*line.command);
}

TEST(Options, RunTakesEverySetting) {
    const auto o = parse<RunOptions>({"run",
                                      "m.gguf",
                                      "-p",
                                      "-",
                                      "--routing",
                                      "top-k:2",
                                      "--color",
                                      "experts",
                                      "--threads",
                                      "3",
                                      "--ctx",
                                      "99",
                                      "-n",
                                      "7",
                                      "-t",
                                      "0.5",
                                      "--top-k",
                                      "5",
                                      "--top-p",
                                      "0.7",
                                      "--min-p",
                                      "0.1",
                                      "--seed",
                                      "18446744073709551615",
                                      "--ignore-end",
                                      "--echo",
                                      "-q",
                                      "--prompt-cache",
                                      "c",
                                      "--no-check",
                                      "--json"});
    EXPECT_EQ(o.model.model, "m.gguf");
    EXPECT_EQ(o.text.prompt, "-");
    EXPECT_EQ(o.routing, "top-k:2");
    EXPECT_EQ(o.color, "experts");
    EXPECT_EQ(o.model.threads, 3);
    EXPECT_EQ(o.context, 99);
    EXPECT_EQ(o.tokens, 7);
    EXPECT_EQ(o.sampler.temperature, 0.5);
    EXPECT_EQ(o.sampler.top_k, 5);
    EXPECT_EQ(o.sampler.top_p, 0.7);
    EXPECT_EQ(o.sampler.min_p, 0.1);
    EXPECT_EQ(o.seed, UINT64_MAX);
    EXPECT_TRUE(o.ignore_end && o.echo && o.quiet && o.model.no_check && o.json);
    EXPECT_EQ(o.prompt_cache, "c");
}

TEST(Options, RunDefaults) {
    const auto o = parse<RunOptions>({"run", "default"});
    EXPECT_FALSE(o.text.prompt.has_value());
    EXPECT_EQ(o.routing, "model");
    EXPECT_EQ(o.color, "none");
    EXPECT_EQ(o.tokens, -1);
    EXPECT_FALSE(o.seed.has_value());
}

TEST(Options, PromptMayBeEmptyOrBeginWithADash) {
    EXPECT_EQ(parse<RunOptions>({"run", "m", "-p", ""}).text.prompt, "");
    EXPECT_EQ(parse<RunOptions>({"run", "m", "--prompt=-x"}).text.prompt, "-x");
}

TEST(Options, EvalTakesFilesAndPoliciesInAnyOrder) {
    const auto o = parse<EvalOptions>({"eval", "m", "a.txt", "--routing", "model", "--routing",
                                       "top-p:0.5,max=3", "b.txt", "--by-file", "--tokens", "5"});
    EXPECT_THAT(o.files, ElementsAre("a.txt", "b.txt"));
    EXPECT_THAT(o.routing, ElementsAre("model", "top-p:0.5,max=3"));
    EXPECT_TRUE(o.by_file);
    EXPECT_EQ(o.tokens, 5);
}

TEST(Options, ChatTakesEverySetting) {
    const auto o = parse<ChatOptions>(
        {"chat", "m",  "--system", "s",         "--routing", "top-k:2", "--chat-template",
         "t",    "-q", "--mmap",   "--compute", "bf16",      "--kv",    "q8_0",
         "-n",   "5",  "--seed",   "3",         "--top-k",   "9"});
    EXPECT_EQ(o.system, "s");
    EXPECT_EQ(o.routing, "top-k:2");
    EXPECT_EQ(o.chat_template, "t");
    EXPECT_TRUE(o.quiet && o.engine.mmap);
    EXPECT_EQ(o.engine.compute, "bf16");
    EXPECT_EQ(o.engine.kv, "q8_0");
    EXPECT_EQ(o.tokens, 5);
    EXPECT_EQ(o.seed, 3u);
    EXPECT_EQ(o.sampler.top_k, 9);
}

TEST(Options, BatchTakesRequestsAndTheirDefaults) {
    const auto o = parse<BatchOptions>({"batch", "m", "-", "-o", "a", "--routing", "mean:3",
                                        "--sequences", "16", "--ctx", "99", "-n", "5",
                                        "--temperature", "0", "--seed", "3", "--ignore-end", "-q"});
    EXPECT_EQ(o.requests, "-");
    EXPECT_EQ(o.output, "a");
    EXPECT_EQ(o.routing, "mean:3");
    EXPECT_EQ(o.sequences, 16);
    EXPECT_EQ(o.context, 99);
    EXPECT_EQ(o.tokens, 5);
    EXPECT_EQ(o.sampler.temperature, 0);
    EXPECT_EQ(o.seed, 3u);
    EXPECT_TRUE(o.ignore_end && o.quiet);
}

TEST(Options, ImatrixTakesTextsAndEarlierFiles) {
    const auto o = parse<ImatrixOptions>({"imatrix", "m", "a.txt", "--in-file", "x", "--in-file",
                                          "y", "b.txt", "-o", "i", "--window", "64", "--from-chunk",
                                          "2", "--chunks", "3", "--own-only"});
    EXPECT_THAT(o.files, ElementsAre("a.txt", "b.txt"));
    EXPECT_THAT(o.in_files, ElementsAre("x", "y"));
    EXPECT_EQ(o.output, "i");
    EXPECT_EQ(o.window, 64);
    EXPECT_EQ(o.from_chunk, 2);
    EXPECT_EQ(o.chunks, 3);
    EXPECT_TRUE(o.own_only);
    EXPECT_FALSE(o.process_head);
}

TEST(Options, OtherCommands) {
    EXPECT_TRUE(parse<InspectOptions>({"inspect", "m", "--tensors"}).tensors);
    EXPECT_EQ(parse<BenchOptions>({"bench", "m", "--prompt", "9"}).prompt, 9);
    EXPECT_TRUE(parse<TokenizeOptions>({"tokenize", "m", "--ids", "--json"}).ids);
    EXPECT_EQ(parse<QuantizeOptions>({"quantize", "a", "b"}).type, "Q4_K_M");
    EXPECT_EQ(parse<QuantizeOptions>({"quantize", "a", "b", "q8_0", "--imatrix", "i"}).importance,
              "i");
    EXPECT_EQ(
        parse<ConvertOptions>({"convert", "a", "b", "--max-shard-size", "2G"}).max_shard_bytes,
        uint64_t{2} << 30);
    EXPECT_EQ(parse<ExportOptions>({"export", "c", "-o", "x", "--type", "q8_0"}).type, "q8_0");
    EXPECT_EQ(parse<DemoOptions>({"demo"}).model.model, "default");
    EXPECT_THAT(parse<DemoOptions>({"demo", "--routing", "top-k:3"}).routing,
                ElementsAre("top-k:3"));
    EXPECT_EQ(parse<CompletionOptions>({"completion", "fish"}).shell, "fish");
}

TEST(Options, TrainPassesItsWordsOn) {
    EXPECT_THAT(parse<TrainOptions>({"train", "c.toml", "--new", "-x"}).arguments,
                ElementsAre("c.toml", "--new", "-x"));
}

struct BadLine {
    Words words;
    std::string says;  ///< part of the sentence
};
void PrintTo(const BadLine& line, std::ostream* out) {
    *out << ::testing::PrintToString(line.words);
}

class BadLines : public ::testing::TestWithParam<BadLine> {};

TEST_P(BadLines, AreOneSentence) {
    const CommandLine line = parse_command_line(GetParam().words);
    EXPECT_FALSE(line.command.has_value());
    EXPECT_TRUE(line.usage_error);
    EXPECT_THAT(line.text, HasSubstr(GetParam().says));
    EXPECT_EQ(line.text.find('\n'), std::string::npos);
    EXPECT_TRUE(line.text.starts_with("muster"));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadLines,
    ::testing::Values(
        BadLine{{"walk"}, "\"walk\" is no command"}, BadLine{{"--walk"}, "muster"},
        BadLine{{"run"}, "MODEL is required"}, BadLine{{"run", "m", "n"}, "not expected: n"},
        BadLine{{"run", "m", "--walk"}, "--walk"}, BadLine{{"run", "m", "-p"}, "--prompt"},
        BadLine{{"run", "m", "-p", "a", "-f", "b"}, "excludes"},
        BadLine{{"run", "m", "--threads", "0"}, "whole number from 1"},
        BadLine{{"run", "m", "--ctx", "-5"}, "whole number from 1"},
        BadLine{{"run", "m", "-n", "many"}, "\"many\" is not a whole number"},
        BadLine{{"run", "m", "-n", "99999999999"}, "is not a whole number"},
        BadLine{{"run", "m", "-t", "hot"}, "hot"}, BadLine{{"run", "m", "--seed", "-1"}, "-1"},
        BadLine{{"run", "m", "--color", "pink"}, "experts|none"},
        BadLine{{"eval", "m"}, "FILE is required"},
        BadLine{{"eval", "m", "f", "--task", "factor", "--stats", "s"}, "excludes"},
        BadLine{{"eval", "m", "f", "--exit-lens", "--chart", "c.svg"}, "excludes"},
        BadLine{{"export", "c"}, "--output is required"},
        BadLine{{"export", "c", "-o", "x", "--type", "q3"}, "f32|f16|bf16|q8_0"},
        BadLine{{"chat", "m", "--kv", "q4_0"}, "auto|f32|f16|q8_0"},
        BadLine{{"imatrix", "m", "t"}, "--output is required"},
        BadLine{{"completion", "tcsh"}, "bash|zsh|fish"}));

TEST(Options, HelpOfEveryCommandHasExamples) {
    for (const CommandInfo& command : command_tree().commands) {
        const CommandLine line = parse_command_line(Words{command.name, "--help"});
        EXPECT_FALSE(line.usage_error);
        EXPECT_THAT(line.text, HasSubstr("Usage: muster " + command.name));
        EXPECT_THAT(line.text, HasSubstr("Example"));
    }
}

TEST(Options, HelpAndVersion) {
    EXPECT_THAT(parse_command_line(Words{"--help"}).text, HasSubstr("muster demo"));
    EXPECT_EQ(parse_command_line(Words{}).text, parse_command_line(Words{"--help"}).text);
    EXPECT_EQ(parse_command_line(Words{"--version"}).text,
              std::string("muster ") + MUSTER_VERSION + "\n");
}

}  // namespace
}  // namespace muster::cli
