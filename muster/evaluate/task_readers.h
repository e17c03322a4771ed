// SPDX-License-Identifier: Apache-2.0
// Readers of published evaluation data: one file of source for each form, named in its comment. All
// throw Error with file and line (in a .json document: with the record's number) when the file
// cannot be read, is damaged or has another form. Contexts are those of lm-evaluation-harness.
#pragma once

#include <filesystem>
#include <vector>

#include "muster/evaluate/task_item.h"

namespace muster {

/// TruthfulQA (Lin et al. 2021), "Q: …\nA:". mc_task.json (a list) or .jsonl: "question" and
/// "mc1_targets" or "mc2_targets", each an object of answers with 1 or 0, or of lists "choices" and
/// "labels"; TruthfulQA.csv: the best answer (MC1) or all correct answers (MC2) against the
/// incorrect ones, grouped by category. read_truthfulqa.cpp
std::vector<TaskItem> read_truthfulqa_mc1(const std::filesystem::path& path);
std::vector<TaskItem> read_truthfulqa_mc2(const std::filesystem::path& path);

/// FACTOR (Muhlgay et al. 2023), .csv: "turncated_prefixes" (as published) or "full_prefix",
/// "completion", "contradiction_0" and on. read_factor.cpp
std::vector<TaskItem> read_factor(const std::filesystem::path& path);

/// HellaSwag (Zellers et al. 2019), hellaswag_val.jsonl: "activity_label", "ctx_a", "ctx_b",
/// "endings", "label"; WikiHow's marks in brackets are taken out. read_hellaswag.cpp
std::vector<TaskItem> read_hellaswag(const std::filesystem::path& path);

/// ARC (Clark et al. 2018), "Question: …\nAnswer:". .jsonl: "question" with "stem" and "choices",
/// or Hugging Face's "question" and "choices" with lists "text" and "label"; "answerKey". .csv:
/// "question" with its choices in it, "AnswerKey". read_arc.cpp
std::vector<TaskItem> read_arc(const std::filesystem::path& path);

/// PIQA (Bisk et al. 2019), "Question: …\nAnswer:". .jsonl: "goal", "sol1", "sol2" and "label", or
/// without it with the labels in NAME-labels.lst beside NAME.jsonl. read_piqa.cpp
std::vector<TaskItem> read_piqa(const std::filesystem::path& path);

/// TriviaQA (Joshi et al. 2017), "Question: …?\nAnswer:". .json as published ("Data"), or Hugging
/// Face's .jsonl; right answers are the value, the aliases and the normalised aliases.
/// read_triviaqa.cpp
std::vector<TaskItem> read_triviaqa(const std::filesystem::path& path);

/// Texts whose end is to be guessed. .jsonl: "text", whose last word is the target (LAMBADA,
/// Paperno et al. 2016), or "context" and "target"; "id" and "domain" as labels. .txt: a text a
/// line. read_cloze.cpp
std::vector<TaskItem> read_cloze(const std::filesystem::path& path);

}  // namespace muster
