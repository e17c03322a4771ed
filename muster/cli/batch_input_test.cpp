// SPDX-License-Identifier: Apache-2.0
#include "muster/cli/batch_input.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <streambuf>

#include "muster/core/error.h"

namespace muster::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using Got = BatchInput::Got;

constexpr int kLong = 60'000;  // milliseconds that no test should take

class Pipe : public ::testing::Test {
  protected:
    Pipe() { EXPECT_EQ(::pipe(ends_), 0); }
    ~Pipe() override {
        ::close(ends_[0]);
        if (ends_[1] >= 0) ::close(ends_[1]);
    }
    void write(const std::string& text) {
        EXPECT_EQ(::write(ends_[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
    }
    void close() {
        ::close(ends_[1]);
        ends_[1] = -1;
    }
    Got read(int milliseconds = 0) { return input().read(line, milliseconds, "name"); }
    BatchInput& input() {
        if (!input_) input_.emplace(ends_[0]);
        return *input_;
    }
    std::string line;

  private:
    int ends_[2] = {-1, -1};
    std::optional<BatchInput> input_;
};

TEST_F(Pipe, GivesWhatIsThere) {
    EXPECT_EQ(read(), Got::nothing);
    write("one\n\ntw");
    EXPECT_EQ(read(kLong), Got::line);
    EXPECT_EQ(line, "one");
    EXPECT_EQ(read(), Got::line);
    EXPECT_EQ(line, "");
    EXPECT_EQ(read(), Got::nothing) << "half a line is none";
    write("o\nthree\nlast");
    EXPECT_EQ(read(), Got::line);
    EXPECT_EQ(line, "two");
    EXPECT_EQ(read(), Got::line);
    EXPECT_EQ(line, "three");
    EXPECT_EQ(read(), Got::nothing);
    close();
    EXPECT_EQ(read(kLong), Got::line);
    EXPECT_EQ(line, "last");
    EXPECT_EQ(read(kLong), Got::end);
    EXPECT_EQ(read(kLong), Got::end);
}

TEST_F(Pipe, LinesMayBeLongerThanARead) {
    const std::string half(40'000, 'x');
    write(half);
    EXPECT_EQ(read(), Got::nothing);
    write(half + "\n");
    EXPECT_EQ(read(), Got::line);
    EXPECT_EQ(line, half + half);
    close();
    EXPECT_EQ(read(), Got::end);
}

TEST_F(Pipe, WaitsNoLongerThanAsked) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(read(20), Got::nothing);
    const auto waited = std::chrono::steady_clock::now() - start;
    EXPECT_GE(waited, std::chrono::milliseconds(15));
    EXPECT_LT(waited, std::chrono::seconds(10));
}

TEST(BatchInput, FailureOfADescriptorIsNoEnd) {
    const int directory = ::open("/", O_RDONLY | O_DIRECTORY);
    ASSERT_GE(directory, 0);
    BatchInput input(directory);
    std::string line;
    EXPECT_THAT([&] { input.read(line, 0, "name"); },
                ThrowsMessage<Error>(HasSubstr("[name] cannot be read")));
    ::close(directory);
}

/// One line, then a disk that fails.
class BrokenBuffer : public std::streambuf {
    int_type underflow() override {
        if (given_) throw std::runtime_error("broken");
        given_ = true;
        setg(text_, text_, text_ + 4);
        return traits_type::to_int_type(text_[0]);
    }
    char text_[5] = "one\n";
    bool given_ = false;
};

TEST(BatchInput, StreamsEndOrBreak) {
    std::string line;
    std::istringstream two("one\ntwo");
    BatchInput whole(two);
    EXPECT_EQ(whole.read(line, 0, "name"), Got::line);
    EXPECT_EQ(whole.read(line, 0, "name"), Got::line);
    EXPECT_EQ(line, "two");
    EXPECT_EQ(whole.read(line, 0, "name"), Got::end);

    BrokenBuffer buffer;
    std::istream stream(&buffer);
    BatchInput broken(stream);
    EXPECT_EQ(broken.read(line, 0, "name"), Got::line);
    EXPECT_THAT([&] { broken.read(line, 0, "name"); },
                ThrowsMessage<Error>(HasSubstr("[name] cannot be read")));
}

}  // namespace
}  // namespace muster::cli
