// SPDX-License-Identifier: Apache-2.0
#include "muster/train/trainer.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/core/test_directory.h"
#include "muster/core/thread_team.h"
#include "muster/model/export.h"
#include "muster/model/forward.h"
#include "muster/model/model.h"
#include "muster/train/test_vocabulary.h"

namespace muster::train {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;

/// A vocabulary of bytes: training one takes a program of its own, which the end-to-end test runs.
std::string bytes_model() {
    Vocabulary v = bytes_vocabulary();
    // Pieces make the vocabulary as large as the smallest that a config allows.
    for (char c = 'A'; v.pieces.size() < 300; ++c) {
        v.pieces.push_back(std::string(1, c));
        v.types.push_back(TokenType::normal);
    }
    v.scores.clear();
    for (size_t i = 0; i < v.pieces.size(); ++i) v.scores.push_back(-static_cast<float>(i));
    return to_sentencepiece(v);
}

class TrainerTest : public testing::Test {
  protected:
    void SetUp() override {
        write_file(directory_ / "bytes.model", bytes_model());
        Random random(1);
        std::string lines;
        const char* const words[] = {"the", "cat", "sat", "on",  "a",
                                     "mat", "and", "saw", "one", "dog"};
        for (int d = 0; d < 60; ++d) {
            std::string text;
            for (int i = 0; i < 60; ++i)
                text +=
                    std::string(words[(d + i * (1 + d % 3)) % 10]) + (i % 9 == 8 ? ".\\n" : " ");
            lines += std::string("{\"domain\": \"") + (d % 2 == 0 ? "even" : "odd") +
                     "\", \"text\": \"" + text + "\"}\n";
        }
        write_file(directory_ / "text.jsonl", lines);
    }

    TrainConfig config(const std::string& run, int64_t steps, const std::string& extra = "") {
        TrainConfig c = parse_config(
            "[model]\nd_model = 32\nlayers = 2\nheads = 2\ncontext = 32\nexperts = 4\nexpert_width "
            "= 32\n[data]\n"
            "vocabulary_size = 300\nheld_out = 0.1\n" +
                extra,
            "test");
        c.data.train = {directory_ / "text.jsonl"};
        c.data.tokenizer = directory_ / "bytes.model";
        c.training.batch_tokens = 256;
        c.training.tokens = steps * 256;
        c.training.warmup = 5;
        c.training.lr = 1e-2;
        c.training.min_lr = 1e-3;
        c.training.threads = 1;
        c.training.dtype = Compute::f32;
        c.output.directory = directory_ / run;
        c.output.log_every = 1;
        c.output.eval_every = 0;
        c.output.eval_tokens = 500;
        c.output.checkpoint_every = 10;
        return c;
    }
    std::vector<double> losses(const std::string& run) {
        std::istringstream in(read_file(directory_ / (run + "/metrics.jsonl")));
        std::vector<double> out;
        for (std::string line; std::getline(in, line);) {
            const auto json = nlohmann::json::parse(line);
            if (json.at("kind") == "train") out.push_back(json.at("loss"));
        }
        return out;
    }
    std::atomic<bool> go_{false};
    TemporaryDirectory directory_;
};

// Byte text of ten words: far below the entropy of its bytes (about 2.6 nats) once the words are
// learnt.
TEST_F(TrainerTest, Learns) {
    Trainer trainer(config("learn", 120), false, {});
    const double before = trainer.evaluate().loss;
    EXPECT_EQ(trainer.run(go_), TrainEnd::finished);
    const EvalResult after = trainer.evaluate();
    EXPECT_GT(before, 5.0);
    EXPECT_LT(after.loss, 1.0);
    EXPECT_EQ(after.domains.size(), 2u);
}

TEST_F(TrainerTest, ResumedRunHasTheSameLosses) {
    for (const char* policy : {"top-p:0.4", "mean:2", "mean:2/1", "random:2"}) {
        const std::string extra = std::string("[routing]\npolicy = \"") + policy + "\"\n";
        std::string name = policy;
        std::replace(name.begin(), name.end(), '/', '-');
        const std::string whole = "whole_" + name, parts = "parts_" + name;
        Trainer(config(whole, 25, extra), false, {}).run(go_);
        // The interrupted run stops in the middle, as Ctrl-C does, and goes on twice.
        for (const int stop_at : {7, 16, 1000}) {
            std::atomic<bool> stop{false};
            TrainCallbacks callbacks;
            callbacks.report = [&](const TrainReport& r) { stop = r.step == stop_at; };
            Trainer(config(parts, 25, extra), stop_at != 7, callbacks).run(stop);
        }
        EXPECT_EQ(losses(whole), losses(parts)) << policy;
        EXPECT_EQ(losses(whole).size(), 25u);
    }
}

TEST_F(TrainerTest, RefusesToOverwriteAndToResumeNothing) {
    Trainer(config("once", 2), false, {}).run(go_);
    EXPECT_THAT(([&] { Trainer(config("once", 2), false, {}); }),
                ThrowsMessage<Error>(HasSubstr("--resume")));
    EXPECT_THAT(([&] { Trainer(config("never", 2), true, {}); }),
                ThrowsMessage<Error>(HasSubstr("no checkpoint")));
    // Another shape than the checkpoint's is refused, not half loaded.
    TrainConfig other = config("once", 4);
    for (FeedForwardConfig& layer : other.model.layers) layer.widths.assign(4, 16);
    EXPECT_THAT(([&] { Trainer(other, true, {}); }),
                ThrowsMessage<Error>(HasSubstr("model.safetensors")));
}

// A run that was given other data does not go on, and a new start in the directory of one that
// never saved takes the new data.
TEST_F(TrainerTest, DataOfAnotherRunIsNotReused) {
    Trainer(config("data", 2), false, {}).run(go_);
    const auto tokens_of = [&](const char* run) {
        return std::filesystem::file_size(directory_ / run / "train.tokens");
    };
    { Trainer unsaved(config("other", 2), false, {}); }
    const auto before = tokens_of("other");
    const std::string text = read_file(directory_ / "text.jsonl");
    write_file(directory_ / "text.jsonl", text + text);
    { Trainer unsaved(config("other", 2), false, {}); }
    EXPECT_GT(tokens_of("other"), before);
    EXPECT_THAT(([&] { Trainer(config("data", 4), true, {}); }),
                ThrowsMessage<Error>(HasSubstr("other data")));
}

// A finished run that is resumed has nothing to do, and leaves its checkpoint as it was.
TEST_F(TrainerTest, ResumingAFinishedRunChangesNothing) {
    Trainer(config("done", 4), false, {}).run(go_);
    const auto files = *latest_checkpoint(directory_ / "done");
    const std::string before = read_file(files / "config.json");
    EXPECT_EQ(Trainer(config("done", 4), true, {}).run(go_), TrainEnd::finished);
    EXPECT_EQ(read_file(files / "config.json"), before);
    EXPECT_THAT(before, Not(HasSubstr("\"mean_experts\": []")));
    EXPECT_EQ(losses("done").size(), 4u);
}

// All weights of these have the same shapes as before, and mean something else.
TEST_F(TrainerTest, RefusesToGoOnAsAnotherModel) {
    Trainer(config("same", 2), false, {}).run(go_);
    TrainConfig heads = config("same", 4);
    heads.model.heads = heads.model.kv_heads = 4;
    heads.model.head_dim = 8;
    EXPECT_THAT(([&] { Trainer(heads, true, {}); }), ThrowsMessage<Error>(HasSubstr("head")));
    TrainConfig seed = config("same", 4);
    seed.training.seed = 9;
    EXPECT_THAT(([&] { Trainer(seed, true, {}); }),
                ThrowsMessage<Error>(HasSubstr("training.seed = 1")));
    TrainConfig lr = config("same", 4);
    lr.training.lr = 5e-3;
    EXPECT_NO_THROW(Trainer(lr, true, {}));
}

// One text file is one document: pieces of it are held out.
TEST_F(TrainerTest, OneBookIsEnough) {
    std::string book;
    for (int i = 0; i < 2000; ++i) book += i % 10 == 9 ? "the dog saw.\n" : "the cat sat on a mat ";
    write_file(directory_ / "book.txt", book);
    TrainConfig c = config("book", 2);
    c.data.train = {directory_ / "book.txt"};
    Trainer trainer(c, false, {});
    EXPECT_EQ(trainer.evaluate().domains.count("book"), 1u);
    write_file(directory_ / "note.txt", "too short to hold a part of it out");
    c.data.train = {directory_ / "note.txt"};
    c.output.directory = directory_ / "note";
    EXPECT_THAT(([&] { Trainer(c, false, {}); }), ThrowsMessage<Error>(HasSubstr("data.test")));
}

TEST_F(TrainerTest, StopsWhenTheLossIsNoNumber) {
    TrainConfig c = config("nan", 50);
    c.output.checkpoint_every = 2;
    TrainCallbacks callbacks;
    std::atomic<bool> never{false};
    Trainer* running = nullptr;
    callbacks.report = [&](const TrainReport& r) {
        if (r.step == 5) {
            torch::NoGradGuard no_grad;
            running->model()->embedding.fill_(std::numeric_limits<float>::infinity());
        }
    };
    Trainer trainer(c, false, callbacks);
    running = &trainer;
    EXPECT_THAT([&] { trainer.run(never); }, ThrowsMessage<Error>(HasSubstr("")));
    EXPECT_EQ(latest_checkpoint(c.output.directory)->filename(), "step-0000004");
    EXPECT_NO_THROW(Trainer(c, true, {}));
}

/// Keeps the engine's routes of one pass.
struct KeepRoutes final : TraceSink {
    std::vector<RouteTable> routes;
    std::vector<std::vector<float>> scores;  ///< [layer][T * E]
    void layer(const LayerTrace& trace) override {
        routes.push_back(trace.routes);
        std::vector<float> all;
        for (int64_t t = 0; t < trace.scores.rows; ++t) {
            all.insert(all.end(), trace.scores.row(t), trace.scores.row(t) + trace.scores.cols);
        }
        scores.push_back(std::move(all));
    }
};

struct Comparison {
    double logits = 0;        ///< largest difference under the trainer's routes
    int64_t choices = 0;      ///< tokens times layers
    int64_t unexplained = 0;  ///< differing selections whose boundary is wider than rounding
};

/// The engine on an export against the trainer's logits [T, vocab] and routes [L] (top-p p).
Comparison compare(const Model& model, const std::vector<int32_t>& ids, const at::Tensor& logits,
                   const std::vector<RouteTable>& routes, double p) {
    ThreadTeam team(2);
    ForwardContext forward(model, team, static_cast<int>(ids.size()));
    RequestRouting routing(model.config());
    const auto pass = [&](const PassOptions& options) {
        KvCache cache(model.config(), static_cast<int>(ids.size()));
        std::vector<BatchRow> rows;
        for (const int32_t id : ids) rows.push_back({id, &cache, &routing, true});
        forward.forward(rows, options);
    };
    Comparison result;
    PassOptions fixed;
    fixed.fixed_routes = routes;
    pass(fixed);
    for (int t = 0; t < static_cast<int>(ids.size()); ++t) {
        const MatrixView<float> row = forward.logits(t, 1);
        const float* want = logits.data_ptr<float>() + t * logits.size(1);
        for (int64_t v = 0; v < row.cols; ++v) {
            result.logits = std::max<double>(result.logits, std::abs(row(0, v) - want[v]));
        }
    }
    KeepRoutes kept;
    PassOptions own;
    own.trace = &kept;
    pass(own);
    for (size_t l = 0; l < routes.size(); ++l) {
        const int experts = routes[l].num_experts;
        for (int t = 0; t < routes[l].tokens(); ++t, ++result.choices) {
            const auto a = routes[l].token_experts(t), b = kept.routes[l].token_experts(t);
            std::set<int> here(a.begin(), a.end()), there(b.begin(), b.end());
            if (here == there) continue;
            // A flip is rounding where the sum stands at p, or the gate's values around the cut are
            // alike.
            std::vector<float> scores(kept.scores[l].begin() + t * experts,
                                      kept.scores[l].begin() + (t + 1) * experts);
            std::sort(scores.begin(), scores.end(), std::greater<>());
            double sum = 0, nearest = 1;
            for (const float score : scores)
                nearest = std::min(nearest, std::abs((sum += score) - p));
            const size_t cut = std::min(a.size(), b.size());
            const double gap = cut < scores.size() ? scores[cut - 1] - scores[cut] : 1;
            if (nearest > 1e-4 && gap > 1e-4) ++result.unexplained;
        }
    }
    return result;
}

Comparison export_and_compare(Trainer& trainer, const fs::path& gguf, const std::string& text,
                              size_t length, double p) {
    export_gguf(trainer.checkpoint(), gguf, DType::f32);
    const Model model = Model::load(gguf);
    std::vector<int32_t> ids = model.tokenizer().encode(text, true);
    ids.resize(std::min(ids.size(), length));
    torch::NoGradGuard no_grad;
    const at::Tensor logits =
        trainer.model()->forward(at::tensor(ids, at::kLong).view({1, -1})).contiguous();
    std::vector<RouteTable> routes;
    for (const Block& block : trainer.model()->blocks()) routes.push_back(block->moe->routes());
    return compare(model, ids, logits, routes, p);
}

TEST_F(TrainerTest, ExportHasTheTrainersLogits) {
    const std::pair<const char*, double> cases[] = {
        {"[routing]\npolicy = \"top-p:0.4\"\n", 0.4},
        {"[routing]\npolicy = \"top-k:2\"\n", 2},
        // What olmoe cannot express goes out as architecture muster.
        {"[routing]\npolicy = \"top-k:2,weight=renorm\"\n", 2},
    };
    int number = 0;
    for (const auto& [extra, p] : cases) {
        const std::string run = "export" + std::to_string(number++);
        Trainer trainer(config(run, 60, extra), false, {});
        trainer.run(go_);
        const Comparison c = export_and_compare(trainer, directory_ / (run + ".gguf"),
                                                "the cat sat on a mat and saw", 32, p);
        EXPECT_LT(c.logits, 2e-3) << extra;
        EXPECT_EQ(c.unexplained, 0) << extra;
    }
}

// The default model's shape, a real text, a whole context.
TEST_F(TrainerTest, ExportAtFullSizeHasTheTrainersLogits) {
    const fs::path text = fs::path(MUSTER_SOURCE_DIR) / "models/heldout/novels.txt";
    TrainConfig c = parse_config("[data]\nvocabulary_size = 300\nheld_out = 0.1\n", "test");
    for (const auto& entry : fs::directory_iterator(text.parent_path())) {
        if (entry.path().extension() == ".txt") c.data.train.push_back(entry.path());
    }
    c.data.test = {text};
    c.data.tokenizer = directory_ / "bytes.model";
    c.training.batch_tokens = 1024;
    c.training.tokens = 12 * 1024;
    c.training.warmup = 3;
    c.training.dtype = Compute::f32;
    c.output.directory = directory_ / "full";
    c.output.eval_tokens = 512;
    Trainer trainer(c, false, {});
    trainer.run(go_);
    const Comparison result =
        export_and_compare(trainer, directory_ / "full.gguf", read_file(text), 512, 0.4);
    EXPECT_LT(result.logits, 2e-3);
    EXPECT_EQ(result.unexplained, 0);
    EXPECT_EQ(result.choices, 512 * 6);
}

}  // namespace
}  // namespace muster::train
