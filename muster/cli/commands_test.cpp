// SPDX-License-Identifier: Apache-2.0
// Every command in process, on a tiny random model.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "muster/checkpoint/gguf.h"
#include "muster/cli/export.h"
#include "muster/cli/test_terminal.h"
#include "muster/cli/train.h"

namespace muster::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class Commands : public ::testing::Test {
  protected:
    Commands() { t.terminal.data_paths = {model / ""}; }

    /// Runs with --json and gives the document.
    json document(std::vector<std::string> words, const std::string& input = "") {
        words.push_back("--json");
        EXPECT_EQ(t.run(words, input), 0) << t.err.str();
        EXPECT_TRUE(json::accept(t.out.str())) << t.out.str();
        return json::parse(t.out.str(), nullptr, false);
    }
    void expect_error(const std::vector<std::string>& words, const std::string& says) {
        EXPECT_EQ(t.run(words), 1);
        EXPECT_THAT(t.err.str(), HasSubstr(says));
        EXPECT_TRUE(t.err.str().starts_with("muster: ["));
        EXPECT_EQ(t.err.str().find('\n'), t.err.str().size() - 1) << t.err.str();
        EXPECT_EQ(t.out.str(), "");
    }

    TinyModel model;
    TestTerminal t;
};

TEST_F(Commands, RunWritesTextAndStatistics) {
    const std::vector<std::string> words{"run", "default", "-p", "the",         "-n",
                                         "8",   "--seed",  "3",  "--ignore-end"};
    ASSERT_EQ(t.run(words), 0) << t.err.str();
    const std::string text = t.out.str();
    EXPECT_TRUE(text.ends_with('\n'));
    EXPECT_THAT(t.err.str(), HasSubstr("wrote 8 tokens"));
    EXPECT_THAT(t.err.str(), HasSubstr("2.00 experts per token; seed 3"));
    ASSERT_EQ(t.run(words), 0);
    EXPECT_EQ(t.out.str(), text) << "one seed, one text";
    EXPECT_THAT(text, Not(HasSubstr("\033")));
}

TEST_F(Commands, RunAsJson) {
    const json d = document({"run", model.path().string(), "-p", "the", "-n", "5", "--seed", "1",
                             "--ignore-end", "--routing", "top-k:3"});
    EXPECT_EQ(d.at("routing"), "top-k:3");
    EXPECT_EQ(d.at("tokens").size(), 5u);
    EXPECT_EQ(d.at("tokens")[0].at("layers"), json({3, 3, 3}));
    EXPECT_EQ(d.at("experts_per_token"), 3.0);
    EXPECT_EQ(d.at("stop"), "max_tokens");
    EXPECT_EQ(d.at("seed"), 1);
}

TEST_F(Commands, MemoryIsForeseen) {
    const std::vector<std::string> words{"run", "default", "-p", "the", "-n", "2"};
    t.terminal.free_memory = [] { return FreeMemory{1000, "MemAvailable"}; };
    expect_error(words, "are free by MemAvailable");
    auto context = words;
    context.insert(context.end(), {"--ctx", "30"});
    expect_error(context, "30 tokens in f32");
    // Enough for half the context of 48 tokens, and no less than 256 is chosen: 48 it stays.
    t.terminal.free_memory = [] { return FreeMemory{int64_t{1} << 40, "MemAvailable"}; };
    EXPECT_EQ(t.run(words), 0) << t.err.str();
    EXPECT_THAT(t.err.str(), Not(HasSubstr("context of")));
}

TEST_F(Commands, WaysOfComputingAgree) {
    const std::string q8 = (model / "q8.gguf").string();
    ASSERT_EQ(t.run({"quantize", model.path().string(), q8, "Q8_0"}), 0) << t.err.str();
    const auto perplexity = [&](std::vector<std::string> more) {
        std::vector<std::string> words{"eval", q8, (model / "heldout/letters.txt").string()};
        words.insert(words.end(), more.begin(), more.end());
        const json d = document(words);
        EXPECT_EQ(d.at("compute"), more.empty() ? "f32" : more[1]);
        return d.at("policies")[0].at("all").at("perplexity").get<double>();
    };
    const double exact = perplexity({});
    // Activations of 8 bits: half a percent of noise each, on a random model's near-uniform text.
    EXPECT_NEAR(perplexity({"--compute", "int8"}), exact, 0.02 * exact);
    EXPECT_EQ(perplexity({"--compute", "int8", "--mmap"}), perplexity({"--compute", "int8"}));
    EXPECT_NEAR(perplexity({"--compute", "f32", "--kv", "q8_0"}), exact, 0.02 * exact);
    EXPECT_EQ(t.run({"run", q8, "-p", "the", "-n", "3", "--mmap", "--kv", "q8_0"}), 0);
    EXPECT_EQ(t.run({"bench", q8, "--compute", "int4"}), 2);
}

TEST_F(Commands, SpeedsOutOfReachAreSaid) {
    const std::vector<std::string> words{"run",          "default",   "-p",       "the",
                                         "-n",           "40",        "--seed",   "1",
                                         "--ignore-end", "--routing", "speed:1e8"};
    ASSERT_EQ(t.run(words), 0) << t.err.str();
    EXPECT_THAT(t.err.str(), HasSubstr("speed:1e+08 cannot be reached: "));
    const json d = document(words);
    EXPECT_EQ(d.at("speed").at("reach"), "too_high");
    EXPECT_EQ(d.at("speed").at("held"), false);
    EXPECT_EQ(d.at("speed").at("experts_per_token"), 1.0);
    const std::string text = (model / "heldout/letters.txt").string();
    expect_error({"eval", "default", text, "--routing", "speed:20"}, "follows the clock");
    expect_error({"bench", "default", "--prompt", "8", "--decode", "4", "--routing", "speed:20"},
                 "follows the clock");
}

TEST_F(Commands, RunReadsFilesAndStandardInput) {
    write_file(model / "prompt.txt", "the theme\n");
    const std::vector<std::string> rest{"-n", "4", "--temperature", "0"};
    const auto text_of = [&](std::vector<std::string> words, const std::string& input = "") {
        words.insert(words.end(), rest.begin(), rest.end());
        return document(words, input).at("text");
    };
    const json expected = text_of({"run", "default", "-p", "the theme"});
    EXPECT_EQ(text_of({"run", "default", "-f", (model / "prompt.txt").string()}), expected);
    EXPECT_EQ(text_of({"run", "default"}, "the theme\n"), expected);
    EXPECT_EQ(text_of({"run", "default", "-f", "-"}, "the theme"), expected);
}

TEST_F(Commands, RunColorsAndExplains) {
    ASSERT_EQ(t.run({"run", "default", "-p", "the", "-n", "4", "--color", "experts", "--echo"}), 0);
    EXPECT_THAT(t.out.str(), HasSubstr("\033[48;5;"));
    EXPECT_THAT(t.out.str(), HasSubstr("experts per token"));
    EXPECT_TRUE(t.out.str().starts_with("the"));
}

TEST_F(Commands, RunStopsAtTheEndOfTheContext) {
    ASSERT_EQ(t.run({"run", "default", "-p", "the", "--ctx", "12", "--ignore-end", "-q"}), 0);
    EXPECT_THAT(t.err.str(), HasSubstr("the context of 12 tokens is full"));
}

TEST_F(Commands, RunStopsOnInterrupt) {
    int calls = 0;
    t.terminal.interrupted = [&] { return ++calls > 4; };
    EXPECT_EQ(t.run({"run", "default", "-p", "the", "--ignore-end", "--no-check"}), 130);
    EXPECT_THAT(t.err.str(), HasSubstr("interrupted"));
    EXPECT_THAT(t.err.str(), HasSubstr("wrote "));
}

TEST_F(Commands, RunKeepsAPromptCache) {
    const std::vector<std::string> words{
        "run", "default",       "-p", "the theme of the other", "-n",
        "2",   "--temperature", "0",  "--prompt-cache",         (model / "cache").string()};
    const json first = document(words);
    const json second = document(words);
    EXPECT_EQ(first.at("reused_tokens"), 0);
    EXPECT_GT(second.at("reused_tokens"), 0);
    EXPECT_EQ(first.at("text"), second.at("text"));
    auto other = words;
    other.insert(other.end(), {"--routing", "top-k:1"});
    EXPECT_EQ(t.run(other), 1);
    write_file(model / "cache", "damaged");
    EXPECT_EQ(t.run(words), 1);
}

TEST_F(Commands, EvalComparesPolicies) {
    const std::vector<std::string> words{"eval",
                                         "default",
                                         (model / "heldout/letters.txt").string(),
                                         (model / "heldout/numbers.txt").string(),
                                         "--by-file",
                                         "--routing",
                                         "model",
                                         "--routing",
                                         "top-k:1"};
    const json d = document(words);
    ASSERT_EQ(d.at("policies").size(), 2u);
    ASSERT_EQ(t.run(words), 0);
    for (const char* word : {"top-k:1", "perplexity", "letters", "numbers", "tokens/s", "layer"})
        EXPECT_THAT(t.out.str(), HasSubstr(word));
}

TEST_F(Commands, InspectShowsShapeAndMemory) {
    ASSERT_EQ(t.run({"inspect", "default", "--tensors"}), 0) << t.err.str();
    for (const char* word : {"olmoe", "3 layers", "0-2", "top-k", "blk.0", "48 tokens"})
        EXPECT_THAT(t.out.str(), HasSubstr(word));
    const json d = document({"inspect", "default", "--ctx", "100", "--kv", "f16"});
    EXPECT_GT(d.at("parameters").at("total"), 0);
    EXPECT_EQ(d.at("memory").at("run").at("keys_and_values"), 3 * 2 * 100 * 32 * 2);
    EXPECT_THAT(t.out.str(), HasSubstr("free_by"));
}

TEST_F(Commands, BenchReportsLimits) {
    const std::vector<std::string> words{"bench", "default",   "--prompt", "16",        "--decode",
                                         "8",     "--repeats", "2",        "--threads", "1"};
    ASSERT_EQ(t.run(words), 0) << t.err.str();
    EXPECT_THAT(t.out.str(), HasSubstr("decode tokens/s"));
    const json d = document(words);
    EXPECT_GT(d.at("peak_f32_flops"), 0);
    EXPECT_GT(d.at("prefill_flops_per_token")[0], 0);
}

TEST_F(Commands, TokenizeShowsIdsAndPieces) {
    const json d = document({"tokenize", "default", "-p", "the\n", "--ids"});
    EXPECT_EQ(d.size(), 1u);
    EXPECT_EQ(d.at("ids")[0], 1) << "the begin token";
    const json pieces = document({"tokenize", "default"}, "the\n").at("pieces");
    EXPECT_EQ(pieces[0], "<s>");
    EXPECT_EQ(pieces.back(), "\"\\n\"");
    ASSERT_EQ(t.run({"tokenize", "default", "-p", "the", "--ids", "--no-bos"}), 0);
    EXPECT_EQ(t.out.str(), "260\n");
}

TEST_F(Commands, ExportWritesGgufAndHf) {
    const std::string checkpoint = (model / "checkpoint").string();
    const json d = document({"export", checkpoint, "-o", (model / "x.gguf").string()});
    EXPECT_EQ(d.at("format"), "gguf");
    EXPECT_EQ(d.at("bytes"), std::filesystem::file_size(model / "x.gguf"));
    EXPECT_EQ(t.run({"inspect", (model / "x.gguf").string()}), 0);
    EXPECT_EQ(document({"export", checkpoint, "-o", (model / "hf/").string()}).at("format"), "hf");
    EXPECT_TRUE(std::filesystem::exists(model / "hf/config.json"));
    ASSERT_EQ(t.run({"inspect", (model / "hf").string()}), 0) << t.err.str();
    const json c = document({"convert", (model / "hf").string(), (model / "back.gguf").string()});
    EXPECT_EQ(c.at("architecture"), "olmoe");
    EXPECT_EQ(c.at("files").size(), 1u);
    EXPECT_EQ(c.at("bytes"), std::filesystem::file_size(model / "back.gguf"));
    EXPECT_EQ(t.run({"run", (model / "back.gguf").string(), "-p", "the", "-n", "4"}), 0);
    const json h = document(
        {"convert", (model / "back.gguf").string(), (model / "again").string(), "--type", "f32"});
    EXPECT_GE(h.at("files").size(), 4u);
    EXPECT_EQ(t.run({"run", (model / "again").string(), "-p", "the", "-n", "4"}), 0);
    expect_error({"convert", (model / "back.gguf").string(), (model / "again").string()},
                 "is there already");
    expect_error({"convert", (model / "back.gguf").string(), (model / "back.gguf/x").string()},
                 "cannot be created");
    expect_error({"convert", (model / "heldout").string(), (model / "y.gguf").string()},
                 "has no config.json, expected a GGUF file or a Hugging Face directory");
    expect_error({"convert", (model / "hf").string(), (model / "y").string()},
                 "is a directory already, expected an output that ends in .gguf");
    document({"convert", "default", (model / "copy.gguf").string()});
    document({"quantize", "default", (model / "q8.gguf").string(), "Q8_0"});
}

TEST_F(Commands, ConversionRefusesWhatWouldBeWorthless) {
    const auto damaged = [&](float value) {
        GgufWriter writer;
        const GgufFile in(model.path());
        for (const auto& [key, unused] : in.metadata()) writer.copy(in, key);
        for (const auto& [name, tensor] : in.tensors()) {
            std::vector<std::byte> bytes(tensor.data, tensor.data + tensor.bytes());
            if (name == "output.weight") std::memcpy(bytes.data() + 8, &value, 4);
            writer.add_tensor(name, tensor.dtype, tensor.shape, std::move(bytes));
        }
        writer.write(model / "d.gguf");
    };
    const std::string in = (model / "d.gguf").string(), out = (model / "d").string();
    damaged(1e6f);
    expect_error({"convert", in, out, "--type", "f16"},
                 "'lm_head.weight' holds 1000000, which f16 cannot: its largest value is 65504");
    EXPECT_FALSE(std::filesystem::exists(out));
    document({"convert", in, out});
    std::filesystem::remove_all(out);
    damaged(std::nanf(""));
    expect_error({"convert", in, out}, "'lm_head.weight' holds NaN or infinity");
    expect_error({"convert", in, out + "2.gguf"}, "'output.weight' holds NaN or infinity");
    EXPECT_FALSE(std::filesystem::exists(out));
    EXPECT_FALSE(std::filesystem::exists(out + "2.gguf"));
}

TEST_F(Commands, ExportNeedsACheckpoint) {
    expect_error({"export", (model / "heldout").string(), "-o", (model / "y.gguf").string()}, "");
}

TEST_F(Commands, QuantizedModelRuns) {
    const std::string in = model.path().string(), out = (model / "q.gguf").string();
    const json d = document({"quantize", in, out, "q4_0"});
    EXPECT_EQ(d.at("type"), "Q4_0");
    EXPECT_LT(d.at("bytes"), d.at("bytes_before"));
    EXPECT_GT(d.at("relative_rmse"), 0.001);
    EXPECT_LT(d.at("relative_rmse"), 0.1);
    EXPECT_EQ(t.run({"run", out, "-p", "the", "-n", "4"}), 0) << t.err.str();
    ASSERT_EQ(t.run({"quantize", in, out, "Q8_0", "--tensors"}), 0) << t.err.str();
    EXPECT_THAT(t.out.str(), HasSubstr("blk.0.attn_q.weight"));
    expect_error({"quantize", out, (model / "r.gguf").string(), "Q4_0"}, "--allow-requantize");
    expect_error({"quantize", in, in, "Q8_0"}, "is read by the same command");
    expect_error({"quantize", in, out, "IQ2_XS"}, "not supported");
}

TEST_F(Commands, ImportanceIsMeasuredMergedAndUsed) {
    const std::string in = model.path().string(), text = (model / "heldout/letters.txt").string();
    const std::string matrix = (model / "i.gguf").string(), both = (model / "j.gguf").string();
    const json d = document({"imatrix", in, text, "-o", matrix, "--window", "16"});
    EXPECT_GT(d.at("tensors"), 10);
    EXPECT_EQ(d.at("expert_matrices").at("none"), 0);
    const json m = document(
        {"imatrix", in, text, "-o", both, "--in-file", matrix, "--window", "16", "--chunks", "1"});
    EXPECT_EQ(m.at("chunks"), d.at("chunks").get<int>() + 1);
    const json q =
        document({"quantize", in, (model / "q.gguf").string(), "Q4_0", "--imatrix", both});
    EXPECT_EQ(q.at("tensors").size() > 0, true);
    ASSERT_EQ(t.run({"imatrix", in, text, "-o", matrix, "--window", "16", "--own-only"}), 0);
    EXPECT_THAT(t.err.str(), HasSubstr("with rows of their own"));
    int calls = 0;
    t.terminal.interrupted = [&] { return ++calls > 1; };
    EXPECT_EQ(t.run({"imatrix", in, text, "-o", matrix, "--window", "8", "--no-check"}), 130);
    EXPECT_THAT(t.err.str(), HasSubstr("--from-chunk"));
    t.terminal.interrupted = {};
    expect_error({"imatrix", in, text, "-o", matrix, "--in-file", in}, "no importance matrix");
    expect_error({"imatrix", in, "/nowhere.txt", "-o", matrix}, "nowhere.txt");
}

TEST_F(Commands, ExportTakesTheNewestCheckpointOfARun) {
    for (const char* step : {"step-9", "step-10", "notes"}) {
        std::filesystem::create_directories(model / "run/checkpoints" / step);
        write_file(model / "run/checkpoints" / step / "config.json", "{}");
    }
    EXPECT_EQ(resolve_checkpoint(model / "run"), model / "run/checkpoints/step-10");
    EXPECT_EQ(resolve_checkpoint(model / "checkpoint"), model / "checkpoint");
}

TEST_F(Commands, DemoRunsEndToEnd) {
    const std::string atlas = (model / "atlas.html").string();
    ASSERT_EQ(t.run({"demo", "-n", "4", "--color", "experts", "--atlas", atlas}), 0) << t.err.str();
    for (const char* word : {"1. ", "2. ", "3. ", "\033[48;5;", "model", "top-k:1", "top-k:2",
                             "top-p:0.3", "top-p:0.6", "tokens/s", "muster run default"})
        EXPECT_THAT(t.out.str(), HasSubstr(word));
    EXPECT_THAT(t.out.str(), HasSubstr(atlas)) << "the atlas is named";
    EXPECT_THAT(read_file(atlas), HasSubstr("top-k:2"));
    ASSERT_EQ(t.run({"demo", "-n", "4", "--atlas", atlas}), 0);
    EXPECT_THAT(t.out.str(), Not(HasSubstr("\033"))) << "no colours unasked on no terminal";
    const json d =
        document({"demo", "-n", "4", "--model", model.path().string(), "--atlas", atlas});
    EXPECT_EQ(d.at("atlas"), atlas);
    EXPECT_EQ(d.at("comparison").at("policies").size(), 5u);
    EXPECT_GT(d.at("texts").size(), 1u);
}

TEST_F(Commands, ErrorsAreOneSentence) {
    const std::string letters = (model / "heldout/letters.txt").string();
    expect_error({"run", "/nowhere.gguf", "-p", "x"}, "nowhere.gguf");
    expect_error({"run", "default", "-p", "x", "--routing", "top-q:3"}, "top-q");
    expect_error({"run", "default", "-p", "x", "--routing", "top-k:99"}, "");
    expect_error({"run", "default", "-p", "x", "--temperature", "-1"}, "temperature");
    expect_error({"run", "default", "-f", "/nowhere.txt"}, "nowhere.txt");
    expect_error({"run", "default", "-p", "x", "--routing", "expert-choice:2"}, "");
    expect_error({"eval", "default", "/nowhere.txt"}, "nowhere.txt");
    expect_error({"eval", "default", letters, "--confidence", "2"}, "confidence");
    expect_error({"bench", "default", "--routing", "model,max"}, "max");
    expect_error({"tokenize", letters, "-p", "x"}, "letters.txt");
    t.terminal.data_paths = {model / "heldout"};
    expect_error({"demo"}, "default.gguf is missing");
}

TEST_F(Commands, UsageErrorsGiveTwo) {
    EXPECT_EQ(t.run({"run"}), 2);
    EXPECT_EQ(t.run({"walk"}), 2);
    EXPECT_EQ(t.run({}), 0);
}

TEST_F(Commands, ReaderThatLeavesIsNoError) {
    t.terminal.reader_gone = [] { return true; };
    t.run({"run", "default", "-p", "the", "--ignore-end"});
    t.out.setstate(std::ios::badbit);
    EXPECT_EQ(t.run({"--help"}), 0);
    t.terminal.reader_gone = {};
    t.out.setstate(std::ios::badbit);
    EXPECT_EQ(t.run({"--help"}), 1);
    EXPECT_THAT(t.err.str(), HasSubstr("standard output"));
}

TEST_F(Commands, TrainerIsFoundBesideOrInThePath) {
    EXPECT_FALSE(find_trainer("/nowhere/muster", "::/nowhere").has_value());
    std::filesystem::create_directories(model / "bin");
    write_file(model / "bin/muster-train", "#!/bin/sh\n");
    const auto beside = model / "bin/muster";
    EXPECT_FALSE(find_trainer(beside, "").has_value()) << "not executable";
    std::filesystem::permissions(model / "bin/muster-train", std::filesystem::perms::owner_all);
    EXPECT_EQ(find_trainer(beside, ""), model / "bin/muster-train");
    EXPECT_EQ(find_trainer({}, "/nowhere:" + (model / "bin").string()), model / "bin/muster-train");
}

}  // namespace
}  // namespace muster::cli
