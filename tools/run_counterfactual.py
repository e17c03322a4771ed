#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what counterfactual routing does to the recall of facts: data, training, calibration, evaluation, tables.

usage: tools/run_counterfactual.py WORK [--muster build/test/muster] [--write docs/results/counterfactual.md] ...

Everything goes into the directory WORK. The same command goes on where it was stopped: steps whose result is there are skipped,
training and calibration resume. The tables are in WORK/results.md and WORK/recall.svg; --write puts them between the marks of a
document. Needs numpy and matplotlib (the docs group of packages.txt), and muster-train beside muster.
"""
import argparse
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import recall_results as results
from recall_results import Policy, ResultError

ROOT = Path(__file__).resolve().parent.parent
CORPUS_TOOLS = ROOT / "tools" / "corpus"
MARKS = ("<!-- results: begin -->\n", "<!-- results: end -->\n")


# What follows where the paper's plan does not help: budgets by what numbers of experts do to the loss, impacts where selection
# decides, over most tokens.
VARIANTS = ("loss=--budgets loss --impacts boundary --hard 0.3 --draws 2 --lambda 0.02",)
ALSO = ("plan:plan.json,lambda=0.02",)


def policies(options, k):
    """Of the baseline top-k:k, which is the first. All but the static price have its activations."""
    rows = [Policy(f"top-k:{k}", f"top-k:{k}")]
    for name in ["", *variants(options)]:
        plan, end = f"plan:{plan_of(name)}", f", {name}" if name else ""
        if not name:
            rows += [Policy("random", f"{plan},use=random"), Policy("random layers", f"{plan},use=random-layers"),
                     Policy("random experts", f"{plan},use=random-experts")]
        rows += [Policy("layers only" + end, f"{plan},use=layers"), Policy("experts only" + end, f"{plan},use=experts"),
                 Policy("full" + end, plan)]
    rows += [Policy(text.removeprefix("plan:plan.json,"), text) for text in options.also]
    return rows + [Policy(f"static top-k:{k + 1}", f"top-k:{k + 1}", equal=False)]


def variants(options):
    """Other plans beside the one: name -> the calibration's texts, and its options."""
    found = {}
    for word in options.variant:
        name, equals, rest = word.partition("=")
        if not (re.fullmatch(r"[a-z0-9-]+", name) and equals):
            fail(f"--variant {word} has no name in lower case before its '=', expected one")
        words = rest.split()
        first = next((i for i, w in enumerate(words) if w.startswith("-")), len(words))
        found[name] = (words[:first], words[first:])
    return found


def plan_of(name):
    return f"plan-{name}.json" if name else "plan.json"


def fail(message):
    sys.exit(f"run_counterfactual: {message}")


def run(command, folder, output=None):
    """Runs a command in a folder; its standard output goes to a file, which appears when all is well. Ctrl-C is the command's, which
    saves what it can and ends."""
    print("+ " + " ".join(map(str, command)), file=sys.stderr, flush=True)
    partial = output.with_name(output.name + ".tmp") if output else None
    before = signal.signal(signal.SIGINT, lambda *_: None)
    with open(partial or os.devnull, "wb") as out:
        code = subprocess.run(list(map(str, command)), cwd=folder, stdout=out, check=False).returncode
    signal.signal(signal.SIGINT, before)
    if code != 0:
        fail(f"{command[0]} {command[1]} ended with exit code {code}; the same command goes on from here")
    if output:
        os.replace(partial, output)


def write(path, text):
    partial = path.with_name(path.name + ".tmp")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def settings(options):
    """What results in WORK depend on."""
    return {"config": options.config.read_text(encoding="utf-8"), "tokens": options.tokens, "type": options.type,
            "calibration_tokens": options.calibration_tokens, "calibrate": options.calibrate, "items": options.items, "choice_items": options.choice_items, "also": options.also,
            "variant": options.variant}


def check_settings(options):
    """Results of other settings are not mixed; more seeds and policies may be asked for later."""
    path = options.work / "settings.json"
    now = settings(options)
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        later = ("also", "variant")
        for key in (key for key in now if key not in later and before.get(key) != now[key]):
            fail(f"{options.work} was begun with another value of {key}, expected the same or another directory")
    write(path, json.dumps(now, indent=1) + "\n")


def make_data(options):
    python = "/usr/bin/python3"
    if not (options.work / "corpus" / "manifest.json").exists():
        run([python, CORPUS_TOOLS / "build_corpus.py", "--mix", "facts", "--out", "corpus"], options.work)
    if not (options.work / "facts" / "facts.json").exists():
        run([python, CORPUS_TOOLS / "build_facts.py", "--corpus", "corpus", "--out", "facts"], options.work)


def seed_config(text, seed, tokens):
    """The configuration with this seed and the run's directory; `tokens` 0: its own."""
    def put(text, section, key, value):
        text = re.sub(rf"(?m)^{key} *=.*\n", "", text)
        return re.sub(rf"(?m)^\[{section}\]\n", rf"\g<0>{key} = {value}\n", text)
    text = put(put(text, "training", "seed", seed), "output", "directory", f'"seed-{seed}/run"')
    return put(text, "training", "tokens", tokens) if tokens else text


def train(options, seed):
    folder = options.work / f"seed-{seed}"
    model = folder / "model.gguf"
    if not model.exists():
        folder.mkdir(exist_ok=True)
        config = folder / "config.toml"
        write(config, seed_config(options.config.read_text(encoding="utf-8"), seed, options.tokens))
        begun = list((folder / "run" / "checkpoints").glob("step-*"))
        run([options.muster, "train", config, *(["--resume"] if begun else [])], options.work)
        run([options.muster, "export", "run", "-o", "model.gguf", "--type", options.type], folder)


def study(options, seed, k):
    """Where plans and measurements of one baseline are; the model and the facts stand above."""
    folder = options.work / f"seed-{seed}" / f"top-k-{k}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def calibrate(options, seed, k):
    folder = study(options, seed, k)
    for name, (texts, more) in {"": ([], options.calibrate.split()), **variants(options)}.items():
        plan, document = folder / plan_of(name), folder / calibration_of(name)
        if plan.exists() and document.exists():
            continue
        texts = [f"../../facts/{text}" for text in texts or ["calibration.jsonl"]]
        run([options.muster, "calibrate", "../model.gguf", *texts, "-o", plan.name, "--experts", k, "--tokens",
             options.calibration_tokens, "--json", *more], folder, document)


def calibration_of(name):
    return f"calibration-{name}.json" if name else "calibration.json"


TASKS = (("recall", "cloze", "facts-test.jsonl"), ("choice of 10", "factor", "facts-choices.csv"))


def records(folder, task, policy):
    return folder / task / f"{policy.stem}.jsonl"


def evaluate(options, seed, k):
    folder = study(options, seed, k)
    for _, task, name in TASKS:
        items = options.items if task == "cloze" else options.choice_items
        for policy in policies(options, k):
            path = records(folder, task, policy)
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                run([options.muster, "eval", "../model.gguf", f"../../facts/{name}", "--task", task, "--routing", policy.text,
                     "--records", path.relative_to(folder), *(["--items", items] if items else [])], folder)
    prose = folder / "prose.json"
    names = [policy.text for policy in policies(options, k)]
    if prose.exists() and [p["policy"] for p in json.loads(prose.read_text(encoding="utf-8"))["policies"]] == names:
        return
    run([options.muster, "eval", "../model.gguf", "../../facts/prose.jsonl", "--json",
         *(word for text in names for word in ("--routing", text))], folder, prose)


def picture(options, k):
    return options.work / f"recall-top-k-{k}.svg"


def tables(options, k):
    """The text of the results against top-k:k; draws the picture."""
    rows = policies(options, k)
    items = results.read_lines(options.work / "facts" / "facts-test.jsonl")
    tasks = [results.read_task(name, items, rows, k,
                               lambda policy, task=task: [records(study(options, seed, k), task, policy) for seed in options.seeds])
             for name, task, _ in TASKS]

    def documents(name):
        return [json.loads((study(options, seed, k) / name).read_text(encoding="utf-8")) for seed in options.seeds]
    recall, choice = tasks
    results.plot(tasks, rows, picture(options, k))
    fulls = [p.name for p in rows if p.name.startswith("full")]
    controls = [p.name for p in rows if p.name not in fulls]
    sections = [
        ("Recall: the answer is written greedily, percent", results.recall_tables(recall, rows, "acc", 100, 1)),
        ("Choice of ten by likelihood, percent right", results.recall_tables(choice, rows, "acc", 100, 1)),
        ("Loss of the answer, nats", results.recall_tables(recall, rows, "nats", 1, 3)),
        ("Known and held-out phrasings, recall in percent", results.phrasing_table(recall, rows, "acc")),
        ("Whole plans against controls", "".join(results.against_table(tasks, full, controls) for full in fulls)),
        ("Each seed by itself, intervals over facts",
         results.seed_table(recall, rows, options.seeds) + results.seed_table(choice, rows, options.seeds)),
        ("Calibration", results.calibration_table(
            [(f"{seed}, {name}" if name else str(seed), document) for name in ["", *variants(options)]
             for seed, document in zip(options.seeds, documents(calibration_of(name)))])),
        ("Held-out prose", results.prose_table(documents("prose.json"), rows))]
    text = "\n\n".join(f"#### {title}\n\n{text.strip()}" for title, text in sections)
    return f"### Against top-k:{k}\n\n![Recall by how often a fact was told](PICTURE-{k})\n\n{text}\n"


def put_into(document, text, pictures):
    """Replaces what stands between the marks; `pictures` {k: file} go beside the document."""
    old = document.read_text(encoding="utf-8")
    if any(old.count(mark) != 1 for mark in MARKS):
        fail(f"{document} has not the marks {MARKS[0].strip()} and {MARKS[1].strip()} once each")
    before, _, rest = old.partition(MARKS[0])
    for k, path in pictures.items():
        target = document.with_name(f"{document.stem}-top-k-{k}.svg")
        write(target, path.read_text(encoding="utf-8"))
        text = text.replace(f"(PICTURE-{k})", f"({target.name})")
    write(document, before + MARKS[0] + text.strip() + "\n" + MARKS[1] + rest.partition(MARKS[1])[2])


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--muster", type=Path, default=ROOT / "build" / "test" / "muster")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "facts.toml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tokens", type=int, default=0, help="of training (default: the configuration's)")
    parser.add_argument("--experts", type=int, nargs="+", default=[4, 2],
                        help="k of the baselines top-k:k (default: 4, as trained, and 2)")
    parser.add_argument("--type", default="f32", help="of the exported weights (default: f32)")
    parser.add_argument("--calibration-tokens", type=int, default=20_000)
    parser.add_argument("--calibrate", default="", metavar="OPTIONS", help="more options of muster calibrate, in one word")
    parser.add_argument("--items", type=int, default=0, help="of the recall test (default: all)")
    parser.add_argument("--choice-items", type=int, default=3000, help="of the choice test, 0: all (default: 3000)")
    parser.add_argument("--also", action="append", metavar="POLICY",
                        help=f"another policy with the baseline's activations (default: {', '.join(ALSO)})")
    parser.add_argument("--variant", action="append", metavar="NAME=[TEXT...] [OPTIONS]",
                        help="another plan, calibrated on these files of facts/ (calibration.jsonl) with more options of "
                             "muster calibrate, such as 'contexts=--clusters 6'; its file is plan-NAME.json (default: "
                             f"{'; '.join(VARIANTS)})")
    parser.add_argument("--until", choices=["data", "train", "calibrate", "evaluate"], help="stop after this step")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", help="put the tables between the marks of a document")
    options = parser.parse_args(arguments)
    options.also = list(ALSO) if options.also is None else options.also
    options.variant = list(VARIANTS) if options.variant is None else options.variant
    return options


def main(arguments):
    options = parse_arguments(arguments)
    options.work, options.muster = options.work.resolve(), options.muster.resolve()
    if not options.muster.exists():
        fail(f"{options.muster} is missing, build it or name it with --muster")
    options.work.mkdir(parents=True, exist_ok=True)
    check_settings(options)
    make_data(options)
    if options.until == "data":
        return
    for seed in options.seeds:
        train(options, seed)
    if options.until == "train":
        return
    for name, step in (("calibrate", calibrate), ("evaluate", evaluate)):
        for k in options.experts:
            for seed in options.seeds:
                step(options, seed, k)
        if options.until == name:
            return
    try:
        text = "\n".join(tables(options, k) for k in options.experts)
    except ResultError as error:
        fail(error)
    write(options.work / "results.md", text)
    if options.write:
        put_into(options.write, text, {k: picture(options, k) for k in options.experts})
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
