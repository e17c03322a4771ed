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


def policies(options):
    """The baseline first. All but the static price have its activations."""
    plan = "plan:plan.json"
    k = options.experts
    return [Policy(f"top-k:{k}", f"top-k:{k}"),
            Policy("random", f"{plan},use=random"),
            Policy("random layers", f"{plan},use=random-layers"),
            Policy("layers only", f"{plan},use=layers"),
            Policy("random experts", f"{plan},use=random-experts"),
            Policy("experts only", f"{plan},use=experts"),
            Policy("full", plan),
            *(Policy(f"full, {name}", f"plan:{plan_of(name)}") for name in variants(options)),
            *(Policy(text, text) for text in options.also),
            Policy(f"static top-k:{k + 1}", f"top-k:{k + 1}", equal=False)]


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
    return {"config": options.config.read_text(encoding="utf-8"), "tokens": options.tokens, "experts": options.experts,
            "type": options.type, "calibration_tokens": options.calibration_tokens, "calibrate": options.calibrate,
            "items": options.items, "choice_items": options.choice_items, "also": options.also,
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


def calibrate(options, seed):
    folder = options.work / f"seed-{seed}"
    for name, (texts, more) in {"": ([], options.calibrate.split()), **variants(options)}.items():
        plan, document = folder / plan_of(name), folder / calibration_of(name)
        if plan.exists() and document.exists():
            continue
        texts = [f"../facts/{text}" for text in texts or ["calibration.jsonl"]]
        run([options.muster, "calibrate", "model.gguf", *texts, "-o", plan.name, "--experts", options.experts, "--tokens",
             options.calibration_tokens, "--json", *more], folder, document)


def calibration_of(name):
    return f"calibration-{name}.json" if name else "calibration.json"


TASKS = (("recall", "cloze", "facts-test.jsonl"), ("choice of 10", "factor", "facts-choices.csv"))


def records(work, seed, task, policy):
    return work / f"seed-{seed}" / task / f"{policy.stem}.jsonl"


def evaluate(options, seed):
    folder = options.work / f"seed-{seed}"
    for _, task, name in TASKS:
        items = options.items if task == "cloze" else options.choice_items
        for policy in policies(options):
            path = records(options.work, seed, task, policy)
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                run([options.muster, "eval", "model.gguf", f"../facts/{name}", "--task", task, "--routing", policy.text,
                     "--records", path.relative_to(folder), *(["--items", items] if items else [])], folder)
    prose = folder / "prose.json"
    names = [policy.text for policy in policies(options)]
    if prose.exists() and [p["policy"] for p in json.loads(prose.read_text(encoding="utf-8"))["policies"]] == names:
        return
    run([options.muster, "eval", "model.gguf", "../facts/prose.jsonl", "--json",
         *(word for text in names for word in ("--routing", text))], folder, prose)


def tables(options):
    """The text of the results, and the picture."""
    rows = policies(options)
    items = results.read_lines(options.work / "facts" / "facts-test.jsonl")
    tasks = [results.read_task(name, items, rows, options.experts,
                               lambda policy, task=task: [records(options.work, seed, task, policy) for seed in options.seeds])
             for name, task, _ in TASKS]

    def documents(name):
        return [json.loads((options.work / f"seed-{seed}" / name).read_text(encoding="utf-8")) for seed in options.seeds]
    recall, choice = tasks
    results.plot(tasks, rows, options.work / "recall.svg")
    controls = [p.name for p in rows if p.name != "full"]
    sections = [
        ("Recall: the answer is written greedily, percent", results.recall_tables(recall, rows, "acc", 100, 1)),
        ("Choice of ten by likelihood, percent right", results.recall_tables(choice, rows, "acc", 100, 1)),
        ("Loss of the answer, nats", results.recall_tables(recall, rows, "nats", 1, 3)),
        ("Known and held-out phrasings, recall in percent", results.phrasing_table(recall, rows, "acc")),
        ("The whole plan against its controls", results.against_table(tasks, "full", controls)),
        ("Each seed by itself, intervals over facts",
         results.seed_table(recall, rows, options.seeds) + results.seed_table(choice, rows, options.seeds)),
        ("Calibration", results.calibration_table(
            [(f"{seed}, {name}" if name else str(seed), document) for name in ["", *variants(options)]
             for seed, document in zip(options.seeds, documents(calibration_of(name)))])),
        ("Held-out prose", results.prose_table(documents("prose.json"), rows))]
    return "\n".join(f"### {title}\n\n{text}" for title, text in sections).rstrip() + "\n"


def put_into(document, text, picture):
    """Replaces what stands between the marks; the picture goes beside the document."""
    old = document.read_text(encoding="utf-8")
    if any(old.count(mark) != 1 for mark in MARKS):
        fail(f"{document} has not the marks {MARKS[0].strip()} and {MARKS[1].strip()} once each")
    before, _, rest = old.partition(MARKS[0])
    target = document.with_suffix(".svg")
    write(target, picture.read_text(encoding="utf-8"))
    image = f"![Recall by how often a fact was told, against the baseline]({target.name})\n\n"
    write(document, before + MARKS[0] + image + text.strip() + "\n" + MARKS[1] + rest.partition(MARKS[1])[2])


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--muster", type=Path, default=ROOT / "build" / "test" / "muster")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "facts.toml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tokens", type=int, default=0, help="of training (default: the configuration's)")
    parser.add_argument("--experts", type=int, default=4, help="k of the baseline top-k:k (default: 4)")
    parser.add_argument("--type", default="f32", help="of the exported weights (default: f32)")
    parser.add_argument("--calibration-tokens", type=int, default=20_000)
    parser.add_argument("--calibrate", default="", metavar="OPTIONS", help="more options of muster calibrate, in one word")
    parser.add_argument("--items", type=int, default=0, help="of the recall test (default: all)")
    parser.add_argument("--choice-items", type=int, default=3000, help="of the choice test, 0: all (default: 3000)")
    parser.add_argument("--also", action="append", default=[], metavar="POLICY",
                        help="another policy with the baseline's activations, such as plan:plan.json,lambda=0.2")
    parser.add_argument("--variant", action="append", default=[], metavar="NAME=[TEXT...] [OPTIONS]",
                        help="another plan, calibrated on these files of facts/ (calibration.jsonl) with more options of "
                             "muster calibrate, such as 'contexts=--clusters 6'; its file is plan-NAME.json")
    parser.add_argument("--until", choices=["data", "train", "calibrate", "evaluate"], help="stop after this step")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", help="put the tables between the marks of a document")
    return parser.parse_args(arguments)


def main(arguments):
    options = parse_arguments(arguments)
    options.work, options.muster = options.work.resolve(), options.muster.resolve()
    if not options.muster.exists():
        fail(f"{options.muster} is missing, build it or name it with --muster")
    options.work.mkdir(parents=True, exist_ok=True)
    check_settings(options)
    make_data(options)
    for name, step in (("data", None), ("train", train), ("calibrate", calibrate), ("evaluate", evaluate)):
        for seed in options.seeds if step else []:
            step(options, seed)
        if options.until == name:
            return
    try:
        text = tables(options)
    except ResultError as error:
        fail(error)
    write(options.work / "results.md", text)
    if options.write:
        put_into(options.write, text, options.work / "recall.svg")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
