// SPDX-License-Identifier: Apache-2.0
#include "muster/model/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "muster/checkpoint/gguf.h"
#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/random.h"
#include "muster/core/test_directory.h"
#include "muster/core/thread_team.h"
#include "muster/quant/convert.h"
#include "muster/quant/quantize.h"

namespace muster {
namespace {

constexpr int kLayers = 16, kExperts = 4;

class QuantizeModel : public ::testing::Test {
  protected:
    QuantizeModel() {
        writer.set_string("general.architecture", "olmoe");
        writer.set_u32("olmoe.block_count", kLayers);
        writer.set_u32("olmoe.expert_count", kExperts);
        writer.set_u32("olmoe.attention.head_count", 4);
        writer.set_u32("olmoe.attention.head_count_kv", 4);
        writer.set_i32s("tokenizer.ggml.token_type", {1, 3, -1});
        add("token_embd.weight", {40, 256});
        add("output.weight", {40, 256});
        add("output_norm.weight", {256});
        for (int l = 0; l < kLayers; ++l) {
            const std::string blk = "blk." + std::to_string(l) + ".";
            add(blk + "attn_norm.weight", {256});
            add(blk + "attn_q.weight", {8, 256});
            add(blk + "attn_v.weight", {8, 256});
            add(blk + "attn_output.weight", {8, 96});
            add(blk + "attn_k.weight", {8, 40});
            add(blk + "ffn_gate_inp.weight", {kExperts, 256});
            add(blk + "ffn_down_exps.weight", {kExperts, 4, 256});
            add(blk + "ffn_down_exps.bias", {kExperts, 256});
        }
    }

    void add(const std::string& name, const std::vector<int64_t>& shape) {
        int64_t n = 1;
        for (const int64_t d : shape) n *= d;
        std::vector<std::byte> bytes(static_cast<size_t>(n) * 4);
        for (int64_t i = 0; i < n; ++i) {
            const auto value = static_cast<float>(random.normal());
            std::memcpy(bytes.data() + 4 * i, &value, 4);
        }
        writer.add_tensor(name, DType::f32, shape, std::move(bytes));
    }
    std::filesystem::path source() {
        writer.write(directory / "in.gguf");
        return directory / "in.gguf";
    }
    QuantizeReport quantize(const std::string& target, const ImportanceMatrix* importance = nullptr,
                            int threads = 2) {
        const GgufFile model(source());
        QuantizeSettings settings;
        settings.target = parse_quantize_target(target);
        settings.importance = importance;
        settings.importance_name = "x";
        ThreadTeam team(threads);
        return quantize_model(model, directory / "out.gguf", settings, team);
    }
    DType planned(const std::string& target, const std::string& tensor) {
        const GgufFile model(source());
        for (const TensorType& t :
             plan_tensor_types(model, parse_quantize_target(target), false, false))
            if (t.name == tensor) return t.to;
        ADD_FAILURE() << tensor;
        return DType::i32;
    }

    Random random{3};
    GgufWriter writer;
    TemporaryDirectory directory;
};

// By hand from llama.cpp's rules; with 16 layers, more bits go to layers 0, 1, 4, 7, 10, 13 to 15.
TEST_F(QuantizeModel, FormatsAreThoseOfTheMixture) {
    EXPECT_EQ(planned("Q4_K_M", "output.weight"), DType::q6_k);
    EXPECT_EQ(planned("Q4_K_M", "token_embd.weight"), DType::q4_k);
    EXPECT_EQ(planned("Q4_K_M", "output_norm.weight"), DType::f32);
    for (int l = 0; l < kLayers; ++l) {
        const std::string blk = "blk." + std::to_string(l) + ".";
        const bool more = l < 2 || l >= 14 || (l - 2) % 3 == 2;
        EXPECT_EQ(planned("q4_k_m", blk + "attn_v.weight"), more ? DType::q6_k : DType::q4_k) << l;
        EXPECT_EQ(planned("q5_k", blk + "ffn_down_exps.weight"), more ? DType::q6_k : DType::q5_k);
    }
    EXPECT_EQ(planned("Q4_K_M", "blk.3.ffn_gate_inp.weight"), DType::f32);
    EXPECT_EQ(planned("Q4_K_M", "blk.3.ffn_down_exps.bias"), DType::f32);
    EXPECT_EQ(planned("Q4_K_M", "blk.3.attn_norm.weight"), DType::f32);
    EXPECT_EQ(planned("Q4_K_M", "blk.3.attn_output.weight"), DType::q5_0) << "rows of 96";
    EXPECT_EQ(planned("Q4_K_M", "blk.3.attn_k.weight"), DType::f16) << "rows of 40";
    EXPECT_EQ(planned("Q4_K_S", "blk.3.attn_v.weight"), DType::q5_k);
    EXPECT_EQ(planned("Q4_K_S", "blk.10.attn_v.weight"), DType::q4_k) << "layer 10, not 1.0";
    EXPECT_EQ(planned("Q3_K_M", "blk.0.ffn_down_exps.weight"), DType::q5_k);
    EXPECT_EQ(planned("Q3_K_M", "blk.1.ffn_down_exps.weight"), DType::q4_k);
    EXPECT_EQ(planned("Q2_K", "blk.9.attn_v.weight"), DType::q3_k);
    EXPECT_EQ(planned("MXFP4", "blk.9.ffn_down_exps.weight"), DType::mxfp4);
    EXPECT_EQ(planned("MXFP4", "blk.9.attn_q.weight"), DType::q8_0);
    EXPECT_EQ(planned("Q8_0", "output.weight"), DType::q8_0);
    EXPECT_EQ(planned("F16", "blk.9.attn_q.weight"), DType::f16);
    EXPECT_EQ(planned("F16", "blk.9.ffn_gate_inp.weight"), DType::f32);
}

TEST_F(QuantizeModel, WritesWhatQuantizeRowsMakesAndKeepsTheRest) {
    const QuantizeReport report = quantize("Q4_K_M");
    const GgufFile in(directory / "in.gguf"), out(directory / "out.gguf");
    EXPECT_EQ(out.integer("general.file_type"), 15);
    EXPECT_EQ(out.integer("general.quantization_version"), 2);
    EXPECT_EQ(out.integers("tokenizer.ggml.token_type"), (std::vector<int64_t>{1, 3, -1}));
    EXPECT_EQ(out.stored_type("olmoe.block_count"), in.stored_type("olmoe.block_count"));
    ASSERT_EQ(out.tensors().size(), in.tensors().size());
    ASSERT_EQ(report.tensors.size(), in.tensors().size());
    int64_t bytes = 0;
    for (const auto& [name, view] : out.tensors()) {
        const TensorView& source = in.tensors().find(name)->second;
        ASSERT_EQ(view.shape, source.shape);
        std::vector<std::byte> expected(static_cast<size_t>(view.bytes()));
        encode_row(view.dtype, reinterpret_cast<const float*>(source.data), expected.data(),
                   source.elements());
        EXPECT_EQ(std::memcmp(view.data, expected.data(), expected.size()), 0) << name;
        bytes += view.bytes();
    }
    EXPECT_EQ(report.bytes_after, bytes);
    EXPECT_GT(report.relative_error, 0.01);
    EXPECT_LT(report.relative_error, 0.08);
}

TEST_F(QuantizeModel, ThreadsDoNotMatter) {
    quantize("Q3_K_M", nullptr, 1);
    const std::string one = read_file(directory / "out.gguf");
    quantize("Q3_K_M", nullptr, 3);
    EXPECT_EQ(read_file(directory / "out.gguf"), one);
}

// Every expert's rows are weighted by its own importance.
TEST_F(QuantizeModel, ImportanceIsPerExpert) {
    ImportanceMatrix importance;
    std::vector<float>& all = importance.values["blk.3.ffn_down_exps.weight"];
    for (int i = 0; i < kExperts * 256; ++i)
        all.push_back(static_cast<float>(std::exp(random.normal())));
    const QuantizeReport report = quantize("Q4_K_S", &importance);
    for (const QuantizedTensor& t : report.tensors)
        EXPECT_EQ(t.weighted, t.type.name == "blk.3.ffn_down_exps.weight");
    const GgufFile in(directory / "in.gguf"), out(directory / "out.gguf");
    EXPECT_EQ(out.integer("quantize.imatrix.entries_count"), 1);
    const TensorView& from = in.tensors().find("blk.3.ffn_down_exps.weight")->second;
    const TensorView& to = out.tensors().find("blk.3.ffn_down_exps.weight")->second;
    ASSERT_EQ(to.dtype, DType::q4_k);
    std::vector<std::byte> expected(static_cast<size_t>(to.bytes()) / kExperts);
    for (int e = 0; e < kExperts; ++e) {
        quantize_rows(to.dtype, reinterpret_cast<const float*>(from.data) + e * 4 * 256, 4, 256,
                      std::span(all).subspan(static_cast<size_t>(e) * 256, 256), expected.data());
        EXPECT_EQ(std::memcmp(to.data + static_cast<size_t>(e) * expected.size(), expected.data(),
                              expected.size()),
                  0);
    }
    all.pop_back();
    EXPECT_THROW(quantize("Q4_K_S", &importance), Error);
}

// Importance matrices name experts by their stack, even where a file has each in its own tensor.
TEST_F(QuantizeModel, ExpertsThatStandApartFindTheirImportance) {
    add("blk.3.ffn_up.1.weight", {4, 256});
    add("blk.3.ffn_up.x.weight", {4, 256});
    ImportanceMatrix importance;
    std::vector<float>& all = importance.values["blk.3.ffn_up_exps.weight"];
    for (int i = 0; i < 2 * 256; ++i) all.push_back(static_cast<float>(std::exp(random.normal())));
    const QuantizeReport report = quantize("Q4_K_S", &importance);
    for (const QuantizedTensor& t : report.tensors)
        EXPECT_EQ(t.weighted, t.type.name == "blk.3.ffn_up.1.weight");
    const GgufFile in(directory / "in.gguf"), out(directory / "out.gguf");
    const TensorView& from = in.tensor("blk.3.ffn_up.1.weight", {4, 256});
    const TensorView& to = out.tensor("blk.3.ffn_up.1.weight", {4, 256});
    std::vector<std::byte> expected(static_cast<size_t>(to.bytes()));
    quantize_rows(to.dtype, reinterpret_cast<const float*>(from.data), 4, 256,
                  std::span(all).subspan(256), expected.data());
    EXPECT_EQ(std::memcmp(to.data, expected.data(), expected.size()), 0);
    all.resize(256);
    EXPECT_THROW(quantize("Q4_K_S", &importance), Error) << "of fewer experts";
}

TEST_F(QuantizeModel, RefusesWhatWouldBeWorthless) {
    std::vector<std::byte> bytes(1024);
    const float nan = std::nanf("");
    std::memcpy(bytes.data() + 512, &nan, 4);
    writer.add_tensor("blk.0.attn_x.weight", DType::f32, {1, 256}, bytes);
    EXPECT_THROW(quantize("Q4_K_M"), Error);
    EXPECT_FALSE(std::filesystem::exists(directory / "out.gguf"));
    EXPECT_THROW(parse_quantize_target("IQ2_XS"), Error);
    EXPECT_THROW(parse_quantize_target("Q7"), Error);
}

TEST_F(QuantizeModel, RefusesWhatTheFormatCannotHold) {
    const auto with = [&](float value) {
        std::vector<float> values(512, 1);
        values[200] = value;
        GgufWriter small;
        small.set_string("general.architecture", "olmoe");
        small.set_u32("olmoe.block_count", 1);
        small.set_u32("olmoe.attention.head_count", 4);
        small.set_u32("olmoe.attention.head_count_kv", 4);
        const auto bytes = std::as_bytes(std::span(values));
        small.add_tensor("blk.0.attn_q.weight", DType::f32, {2, 256}, {bytes.begin(), bytes.end()});
        small.write(directory / "in.gguf");
    };
    const auto quantized = [&](const std::string& target) {
        const GgufFile model(directory / "in.gguf");
        SerialExecutor executor;
        QuantizeSettings settings;
        settings.target = parse_quantize_target(target);
        settings.pure = true;
        quantize_model(model, directory / "out.gguf", settings, executor);
    };
    const auto refused = [&](const std::string& target) -> std::string {
        try {
            quantized(target);
        } catch (const Error& e) {
            EXPECT_FALSE(std::filesystem::exists(directory / "out.gguf"));
            return e.what();
        }
        std::filesystem::remove(directory / "out.gguf");
        return "";
    };
    with(1e6f);
    EXPECT_NE(refused("F16").find("'blk.0.attn_q.weight' holds 1000000, which f16 cannot: its "
                                  "largest value is 65504"),
              std::string::npos)
        << refused("F16");
    EXPECT_NE(refused("Q4_0").find("524032"), std::string::npos);
    for (const char* target : {"BF16", "Q8_0", "Q4_1", "Q6_K", "MXFP4"})
        EXPECT_EQ(refused(target), "") << target;
    with(-1e9f);
    for (const char* target : {"F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q6_K", "Q5_K_S",
                               "Q4_K_S", "Q3_K_S", "Q2_K", "IQ4_NL", "IQ4_XS"})
        EXPECT_NE(refused(target).find("holds -1"), std::string::npos) << target;
    EXPECT_EQ(refused("BF16"), "");
}

TEST_F(QuantizeModel, QuantisedWeightsNeedPermission) {
    quantize("Q8_0");
    const GgufFile model(directory / "out.gguf");
    SerialExecutor executor;
    QuantizeSettings settings;
    settings.target = parse_quantize_target("Q4_0");
    EXPECT_THROW(quantize_model(model, directory / "again.gguf", settings, executor), Error);
    settings.allow_requantize = true;
    quantize_model(model, directory / "again.gguf", settings, executor);
    EXPECT_EQ(GgufFile(directory / "again.gguf").integer("general.file_type"), 2);
}

TEST_F(QuantizeModel, ALayerBeyondTheModelIsRefused) {
    add("blk.16.attn_q.weight", {8, 256});
    EXPECT_THROW(quantize("Q4_K_M"), Error);
}

class Importance : public ::testing::Test {
  protected:
    void put_tensor(const std::string& name, std::vector<int64_t> shape,
                    const std::vector<float>& values) {
        std::vector<std::byte> bytes(values.size() * 4);
        std::memcpy(bytes.data(), values.data(), bytes.size());
        writer.add_tensor(name, DType::f32, std::move(shape), std::move(bytes));
    }
    ImportanceMatrix read() {
        writer.write(directory / "i.gguf");
        return read_importance(directory / "i.gguf");
    }
    GgufWriter writer;
    TemporaryDirectory directory;
};

TEST_F(Importance, GgufSumsBecomeMeans) {
    writer.set_string("general.type", "imatrix");
    writer.set_u32("imatrix.chunk_count", 7);
    put_tensor("a.weight.in_sum2", {1, 2}, {6, 9});
    put_tensor("a.weight.counts", {1, 1}, {3});
    put_tensor("e.weight.in_sum2", {3, 2}, {2, 4, 0, 0, 9, 3});
    put_tensor("e.weight.counts", {3, 1}, {2, 0, 3});
    const ImportanceMatrix m = read();
    EXPECT_EQ(m.chunks, 7);
    EXPECT_EQ(m.values.at("a.weight"), (std::vector<float>{2, 3}));
    EXPECT_EQ(m.values.at("e.weight"), (std::vector<float>{1, 2, 2, 1.5f, 3, 1}))
        << "the expert that was never called has the mean of the others";
}

TEST_F(Importance, DamagedGgufIsRefused) {
    writer.set_string("general.type", "imatrix");
    put_tensor("a.weight.in_sum2", {1, 2}, {6, -9});
    EXPECT_THROW(read(), Error) << "no counts";
    put_tensor("a.weight.counts", {1, 1}, {3});
    EXPECT_THROW(read(), Error) << "a negative sum of squares";
    writer.set_string("general.type", "model");
    EXPECT_THROW(read(), Error);
}

TEST_F(Importance, DatOfAnyLengthIsReadOrRefused) {
    std::string bytes;
    const auto put = [&](auto value) {
        bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
    };
    put(int32_t{1});
    put(int32_t{8});
    bytes += "a.weight";
    put(int32_t{4});
    put(int32_t{2});
    put(8.0f);
    put(2.0f);
    write_file(directory / "i.dat", bytes);
    EXPECT_EQ(read_importance(directory / "i.dat").values.at("a.weight"),
              (std::vector<float>{2, 0.5f}));
    EXPECT_EQ(read_importance(directory / "i.dat").chunks, 0);
    for (size_t n = 0; n < bytes.size(); ++n) {
        write_file(directory / "i.dat", bytes.substr(0, n));
        EXPECT_THROW(read_importance(directory / "i.dat"), Error) << n;
    }
    put(int32_t{5});
    put(int32_t{5});
    bytes += "a.txt";
    write_file(directory / "i.dat", bytes);
    EXPECT_EQ(read_importance(directory / "i.dat").chunks, 5);
}

}  // namespace
}  // namespace muster
