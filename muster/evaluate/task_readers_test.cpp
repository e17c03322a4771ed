// SPDX-License-Identifier: Apache-2.0
// Small files in the published forms, with invented content.
#include "muster/evaluate/task_readers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"
#include "muster/core/test_directory.h"
#include "muster/evaluate/tasks.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TaskReaders : public ::testing::Test {
  protected:
    std::vector<TaskItem> read(const char* task, const char* file, const std::string& content) {
        write_file(directory_ / file, content);
        return read_task(find_task(task), {directory_ / file});
    }
    /// The message, which is one sentence that names the file.
    std::string refusal(const char* task, const char* file, const std::string& content) {
        try {
            read(task, file, content);
        } catch (const Error& e) {
            EXPECT_THAT(e.what(), HasSubstr(std::string("/") + file));
            EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
            return e.what();
        }
        return "";
    }
    TemporaryDirectory directory_;
};

std::vector<std::string> texts(const TaskItem& item) {
    std::vector<std::string> out;
    for (const Choice& c : item.choices) out.push_back((c.right ? "+" : "-") + c.text);
    return out;
}

TEST_F(TaskReaders, TruthfulQaAsPublished) {
    const std::string json = R"([
 {"question": "Do stones float?",
  "mc0_targets": {"No": 1, "Yes": 0},
  "mc1_targets": {"Most stones sink": 1, "All stones float": 0, "Only at night": 0},
  "mc2_targets": {"Most stones sink": 1, "Pumice floats": 1, "All stones float": 0}},
 {"question": "Who?", "mc1_targets": {"A": 0, "B": 1}, "mc2_targets": {"A": 0, "B": 1}}
])";
    auto items = read("truthfulqa-mc1", "mc_task.json", json);
    ASSERT_EQ(items.size(), 2u);
    EXPECT_EQ(items[0].context, "Q: Do stones float?\nA:");
    EXPECT_EQ(items[0].delimiter, " ");
    EXPECT_THAT(texts(items[0]),
                ElementsAre("+Most stones sink", "-All stones float", "-Only at night"));
    items = read("truthfulqa-mc2", "mc_task.json", json);
    EXPECT_THAT(texts(items[0]),
                ElementsAre("+Most stones sink", "+Pumice floats", "-All stones float"));
    const std::string lists =
        R"({"question": "Who?", "mc1_targets": {"choices": ["x", "y"], "labels": [1, 0]}})";
    EXPECT_THAT(texts(read("truthfulqa-mc1", "hf.jsonl", lists)[0]), ElementsAre("+x", "-y"));
    EXPECT_THAT(refusal("truthfulqa-mc2", "hf.jsonl", lists), HasSubstr("\"mc2_targets\""));
    EXPECT_THAT(refusal("truthfulqa-mc1", "b.json", R"([{"question":"q","mc1_targets":{"a":2}}])"),
                HasSubstr("record 1"));
    EXPECT_THAT(refusal("truthfulqa-mc1", "b.json", R"([{"question":"q","mc1_targets":{"a":1}}])"),
                HasSubstr("1 true answers and 0 false ones, expected one true"));
    const char* both =
        R"([{"question":"q","mc1_targets":{"a":1,"b":1,"c":0},"mc2_targets":{"a":1,"b":1}}])";
    EXPECT_THAT(refusal("truthfulqa-mc1", "b.json", both), HasSubstr("2 true answers"));
    EXPECT_THAT(refusal("truthfulqa-mc2", "b.json", both), HasSubstr("0 false ones"));
    EXPECT_THAT(refusal("truthfulqa-mc1", "b.jsonl",
                        R"({"question":"q","mc1_targets":{"choices":["a"],"labels":[]}})"),
                HasSubstr("b.jsonl:1"));
}

TEST_F(TaskReaders, TruthfulQaTable) {
    const std::string csv =
        "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
        "Adversarial,Nature,\"Do stones, as such, float?\",Most sink,"
        "Most sink; Pumice floats; ,\"All float;Only \"\"big\"\" ones\",http://example.org\n";
    auto items = read("truthfulqa-mc1", "TruthfulQA.csv", csv);
    ASSERT_EQ(items.size(), 1u);
    EXPECT_EQ(items[0].group, "Nature");
    EXPECT_EQ(items[0].context, "Q: Do stones, as such, float?\nA:");
    EXPECT_THAT(texts(items[0]), ElementsAre("+Most sink", "-All float", "-Only \"big\" ones"));
    items = read("truthfulqa-mc2", "TruthfulQA.csv", csv);
    EXPECT_THAT(texts(items[0]),
                ElementsAre("+Most sink", "+Pumice floats", "-All float", "-Only \"big\" ones"));
    EXPECT_THAT(refusal("truthfulqa-mc1", "x.csv", "Question,Best Answer\nq,a\n"),
                HasSubstr("\"Incorrect Answers\""));
}

TEST_F(TaskReaders, FactorJoinsAsPublished) {
    const std::string csv =
        ",full_prefix,doc_id,completion,contradiction_0,contradiction_1,longest_completions,"
        "turncated_prefixes\n"
        "0,\"Much text. It rained. \",3, They stayed in.,They went out.,They slept.,4.0,"
        "\"It rained. \"\n"
        "1,\"One line.\nOther line.\n\",4,They left.,They came.,They sang.,4.0,"
        "\"Other line.\n\"\n";
    auto items = read("factor", "news_factor.csv", csv);
    ASSERT_EQ(items.size(), 2u);
    EXPECT_EQ(items[0].context + "|" + items[0].delimiter + "|", "It rained.| |");
    EXPECT_THAT(texts(items[0]),
                ElementsAre("+They stayed in.", "-They went out.", "-They slept."));
    EXPECT_EQ(items[1].context + "|" + items[1].delimiter + "|", "Other line.\n||");
    items = read("factor", "x.csv", "full_prefix,completion,contradiction_0\nA. ,b,c\n");
    EXPECT_EQ(items[0].context, "A.");
    EXPECT_THAT(refusal("factor", "x.csv", "full_prefix,completion\nA. ,b\n"),
                HasSubstr("\"contradiction_0\""));
    EXPECT_THAT(refusal("factor", "x.csv", "full_prefix,completion,contradiction_0\nA. ,b,\n"),
                HasSubstr("x.csv:2"));
    EXPECT_THAT(refusal("factor", "x.csv", "full_prefix,completion,contradiction_0\n\"A. ,b,c\n"),
                HasSubstr("quotes"));
}

TEST_F(TaskReaders, HellaSwagIsCleaned) {
    const std::string line =
        R"({"ind": 24, "activity_label": "Roof work", "ctx_a": "A man [substeps] sits  on a roof.",)"
        R"( "ctx_b": "then HE", "ctx": "unused", "split": "val", "label": 1, "endings":)"
        R"( ["[header] Jumps [title] Lands", "lays a tile.", "sings."], "source_id": "x~y"})";
    const auto items = read("hellaswag", "hellaswag_val.jsonl", line + "\n\n" + line + "\n");
    ASSERT_EQ(items.size(), 2u);
    EXPECT_EQ(items[0].id, "24");
    EXPECT_EQ(items[0].context, "Roof work: A man sits on a roof. Then he");
    EXPECT_THAT(texts(items[0]), ElementsAre("- Jumps. Lands", "+lays a tile.", "-sings."));
    const auto with_label = [&](const std::string& label) {
        std::string other = line;
        return other.replace(other.find("\"label\": 1"), 10, "\"label\": " + label);
    };
    EXPECT_THAT(texts(read("hellaswag", "hf.jsonl", with_label("\"2\""))[0])[2], "+sings.");
    EXPECT_THAT(refusal("hellaswag", "x.jsonl", line + "\n" + with_label("3")),
                HasSubstr("x.jsonl:2"));
    EXPECT_THAT(refusal("hellaswag", "x.jsonl", with_label("\"\"")), HasSubstr("test split"));
    EXPECT_THAT(refusal("hellaswag", "x.jsonl", line + "\n" + line.substr(0, 40)),
                HasSubstr("x.jsonl:2"));
    EXPECT_THAT(refusal("hellaswag", "x.jsonl", "{\"endings\": \"a\"}"), HasSubstr("endings"));
}

TEST_F(TaskReaders, ArcInThreeForms) {
    const std::string published =
        R"({"id": "T_1", "question": {"stem": "What melts?", "choices": [{"text": "ice", "label": "A"},)"
        R"( {"text": "stone", "label": "B"}, {"text": "sand", "label": "C"}]}, "answerKey": "A"})";
    const std::string hf = R"({"id": "T_1", "question": "What melts?", "choices": {"text": ["ice",)"
                           R"( "stone", "sand"], "label": ["1", "2", "3"]}, "answerKey": "1"})";
    const std::string csv =
        "questionID,originalQuestionID,totalPossiblePoint,AnswerKey,isMultipleChoiceQuestion,"
        "includesDiagram,examName,schoolGrade,year,question,subject,category\n"
        "T_1,1,1,A,1,0,x,5,2015,What melts? (A) ice (B) stone (C) sand,,Test\n";
    for (const auto& items : {read("arc", "a.jsonl", published), read("arc", "b.jsonl", hf),
                              read("arc", "c.csv", csv)}) {
        ASSERT_EQ(items.size(), 1u);
        EXPECT_EQ(items[0].id, "T_1");
        EXPECT_EQ(items[0].context, "Question: What melts?\nAnswer:");
        EXPECT_THAT(texts(items[0]), ElementsAre("+ice", "-stone", "-sand"));
    }
    EXPECT_THAT(refusal("arc", "a.jsonl",
                        R"({"question":{"stem":"q","choices":[{"text":"a","label":"A"},{"text":)"
                        R"("b","label":"B"}]},"answerKey":"C"})"),
                HasSubstr("\"C\""));
    EXPECT_THAT(refusal("arc", "c.csv", "question,AnswerKey\nWhat melts?,A\n"),
                HasSubstr("c.csv:2"));
    EXPECT_THAT(refusal("arc", "a.txt", "x"), HasSubstr(".jsonl"));
}

TEST_F(TaskReaders, PiqaWithItsLabels) {
    const std::string goals =
        "{\"goal\": \"Warm tea\", \"sol1\": \"Heat it.\", \"sol2\": \"Cool it.\"}\n"
        "{\"goal\": \"Cut rope\", \"sol1\": \"Use a sponge.\", \"sol2\": \"Use a knife.\"}\n";
    write_file(directory_ / "valid-labels.lst", "0\n1\n");
    const auto items = read("piqa", "valid.jsonl", goals);
    ASSERT_EQ(items.size(), 2u);
    EXPECT_EQ(items[1].context, "Question: Cut rope\nAnswer:");
    EXPECT_THAT(texts(items[0]), ElementsAre("+Heat it.", "-Cool it."));
    EXPECT_THAT(texts(items[1]), ElementsAre("-Use a sponge.", "+Use a knife."));
    const auto own =
        read("piqa", "hf.jsonl", R"({"goal": "g", "sol1": "a", "sol2": "b", "label": 1})");
    EXPECT_THAT(texts(own[0]), ElementsAre("-a", "+b"));
    EXPECT_THAT(refusal("piqa", "hf.jsonl", R"({"goal":"g","sol1":"a","sol2":"b","label":-1})"),
                HasSubstr("hf.jsonl:1"));
    write_file(directory_ / "valid-labels.lst", "0\n");
    EXPECT_THAT(refusal("piqa", "valid.jsonl", goals), HasSubstr("valid.jsonl:2"));
    EXPECT_THROW(read("piqa", "test.jsonl", goals), Error) << "no labels beside it";
    write_file(directory_ / "valid-labels.lst", "0\n1\n1\n");
    EXPECT_THROW(read("piqa", "valid.jsonl", goals), Error);
    write_file(directory_ / "valid-labels.lst", "0\ntwo\n");
    EXPECT_THROW(read("piqa", "valid.jsonl", goals), Error);
}

TEST_F(TaskReaders, TriviaQaWithAliases) {
    const std::string published = R"({"Data": [
 {"Answer": {"Aliases": ["Lake Blue", "The Blue Lake"], "HumanAnswers": ["Blue"],
   "MatchedWikiEntityName": "", "NormalizedAliases": ["lake blue", "blue lake"],
   "NormalizedValue": "lake blue", "Type": "WikipediaEntity", "Value": "Lake Blue"},
  "EntityPages": [], "Question": "Which lake is blue", "QuestionId": "tc_1",
  "QuestionSource": "http://example.org", "SearchResults": []}],
 "Domain": "Web", "Split": "dev", "VerifiedEval": false, "Version": 1.0})";
    const auto items = read("triviaqa", "web-dev.json", published);
    ASSERT_EQ(items.size(), 1u);
    EXPECT_EQ(items[0].id, "tc_1");
    EXPECT_EQ(items[0].context, "Question: Which lake is blue?\nAnswer:");
    EXPECT_TRUE(items[0].choices.empty());
    EXPECT_THAT(items[0].answers, ElementsAre("Lake Blue", "Lake Blue", "The Blue Lake",
                                              "lake blue", "blue lake", "Blue"));
    const std::string hf =
        R"({"question": "Which", "question_id": "x", "answer": {"aliases": ["A"],)"
        R"( "normalized_aliases": ["a"], "value": "A"}})";
    EXPECT_THAT(read("triviaqa", "hf.jsonl", hf)[0].answers, ElementsAre("A", "A", "a"));
    EXPECT_THAT(refusal("triviaqa", "x.json", "{\"Dat\": []}"), HasSubstr("\"Data\""));
    EXPECT_THAT(refusal("triviaqa", "x.json", "{\"Data\": []}"), HasSubstr("no item"));
    EXPECT_THAT(refusal("triviaqa", "x.json", published.substr(0, 200)), HasSubstr("x.json:4"));
    EXPECT_THAT(refusal("triviaqa", "x.json", "{\"Data\": [{\"Question\": \"q\"}]}"),
                HasSubstr("record 1"));
    EXPECT_THAT(refusal("triviaqa", "x.json", "[1, 2]"), HasSubstr("\"Data\""));
    EXPECT_THAT(refusal("triviaqa", "x.json", "{\"Data\": [\"\xFF\"]}"), HasSubstr("x.json:1"));
}

TEST_F(TaskReaders, Cloze) {
    auto items = read("cloze", "lambada.jsonl",
                      "{\"text\": \"He looked at the \\n quiet sea\\n\"}\n"
                      "{\"id\": 7, \"domain\": \"rare\", \"context\": \"The capital is\", "
                      "\"target\": \" Old Town\"}\n");
    ASSERT_EQ(items.size(), 2u);
    EXPECT_EQ(items[0].context, "He looked at the \n quiet");
    EXPECT_THAT(texts(items[0]), ElementsAre("+sea"));
    EXPECT_EQ(items[1].id, "7");
    EXPECT_EQ(items[1].group, "rare");
    EXPECT_THAT(texts(items[1]), ElementsAre("+Old Town"));
    items = read("cloze", "plain.txt", "one two three\n\nfour five\n");
    EXPECT_EQ(items[1].context + "|" + items[1].choices[0].text, "four|five");
    EXPECT_THAT(refusal("cloze", "x.txt", "one two\nthree\n"), HasSubstr("x.txt:2"));
    EXPECT_THAT(refusal("cloze", "x.jsonl", "{\"context\": \"a\", \"target\": \" \"}"),
                HasSubstr("empty"));
    EXPECT_THAT(refusal("cloze", "x.jsonl", "\n[]"), HasSubstr("x.jsonl:2"));
    EXPECT_THAT(refusal("cloze", "x.jsonl", "{\"id\": 1e999, \"text\": \"a b\"}"),
                HasSubstr("x.jsonl:1"));
    EXPECT_THAT(refusal("cloze", "x.jsonl", ""), HasSubstr("no item"));
}

TEST_F(TaskReaders, ShotsStandBeforeEveryContext) {
    auto items = read("cloze", "a.txt", "one two\nthree four\n");
    const auto shots = read("cloze", "b.txt", "five six\nseven eight\nnine ten\n");
    add_shots(items, shots, 2);
    EXPECT_EQ(items[1].context, "five six\n\nseven eight\n\nthree");
    EXPECT_THROW(add_shots(items, shots, 4), Error);
    TaskItem question{.id = "", .group = "", .context = "Q", .choices = {}, .answers = {"x", "y"}};
    std::vector<TaskItem> questions{question};
    add_shots(questions, {question}, 1);
    EXPECT_EQ(questions[0].context, "Q x\n\nQ");
    EXPECT_THROW(find_task("none"), Error);
    EXPECT_THROW(read_task(find_task("cloze"), {directory_ / "missing.txt"}), Error);
}

}  // namespace
}  // namespace muster
