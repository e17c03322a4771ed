// SPDX-License-Identifier: Apache-2.0
// Any bytes as a file of questions, in every published form and file type, give items that can be
// asked, or an Error.
#include <cstdlib>

#include "fuzz_folder.h"
#include "muster/evaluate/tasks.h"

namespace {

void check(const muster::Task& task, const std::vector<muster::TaskItem>& items) {
    if (items.empty()) std::abort();
    for (const muster::TaskItem& item : items) {
        size_t right = 0;
        for (const muster::Choice& choice : item.choices) right += choice.right;
        const bool fits = task.kind == muster::TaskKind::answers ? !item.answers.empty()
                          : task.kind == muster::TaskKind::cloze ? item.choices.size() == 1
                                                                 : item.choices.size() > right;
        if (!fits || (task.kind != muster::TaskKind::answers && right == 0)) std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2) return 0;
    static const muster::fuzzing::Folder folder;
    const auto all = muster::tasks();
    const muster::Task& task = all[data[0] % all.size()];
    constexpr const char* kNames[] = {"a.json", "a.jsonl", "a.csv", "a.txt"};
    const char* name = kNames[data[1] % 4];
    // PIQA has its labels in a file beside it, or among the questions.
    const auto [text, labels] = muster::fuzzing::halves(data + 2, size - 2);
    folder.write(name, text);
    folder.write("a-labels.lst", labels);
    if (labels.empty()) folder.remove("a-labels.lst");
    try {
        check(task, muster::read_task(task, {folder.path() / name}));
    } catch (const muster::Error&) {
    }
    folder.remove(name);
    return 0;
}
