# SPDX-License-Identifier: Apache-2.0
"""Tests of the statistics and steps of run_counterfactual.py on measurements made here; needs numpy."""

import importlib.util
import json
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

import recall_results as results
import run_counterfactual as tool
from recall_results import Policy, ResultError

ROOT = Path(__file__).resolve().parent.parent


def items(facts=60):
    return [{"id": f"capital/{f}/{kind}", "fact": f"capital/{f}", "band": ("1", "2-4", "65-256")[f % 3], "phrasing": kind}
            for f in range(facts) for kind in ("known", "held-out")]


def record(item, value, experts):
    return {"item": item["id"], "metrics": {"acc": value, "nats": 2.0 - value}, "experts": experts}


class StatisticsTest(unittest.TestCase):
    def test_bootstrap_knows_facts_and_seeds(self):
        random = np.random.default_rng(5)
        facts = random.normal(0, 1, size=(1, 400)).repeat(3, axis=0)  # all seeds alike
        mean, low, high = results.bootstrap(facts)
        self.assertAlmostEqual(mean, facts.mean())
        self.assertAlmostEqual(high - low, 2 * 1.96 * facts.std() / 20, delta=0.02)
        seeds = np.array([[0.0], [1.0], [2.0]]).repeat(400, axis=1)  # all facts alike
        mean, low, high = results.bootstrap(seeds)
        self.assertEqual((mean, low, high), (1.0, 0.0, 2.0))  # 1 of 27 draws is thrice the least
        self.assertEqual(results.bootstrap(np.full((2, 9), 0.5)), (0.5, 0.5, 0.5))

    def test_items_of_a_fact_are_one_draw(self):
        task = results.Task("t", items(4), {})
        values = np.arange(8.0)[None]
        self.assertEqual(results.by_fact(task, task.select(), values).tolist(), [[0.5, 2.5, 4.5, 6.5]])
        known = task.select(phrasing="known")
        self.assertEqual(results.by_fact(task, known, values).tolist(), [[0, 2, 4, 6]])
        self.assertEqual(task.select("2-4", "held-out").tolist(), [3])


class RecordsTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.work = Path(self.folder.name)
        self.addCleanup(self.folder.cleanup)
        self.policies = [Policy("top-k:4", "top-k:4"), Policy("full", "plan:p"), Policy("more", "top-k:5", equal=False)]

    def write(self, seeds=2, spent=(3.0, 0.0, 5.0), count=120):
        for seed in range(seeds):
            for rank, policy in enumerate(self.policies):
                lines = [record(item, float(rank > 0 and item["band"] == "1"), [5.0] * 2 if rank == 2 else list(spent))
                         for item in items()[:count]]
                self.path(policy, seed).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def path(self, policy, seed):
        return self.work / f"{policy.stem}-{seed}.jsonl"

    def read(self):
        return results.read_task("recall", items(), self.policies, 4, lambda p: [self.path(p, s) for s in range(2)])

    def test_tables(self):
        self.write()
        task = self.read()
        text = results.recall_tables(task, self.policies, "acc", 100, 1)
        self.assertIn("| full | 100.0 | 0.0 | 0.0 | 33.3 |", text)
        self.assertIn("| full | +100.0 [+100.0, +100.0] | +0.0 [+0.0, +0.0] |", text)
        self.assertIn("| full | 33.3 | +33.3", results.phrasing_table(task, self.policies, "acc"))
        self.assertIn("full minus more | +0.0 [+0.0, +0.0]", results.against_table([task], "full", ["more"]))
        self.assertEqual(results.seed_table(task, self.policies, [1, 2]).count("+33.3"), 4)

    @unittest.skipUnless(importlib.util.find_spec("matplotlib"), "needs matplotlib")
    def test_plot(self):
        self.write()
        task = self.read()
        results.plot([task, task], self.policies, self.work / "x.svg")
        self.assertIn("</svg>", (self.work / "x.svg").read_text())

    def test_first_items_alone(self):
        self.write(count=50)
        self.assertEqual(len(self.read().items), 50)

    def test_unequal_activations_are_refused(self):
        self.write(spent=(3.0, 0.0, 5.1))
        with self.assertRaisesRegex(ResultError, "spent 8.1.* expected 8"):
            self.read()

    def test_records_that_lack_items_are_refused(self):
        self.write()
        lines = self.path(self.policies[1], 1).read_text().splitlines(keepends=True)
        self.path(self.policies[1], 1).write_text("".join(lines[:-1]))
        with self.assertRaisesRegex(ResultError, "119 records"):
            self.read()

    def test_calibration_and_prose(self):
        expert = {"impact": [0.1, 0.05, None], "tokens": 9, "gate_rank": 3.0, "dormant": True}
        layer = {"budget": 5, "contrast": [2.5, 2.0, 3.0], "experts": [expert, {**expert, "tokens": 0, "dormant": False}]}
        plan = {"windows": 40, "contrast_reliability": 0.9, "impact_reliability": None, "layers": [layer, layer]}
        text = results.calibration_table([("3", plan)])
        self.assertIn("| 3 | 40 | 0.90 | unknown | 2.50, 2.50 | 5/5 | 2 of 4 | 2 | 2 |", text)
        part = {"all": {"loss": 3.0, "experts_per_token": 4.0}, "activated_parameters": 2e6,
                "difference": {"mean": 0.5, "low": 0.25, "high": 0.75}}
        text = results.prose_table([{"policies": [part] * 3}], self.policies)
        self.assertIn("| full | 3.0000 | +0.5000 [+0.2500, +0.7500] | 4.000 | 2.00 M |", text)


class StepsTest(unittest.TestCase):
    def options(self, work, *more):
        return tool.parse_arguments([str(work), *more])

    def test_configuration_of_a_seed(self):
        text = (ROOT / "configs" / "facts.toml").read_text()
        config = tomllib.loads(tool.seed_config(text, 2, 0))
        want = tomllib.loads(text)
        self.assertEqual((config["training"].pop("seed"), config["output"].pop("directory")), (2, "seed-2/run"))
        want["output"].pop("directory")
        self.assertEqual(config, want)
        self.assertEqual(tomllib.loads(tool.seed_config(text, 1, 5000))["training"]["tokens"], 5000)

    def test_policies(self):
        rows = tool.policies(self.options("w", "--also", "plan:plan.json,lambda=0.2"), 6)
        self.assertEqual([p.text for p in rows if not p.equal], ["top-k:7"])
        self.assertEqual(rows[0].text, "top-k:6")
        self.assertEqual(len({p.stem for p in rows}), 1 + 6 + 3 + 1 + 1)
        self.assertIn("plan:plan-loss.json,use=layers", [p.text for p in rows])

    def test_variants_are_plans_of_their_own(self):
        options = self.options("w", "--variant", "contexts=--clusters 6", "--variant", "facts=calibration-facts.jsonl --draws 4",
                               "--variant", "same=")
        rows = tool.policies(options, 4)
        self.assertIn(("full, facts", "plan:plan-facts.json"), [(p.name, p.text) for p in rows if p.equal])
        self.assertEqual(tool.variants(options)["facts"], (["calibration-facts.jsonl"], ["--draws", "4"]))
        with mock.patch.object(tool, "run") as run:
            tool.calibrate(options, 2, 4)
        words = [call.args[0][3:] for call in run.call_args_list]
        self.assertEqual([w[w.index("-o") + 1] for w in words],
                         ["plan.json", "plan-contexts.json", "plan-facts.json", "plan-same.json"])
        self.assertEqual(words[2][0], "../../facts/calibration-facts.jsonl")
        self.assertEqual(words[1][-2:], ["--clusters", "6"])
        with self.assertRaisesRegex(SystemExit, "no name"):
            tool.variants(self.options("w", "--variant", "--clusters 6"))

    def test_other_settings_need_another_directory(self):
        with tempfile.TemporaryDirectory() as folder:
            tool.check_settings(self.options(folder))
            tool.check_settings(self.options(folder, "--also", "top-k:4", "--seeds", "4", "--experts", "3"))
            with self.assertRaisesRegex(SystemExit, "another value of items"):
                tool.check_settings(self.options(folder, "--items", "3"))

    def test_what_is_done_is_skipped_and_training_resumed(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(tool, "run") as run:
            options = self.options(folder)
            seed = Path(folder) / "seed-1"
            tool.train(options, 1)
            self.assertNotIn("--resume", run.call_args_list[0].args[0])
            (seed / "run" / "checkpoints" / "step-5").mkdir(parents=True)
            tool.train(options, 1)
            self.assertIn("--resume", run.call_args_list[2].args[0])
            tool.calibrate(options, 1, 4)
            tool.evaluate(options, 1, 4)
            self.assertEqual(run.call_count, 4 + 2 + 2 * 12 + 1)
            (seed / "model.gguf").touch()
            place = tool.study(options, 1, 4)
            for name in ("plan.json", "calibration.json", "plan-loss.json", "calibration-loss.json"):
                (place / name).touch()
            for _, task, _ in tool.TASKS:
                for policy in tool.policies(options, 4):
                    tool.records(place, task, policy).touch()
            parts = [{"policy": policy.text} for policy in tool.policies(options, 4)]
            (place / "prose.json").write_text(json.dumps({"policies": parts}))
            run.reset_mock()
            tool.train(options, 1)
            tool.calibrate(options, 1, 4)
            tool.evaluate(options, 1, 4)
            run.assert_not_called()

    def test_a_failed_command_leaves_no_result(self):
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(SystemExit, "exit code 3"):
                tool.run(["sh", "-c", "echo half; exit 3"], folder, Path(folder) / "out")
            self.assertFalse((Path(folder) / "out").exists())

    def test_an_interrupted_command_ends_by_itself(self):
        script = "import os, signal, sys, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(0.5); sys.exit(130)"
        with self.assertRaisesRegex(SystemExit, "exit code 130"):
            tool.run([sys.executable, "-c", script], "/")

    def test_tables_go_between_the_marks(self):
        with tempfile.TemporaryDirectory() as folder:
            document, picture = Path(folder) / "d.md", Path(folder) / "p"
            picture.write_text("<svg/>")
            document.write_text("A\n" + tool.MARKS[0] + "before\n" + tool.MARKS[1] + "B\n")
            tool.put_into(document, "new (PICTURE-4)", {4: picture})
            text = document.read_text()
            self.assertTrue(text.startswith("A\n") and text.endswith("B\n"))
            self.assertIn("\nnew (d-top-k-4.svg)\n", text)
            self.assertNotIn("before", text)
            self.assertEqual((Path(folder) / "d-top-k-4.svg").read_text(), "<svg/>")
            document.write_text("no marks")
            with self.assertRaisesRegex(SystemExit, "marks"):
                tool.put_into(document, "new", {4: picture})

    def test_the_document_has_its_marks(self):
        text = (ROOT / "docs" / "results" / "counterfactual.md").read_text()
        self.assertEqual([text.count(mark) for mark in tool.MARKS], [1, 1])


if __name__ == "__main__":
    unittest.main()
