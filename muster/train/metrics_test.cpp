// SPDX-License-Identifier: Apache-2.0
#include "muster/train/metrics.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <limits>

#include "muster/core/atomic_file.h"
#include "muster/core/test_directory.h"

namespace muster::train {
namespace {

namespace fs = std::filesystem;

// RFC 3720, B.4: the CRC-32C of 32 zero bytes is 0x8a9136aa.
TEST(Metrics, CrcMatchesTheStandard) {
    const uint32_t masked = masked_crc32c(std::string(32, '\0')) - 0xa282ead8u;
    EXPECT_EQ((masked >> 17) | (masked << 15), 0x8a9136aau);
}

TEST(Metrics, EventRecordsFrameAndDecode) {
    const TemporaryDirectory directory;
    {
        Metrics metrics(directory.path(), -1);
        metrics.write("train", 3,
                      {{"loss", 1.5}, {"bad", std::numeric_limits<double>::quiet_NaN()}});
    }
    fs::path events;
    for (const auto& entry : fs::directory_iterator(directory.path())) {
        if (entry.path().filename().string().starts_with("events.out.tfevents."))
            events = entry.path();
    }
    ASSERT_FALSE(events.empty());
    const std::string data = read_file(events);
    int records = 0;
    size_t at = 0;
    std::string last;
    while (at < data.size()) {
        uint64_t length = 0;
        uint32_t crc = 0;
        std::memcpy(&length, data.data() + at, 8);
        std::memcpy(&crc, data.data() + at + 8, 4);
        EXPECT_EQ(crc, masked_crc32c(std::string_view(data).substr(at, 8)));
        last = data.substr(at + 12, length);
        std::memcpy(&crc, data.data() + at + 12 + length, 4);
        EXPECT_EQ(crc, masked_crc32c(last));
        at += 16 + length;
        ++records;
    }
    EXPECT_EQ(at, data.size());
    EXPECT_EQ(records, 2);
    // protoc is the independent reader of the message itself.
    write_file(directory / "event.bin", last);
    write_file(directory / "event.proto",
               "syntax = \"proto3\";\nmessage Value { string tag = 1; float simple_value = 2; }\n"
               "message Summary { repeated Value value = 1; }\n"
               "message Event { double wall_time = 1; int64 step = 2; string file_version = 3; "
               "Summary summary = 5; }\n");
    const std::string d = directory.path().string();
    const std::string command =
        "protoc -I" + d + " --decode=Event event.proto < " + d + "/event.bin > " + d + "/event.txt";
    ASSERT_EQ(std::system(command.c_str()), 0);
    const std::string text = read_file(directory / "event.txt");
    EXPECT_NE(text.find("step: 3"), std::string::npos) << text;
    EXPECT_NE(text.find("tag: \"train/loss\""), std::string::npos) << text;
    EXPECT_NE(text.find("simple_value: 1.5"), std::string::npos) << text;
    EXPECT_EQ(text.find("bad"), std::string::npos) << text;
}

TEST(Metrics, ResumingDropsLaterLines) {
    const TemporaryDirectory directory;
    {
        Metrics(directory.path(), -1).write("train", 5, {{"loss", 1}}),
            Metrics(directory.path(), 5).write("train", 6, {{"loss", 2}});
    }
    { Metrics metrics(directory.path(), 5); }
    const std::string lines = read_file(directory / "metrics.jsonl");
    EXPECT_NE(lines.find("\"step\":5"), std::string::npos);
    EXPECT_EQ(lines.find("\"step\":6"), std::string::npos);
}

}  // namespace
}  // namespace muster::train
