// SPDX-License-Identifier: Apache-2.0
#include "muster/model/importance_collector.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "muster/checkpoint/gguf.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/thread_team.h"
#include "muster/model/export.h"
#include "muster/model/importance.h"
#include "muster/model/testing.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;
using ::testing::ThrowsMessage;

class ImportanceTest : public ::testing::Test {
  protected:
    Model load(const ModelConfig& config) {
        checkpoint_ = testing::random_checkpoint(config);
        checkpoint_.write(directory_ / "run");
        export_gguf(directory_ / "run", directory_ / "model.gguf", DType::f32);
        return Model::load(directory_ / "model.gguf");
    }
    ImportanceSums collect(const Model& model, int tokens, ImportanceOptions options = {}) {
        const auto ids = testing::random_tokens(model.config(), tokens);
        ImportanceSums sums;
        options.window = 16;
        collect_importance(model, team_, ids, options, sums);
        return sums;
    }
    static double total(const std::vector<double>& values) {
        return std::accumulate(values.begin(), values.end(), 0.0);
    }

    TemporaryDirectory directory_;
    testing::Checkpoint checkpoint_;
    ThreadTeam team_{2};
};

// In the first layer the input is the normed embedding, which can be computed by hand.
TEST_F(ImportanceTest, SumsAreThoseOfTheInputs) {
    const Model model = load(testing::tiny_olmoe());
    const auto ids = testing::random_tokens(model.config(), 30);
    const ImportanceSums sums = collect(model, 30);  // two chunks of 15 tokens behind <s>
    EXPECT_EQ(sums.chunks, 2);
    const auto& query = sums.tensors.at("blk.0.attn_q.weight");
    ASSERT_EQ(query.counts, std::vector<double>{32});
    const auto& embedding = checkpoint_.tensors.at(std::string(tensor_names::kEmbedding)).values;
    const auto& norm =
        checkpoint_.tensors.at(tensor_names::layer(0, tensor_names::kAttentionNorm)).values;
    std::vector<double> expected(32, 0.0);
    for (size_t i = 0; i < 32; ++i) {
        const int32_t id = i % 16 == 0 ? 1 : ids[i / 16 * 15 + i % 16 - 1];
        const float* x = embedding.data() + id * 32;
        double squares = 0;
        for (int c = 0; c < 32; ++c) squares += double{x[c]} * x[c];
        const double scale = 1 / std::sqrt(squares / 32 + double{model.config().norm_eps});
        for (int c = 0; c < 32; ++c) expected[c] += std::pow(x[c] * scale * norm[c], 2);
    }
    for (int c = 0; c < 32; ++c) EXPECT_NEAR(query.sums[c], expected[c], 1e-4 * expected[c]);
    EXPECT_EQ(sums.tensors.at("blk.0.attn_k.weight").sums, query.sums);
}

TEST_F(ImportanceTest, ExpertsHaveTheirOwn) {
    const Model model = load(testing::tiny_olmoe());
    const ImportanceSums sums = collect(model, 45);
    for (int l = 0; l < 3; ++l) {
        const std::string layer = "blk." + std::to_string(l);
        const auto& up = sums.tensors.at(layer + ".ffn_up_exps.weight");
        const auto& router = sums.tensors.at(layer + ".ffn_gate_inp.weight");
        EXPECT_EQ(up.matrices(), 6);
        EXPECT_EQ(total(up.counts), 2 * 48);  // top-k:2
        EXPECT_EQ(sums.tensors.at(layer + ".ffn_gate_exps.weight").sums, up.sums);
        EXPECT_EQ(sums.tensors.at(layer + ".ffn_down_exps.weight").counts, up.counts);
        // Every row goes to two experts, so their sums are twice the router's.
        EXPECT_NEAR(total(up.sums), 2 * total(router.sums), 1e-6 * total(up.sums));
        EXPECT_GT(total(sums.tensors.at(layer + ".ffn_down_exps.weight").sums), 0);
    }
    EXPECT_EQ(total(sums.tensors.at("output.weight").counts), 0);
}

TEST_F(ImportanceTest, ChunksAreCutWhereAMeanMoves) {
    const Model model = load(testing::tiny_olmoe());
    ImportanceOptions options;
    options.window = 48;
    options.policy = RoutingPolicy::parse("mean:3");
    ImportanceSums sums;
    collect_importance(model, team_, testing::random_tokens(model.config(), 20 * 47), options,
                       sums);
    double experts = 0;
    for (int l = 0; l < 3; ++l)
        experts +=
            total(sums.tensors.at("blk." + std::to_string(l) + ".ffn_up_exps.weight").counts);
    EXPECT_NEAR(experts / (3 * 20 * 48), 3, 0.02 * 3);
}

TEST_F(ImportanceTest, UnusedExpertsAreLentRows) {
    const Model model = load(testing::tiny_olmoe());
    ImportanceOptions options;
    options.policy = RoutingPolicy::parse("top-k:2,ban=1.3");
    options.lend_rows = 4;
    const ImportanceSums sums = collect(model, 45, options);
    const auto& up = sums.tensors.at("blk.1.ffn_up_exps.weight");
    EXPECT_EQ(up.counts[3], 0);
    ASSERT_EQ(up.lent_counts.size(), 6u);
    EXPECT_EQ(up.lent_counts[3], 3 * 4);  // in each of three chunks
    const auto& down = sums.tensors.at("blk.1.ffn_down_exps.weight");
    EXPECT_EQ(down.lent_counts, up.lent_counts);
    options.lend_rows = 0;
    const ImportanceSums own = collect(model, 45, options);
    EXPECT_TRUE(own.tensors.at("blk.1.ffn_up_exps.weight").lent_counts.empty());
    // Lending changes nothing else.
    EXPECT_EQ(own.tensors.at("blk.2.ffn_up_exps.weight").sums,
              sums.tensors.at("blk.2.ffn_up_exps.weight").sums);

    const auto path = directory_ / "imatrix.gguf";
    write_importance(path, sums);
    const ImportanceSums back = read_importance_sums(path);
    EXPECT_EQ(back.chunks, 3);
    EXPECT_EQ(back.tensors.at("blk.1.ffn_up_exps.weight").counts, up.counts);
    EXPECT_EQ(back.tensors.at("blk.1.ffn_up_exps.weight").lent_counts[3], up.lent_counts[3]);
    const ImportanceMatrix matrix = read_importance(path);
    const auto& means = matrix.values.at("blk.1.ffn_up_exps.weight");
    EXPECT_NEAR(means[3 * 32], up.lent_sums[3 * 32] / 12, 1e-5 * means[3 * 32]);
    EXPECT_EQ(matrix.values.count("output.weight"), 0u);
    const GgufFile file(path);
    EXPECT_EQ(file.string("general.type"), "imatrix");
    EXPECT_EQ(file.integer("imatrix.chunk_count"), 3);
    const std::vector<int64_t> shape{6, 1};
    EXPECT_EQ(file.tensors().at("blk.1.ffn_up_exps.weight.counts").shape, shape);
}

/// A GGUF file by its definition (github.com/ggml-org/ggml docs/gguf.md), read here once more so
/// that writer and reader cannot share a mistake. Numbers: u32, strings, arrays of strings; f32.
struct PlainGguf {
    struct Tensor {
        std::vector<uint64_t> dimensions;  ///< the fastest first
        std::vector<float> values;
    };
    std::map<std::string, uint32_t> numbers;
    std::map<std::string, std::vector<std::string>> texts;  ///< arrays, or one
    std::map<std::string, Tensor> tensors;
    std::vector<std::string> order;

    explicit PlainGguf(std::string bytes) : bytes_(std::move(bytes)) {
        EXPECT_EQ(bytes_.substr(0, 4), "GGUF");
        at_ = 4;
        EXPECT_EQ(take<uint32_t>(), 3u);
        const auto n = take<uint64_t>(), keys = take<uint64_t>();
        for (uint64_t i = 0; i < keys; ++i) read_key();
        std::vector<uint64_t> offsets;
        for (uint64_t i = 0; i < n; ++i) {
            Tensor& tensor = tensors[order.emplace_back(text())];
            tensor.dimensions.resize(take<uint32_t>());
            for (uint64_t& d : tensor.dimensions) d = take<uint64_t>();
            EXPECT_EQ(take<uint32_t>(), 0u) << order.back() << " is no f32";
            offsets.push_back(take<uint64_t>());
        }
        const size_t data = (at_ + 31) / 32 * 32;
        for (size_t i = 0; i < order.size(); ++i) {
            Tensor& tensor = tensors[order[i]];
            uint64_t size = 1;
            for (const uint64_t d : tensor.dimensions) size *= d;
            at_ = data + offsets[i];
            for (uint64_t k = 0; k < size; ++k) tensor.values.push_back(take<float>());
        }
    }

  private:
    template <typename T>
    T take() {
        T value{};
        std::memcpy(&value, bytes_.substr(at_, sizeof(T)).data(), sizeof(T));
        at_ += sizeof(T);
        return value;
    }
    std::string text() {
        const auto size = take<uint64_t>();
        at_ += size;
        return bytes_.substr(at_ - size, size);
    }
    void read_key() {
        constexpr uint32_t kU32 = 4, kString = 8, kArray = 9;
        const std::string key = text();
        const auto type = take<uint32_t>();
        if (type == kU32) {
            numbers[key] = take<uint32_t>();
        } else if (type == kString) {
            texts[key] = {text()};
        } else {
            ASSERT_EQ(type, kArray) << key;
            ASSERT_EQ(take<uint32_t>(), kString) << key;
            const auto n = take<uint64_t>();
            for (uint64_t i = 0; i < n; ++i) texts[key].push_back(text());
        }
    }

    std::string bytes_;
    size_t at_ = 0;
};

// What llama.cpp's quantizer reads (common/imatrix-loader.cpp): keys, names, types and dimensions.
TEST_F(ImportanceTest, FileIsLlamaCpps) {
    const Model model = load(testing::tiny_olmoe());
    ImportanceOptions options;
    options.policy = RoutingPolicy::parse("top-k:2,ban=1.3");
    options.lend_rows = 0;
    ImportanceSums sums = collect(model, 45, options);
    sums.datasets = {"a.txt", "b.txt"};
    sums.chunk_tokens = 16;
    write_importance(directory_ / "i.gguf", sums);
    const PlainGguf file(read_file(directory_ / "i.gguf"));
    EXPECT_EQ(file.texts.at("general.type"), std::vector<std::string>{"imatrix"});
    EXPECT_EQ(file.texts.at("imatrix.datasets"), sums.datasets);
    EXPECT_EQ(file.numbers.at("imatrix.chunk_count"), 3u);
    EXPECT_EQ(file.numbers.at("imatrix.chunk_size"), 16u);
    EXPECT_EQ(file.numbers.size() + file.texts.size(), 4u);
    size_t entries = 0;
    for (const auto& [name, entry] : sums.tensors) {
        if (total(entry.counts) == 0) continue;
        ++entries;
        const auto& squares = file.tensors.at(name + ".in_sum2");
        const auto& counts = file.tensors.at(name + ".counts");
        const auto matrices = static_cast<uint64_t>(entry.matrices());
        const auto cols = static_cast<uint64_t>(entry.cols);
        EXPECT_EQ(squares.dimensions, (std::vector<uint64_t>{cols, matrices})) << name;
        EXPECT_EQ(counts.dimensions, (std::vector<uint64_t>{1, matrices})) << name;
        EXPECT_EQ(squares.values, std::vector<float>(entry.sums.begin(), entry.sums.end()));
        EXPECT_EQ(counts.values, std::vector<float>(entry.counts.begin(), entry.counts.end()));
    }
    EXPECT_EQ(file.tensors.size(), 2 * entries);
    EXPECT_EQ(file.order.size(), 2 * entries) << "a name twice";
    EXPECT_EQ(file.tensors.at("blk.1.ffn_up_exps.weight.counts").values[3], 0);
    EXPECT_EQ(file.tensors.count("output.weight.in_sum2"), 0u);
}

TEST(ImportanceSums, OneCountStandsForAllMatricesOfAStack) {
    ImportanceSums ours, theirs;
    ours.tensors["blk.0.attn_k_b.weight"].resize(2, 3);
    ours.tensors["blk.0.attn_k_b.weight"].counts = {4, 4};
    ImportanceSums::Entry& one = theirs.tensors["blk.0.attn_k_b.weight"];
    one.resize(1, 6);
    one.sums = {1, 2, 3, 4, 5, 6};
    one.counts = {10};
    ImportanceSums both = ours;
    both.add(theirs, "theirs");
    theirs.add(ours, "ours");
    for (const ImportanceSums& sums : {both, theirs}) {
        const ImportanceSums::Entry& entry = sums.tensors.at("blk.0.attn_k_b.weight");
        EXPECT_EQ(entry.cols, 3);
        EXPECT_EQ(entry.counts, (std::vector<double>{14, 14}));
        EXPECT_EQ(entry.sums, (std::vector<double>{1, 2, 3, 4, 5, 6}));
    }
    ImportanceSums other;
    other.tensors["blk.0.attn_k_b.weight"].resize(3, 2);
    EXPECT_THAT([&] { both.add(other, "other"); },
                ThrowsMessage<Error>(HasSubstr("has 3 x 2 values, expected 2 x 3")));
}

TEST_F(ImportanceTest, ChunksAddUp) {
    const Model model = load(testing::tiny_muster());
    ImportanceOptions options;
    options.process_head = true;
    const ImportanceSums whole = collect(model, 60, options);
    options.most_chunks = 1;
    ImportanceSums parts = collect(model, 60, options);
    options.most_chunks = 0;
    options.from_chunk = 1;
    const auto ids = testing::random_tokens(model.config(), 60);
    options.window = 16;
    EXPECT_EQ(collect_importance(model, team_, ids, options, parts), 4);
    EXPECT_EQ(parts.chunks, whole.chunks);
    for (const auto& [name, entry] : whole.tensors) {
        EXPECT_EQ(parts.tensors.at(name).counts, entry.counts) << name;
        for (size_t i = 0; i < entry.sums.size(); ++i)
            EXPECT_NEAR(parts.tensors.at(name).sums[i], entry.sums[i], 1e-9 * entry.sums[i]);
    }
    EXPECT_EQ(total(whole.tensors.at("token_embd.weight").counts), 64) << "the tied head";
}

TEST_F(ImportanceTest, RefusesWhatDoesNotFit) {
    const Model model = load(testing::tiny_olmoe());
    const auto ids = testing::random_tokens(model.config(), 20);
    ImportanceSums other;
    other.tensors["blk.9.attn_q.weight"].resize(1, 32);
    ImportanceOptions options;
    options.window = 16;
    EXPECT_THAT([&] { collect_importance(model, team_, ids, options, other); },
                ThrowsMessage<Error>(HasSubstr("blk.9.attn_q.weight is not in the model")));
    ImportanceSums wide;
    wide.tensors["blk.0.attn_q.weight"].resize(1, 64);
    EXPECT_THAT([&] { collect_importance(model, team_, ids, options, wide); },
                ThrowsMessage<Error>(HasSubstr("of another model")));
    ImportanceSums none;
    EXPECT_THROW(collect_importance(model, team_, {}, options, none), Error);
    options.from_chunk = 7;
    EXPECT_THROW(collect_importance(model, team_, ids, options, none), Error);
    write_file(directory_ / "x", "GGUF");
    EXPECT_THROW(read_importance_sums(directory_ / "x"), Error);
    EXPECT_THROW(read_importance_sums(directory_ / "model.gguf"), Error);
}

}  // namespace
}  // namespace muster
