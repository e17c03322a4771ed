// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <filesystem>
#include <string>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/mapped_file.h"
#include "muster/core/test_directory.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;

class Files : public testing::Test {
  protected:
    size_t entries() const {
        return static_cast<size_t>(
            std::distance(fs::directory_iterator(directory_.path()), fs::directory_iterator()));
    }
    TemporaryDirectory directory_;
};

TEST_F(Files, CommitReplacesAndLeavesNothingBeside) {
    const fs::path path = directory_ / "a";
    write_file(path, "old");
    AtomicFile file(path);
    file.write("new ");
    file.write("content");
    EXPECT_EQ(file.size(), 11u);
    EXPECT_EQ(read_file(path), "old");
    file.commit();
    EXPECT_EQ(read_file(path), "new content");
    EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, WithoutCommitTheOldFileStays) {
    const fs::path path = directory_ / "a";
    write_file(path, "old");
    { AtomicFile(path).write("half"); }
    EXPECT_EQ(read_file(path), "old");
    EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, ErrorsNameThePath) {
    EXPECT_THAT([&] { write_file(directory_ / "none/a", "x"); },
                ThrowsMessage<Error>(AllOf(HasSubstr("none/a"), Not(HasSubstr(".tmp")))));
    EXPECT_THAT([&] { read_file(directory_ / "missing"); },
                ThrowsMessage<Error>(HasSubstr("cannot open")));
    EXPECT_THAT([&] { read_file(directory_.path()); },
                ThrowsMessage<Error>(HasSubstr("is a directory")));
    write_file(directory_ / "long", std::string(100, 'x'));
    EXPECT_THAT([&] { read_file(directory_ / "long", 99); },
                ThrowsMessage<Error>(HasSubstr("longer than 99")));
    EXPECT_THAT([&] { MappedFile(directory_ / "missing"); },
                ThrowsMessage<Error>(HasSubstr("cannot open")));
    EXPECT_THAT([&] { MappedFile{directory_.path()}; },
                ThrowsMessage<Error>(HasSubstr("not a regular file")));
}

TEST_F(Files, MappingShowsTheBytesAndMoves) {
    write_file(directory_ / "m", "mapped");
    MappedFile a(directory_ / "m");
    MappedFile b = std::move(a);
    ASSERT_EQ(b.bytes().size(), 6u);
    EXPECT_EQ(static_cast<char>(b.bytes()[5]), 'd');
    EXPECT_TRUE(
        a.bytes().empty());  // NOLINT(bugprone-use-after-move): moved-from is empty by contract
    write_file(directory_ / "empty", "");
    EXPECT_TRUE(MappedFile(directory_ / "empty").bytes().empty());
}

}  // namespace
}  // namespace muster
