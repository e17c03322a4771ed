// SPDX-License-Identifier: Apache-2.0
#include "muster/experts/expert_bank.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "muster/core/error.h"

namespace muster {
namespace {

struct Stack {
    std::vector<float> values = std::vector<float>(3 * 4 * 2);
    const std::byte* data() const { return reinterpret_cast<const std::byte*>(values.data()); }
    TensorView up() const { return {DType::f32, {3, 4, 2}, data()}; }
    TensorView down() const { return {DType::f32, {3, 2, 4}, data()}; }
};

TEST(ExpertBank, SlicesStackedTensors) {
    const Stack s;
    const ExpertBank bank = make_stacked_bank(s.up(), s.up(), s.down(), Activation::silu);
    ASSERT_EQ(bank.size(), 3);
    EXPECT_TRUE(bank.gated);
    EXPECT_EQ(bank.d_model, 2);
    EXPECT_EQ(bank.max_width(), 4);
    EXPECT_EQ(bank.experts[2].gate.data, s.data() + 2 * 8 * sizeof(float));
    EXPECT_EQ(bank.experts[1].down.rows, 2);
    EXPECT_EQ(bank.experts[1].down.cols, 4);
    const ExpertBank plain = make_stacked_bank({}, s.up(), s.down(), Activation::relu);
    EXPECT_FALSE(plain.gated);
    EXPECT_TRUE(plain.experts[0].gate.empty());
}

TEST(ExpertBank, StackedShapesMustFit) {
    const Stack s;
    TensorView wrong = s.down();
    wrong.shape = {3, 4, 2};
    EXPECT_THROW(make_stacked_bank(s.up(), s.up(), wrong, Activation::silu), Error);
    wrong.shape = {2, 2, 4};
    EXPECT_THROW(make_stacked_bank(s.up(), s.up(), wrong, Activation::silu), Error);
    wrong = s.up();
    wrong.shape = {4, 2};
    EXPECT_THROW(make_stacked_bank({}, wrong, s.down(), Activation::silu), Error);
    EXPECT_THROW(make_stacked_bank({}, {}, s.down(), Activation::silu), Error);
}

TEST(ExpertBank, CheckNamesTheExpertAndTheMatrix) {
    const Stack s;
    const std::vector<float> bias(3);
    const ExpertBank good = make_stacked_bank(s.up(), s.up(), s.down(), Activation::silu);
    const auto message = [&](const std::function<void(ExpertBank&)>& spoil) -> std::string {
        ExpertBank bank = good;
        spoil(bank);
        try {
            bank.check();
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    };
    EXPECT_EQ(message([](ExpertBank&) {}), "");
    EXPECT_EQ(message([](ExpertBank& b) { b.experts[1].down.rows = 3; }),
              "[expert 1 down] has shape [3, 4], expected [2, 4]");
    EXPECT_EQ(message([](ExpertBank& b) { b.experts[2].gate = {}; }),
              "[expert 2 gate] is missing, expected [4, 2]");
    EXPECT_EQ(message([](ExpertBank& b) { b.experts[0].up.dtype = DType::q8_0; }),
              "[expert 0 up] has 2 columns, expected whole blocks of 32");
    EXPECT_EQ(message([](ExpertBank& b) { b.experts[0].up.dtype = DType::i32; }),
              "[expert 0 up] holds i32, expected a format of weights");
    EXPECT_EQ(message([&](ExpertBank& b) { b.experts[0].down_bias = bias; }),
              "[expert 0 down bias] has 3 values, expected 2");
    EXPECT_EQ(message([](ExpertBank& b) { b.gated = false; }),
              "[expert 0 gate] is present in a plain bank");
    EXPECT_EQ(message([](ExpertBank& b) { b.d_model = 0; }),
              "[expert bank] d_model is not positive");
}

TEST(ExpertBank, ActivationNamesGoBothWays) {
    for (Activation a : {Activation::relu, Activation::gelu, Activation::silu}) {
        EXPECT_EQ(parse_activation(activation_name(a)), a);
    }
    EXPECT_THROW(parse_activation("swish"), Error);
}

}  // namespace
}  // namespace muster
