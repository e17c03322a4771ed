// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace muster {

/// One text that may continue a context.
struct Choice {
    std::string text;  ///< without the delimiter before it
    bool right = false;
};

/// One question of a task, as the model reads it.
struct TaskItem {
    std::string id;     ///< the file's own, or its place there
    std::string group;  ///< a label, or empty
    std::string context;
    std::string delimiter = " ";       ///< between context and continuation
    std::vector<Choice> choices;       ///< of a cloze, the one right text; of answers none
    std::vector<std::string> answers;  ///< right ones, the usual one first, or none
};

}  // namespace muster
