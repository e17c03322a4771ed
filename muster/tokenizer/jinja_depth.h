// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "muster/tokenizer/jinja_interpreter.h"

namespace muster::jinja {

/// Counts nested evaluation for as long as it lives. Throws Fault.
class Interpreter::Depth {
  public:
    Depth(int& depth, const Limits& limits) : depth_(depth) {
        if (depth_ >= limits.depth) throw Fault("macros or loops call themselves too deeply");
        ++depth_;
    }
    ~Depth() { --depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

  private:
    int& depth_;
};

}  // namespace muster::jinja
