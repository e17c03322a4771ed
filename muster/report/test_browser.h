// SPDX-License-Identifier: Apache-2.0
// For tests: pages in a headless Chromium (packages.txt, group test).
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <string>

#include "muster/core/atomic_file.h"
#include "muster/core/test_directory.h"

namespace muster::testing {

/// Runs Chromium with a profile of its own; tests fail, they are not skipped, where it is missing.
class Browser {
  public:
    /// What the page is after its scripts have run.
    std::string dom(const std::filesystem::path& page, const std::string& flags = "") {
        return run("--dump-dom " + flags, page);
    }
    void screenshot(const std::filesystem::path& page, const std::filesystem::path& png,
                    const std::string& flags = "") {
        run("--hide-scrollbars --screenshot='" + png.string() + "' " + flags, page);
    }
    void print(const std::filesystem::path& page, const std::filesystem::path& pdf) {
        run("--print-to-pdf='" + pdf.string() + "'", page);
    }

    /// Switches on what prefers-color-scheme: dark asks for.
    static constexpr const char* kDark = "--blink-settings=preferredColorScheme=0";

  private:
    std::string run(const std::string& flags, const std::filesystem::path& page) {
        const std::string profile = (directory_ / "profile").string();
        const std::string command =
            "timeout 120 chromium --headless --no-sandbox --disable-gpu "
            "--no-first-run --disable-dev-shm-usage --user-data-dir='" +
            profile + "' " + flags + " 'file://" + page.string() + "' 2>'" + profile + ".log'";
        std::string out;
        std::FILE* pipe = ::popen(command.c_str(), "r");
        if (pipe == nullptr) return out;
        std::array<char, 65536> buffer;
        for (size_t n; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
            out.append(buffer.data(), n);
        const int status = ::pclose(pipe);
        EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0)
            << "chromium failed or is missing (tools/install-packages test):\n"
            << read_file(profile + ".log");
        return out;
    }

    TemporaryDirectory directory_;
};

}  // namespace muster::testing
