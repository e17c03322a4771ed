// SPDX-License-Identifier: Apache-2.0
// For tests: a terminal in memory, and a tiny model with what the demo ships.
#pragma once

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "muster/cli/program.h"
#include "muster/cli/terminal.h"
#include "muster/core/atomic_file.h"
#include "muster/model/export.h"
#include "muster/model/testing.h"

namespace muster::cli {

/// Runs commands with streams in memory.
struct TestTerminal {
    std::istringstream in;
    std::ostringstream out, err;
    Terminal terminal{in, out, err};

    int run(const std::vector<std::string>& words, const std::string& input = "") {
        in = std::istringstream(input);
        out.str("");
        err.str("");
        return run_program(words, terminal);
    }
};

/// A directory like models/: default.gguf, made from random weights, and two held-out texts.
class TinyModel {
  public:
    TinyModel() {
        const auto config = testing::tiny_olmoe();
        testing::random_checkpoint(config).write(directory_ / "checkpoint");
        export_gguf(directory_ / "checkpoint", path(), DType::f32);
        std::filesystem::create_directories(directory_ / "heldout");
        write_file(directory_ / "heldout/letters.txt", "the theme of the other then, there\n");
        write_file(directory_ / "heldout/numbers.txt", "one two three four five six seven\n");
    }
    std::filesystem::path operator/(const std::string& name) const { return directory_ / name; }
    std::filesystem::path path() const { return directory_ / "default.gguf"; }

  private:
    testing::TemporaryDirectory directory_;
};

}  // namespace muster::cli
