#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures routing policies of a model on labelled documents and prints the tables of a model card (Markdown).

usage: tools/measure_model.py MODEL TEST.jsonl [--routing POLICY ...] [--bytes 12000] [--muster build/release/muster]

Of each domain, documents are taken from the file's beginning until there are --bytes characters, at most 4000 of each.
"""
import argparse
import collections
import json
import subprocess
import sys
import tempfile

LONGEST = 4000


def sample(path, per_domain, out):
    taken = collections.Counter()
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            document = json.loads(line)
            domain = document.get("domain", "text")
            if taken[domain] < per_domain:
                text = document["text"][:LONGEST]
                taken[domain] += len(text)
                out.write(json.dumps({"domain": domain, "text": text}) + "\n")
    out.flush()


def row(cells):
    print("| " + " | ".join(cells) + " |")


def table(head, rows):
    row(head)
    print("|" + "---|" * len(head))
    for cells in rows:
        row(cells)
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("texts", metavar="TEST.jsonl")
    parser.add_argument("--routing", action="append", metavar="POLICY")
    parser.add_argument("--bytes", type=int, default=12000, help="characters per domain (default: 12000)")
    parser.add_argument("--muster", default="build/release/muster")
    arguments = parser.parse_args()
    names = arguments.routing or ["model", "top-k:1", "top-k:2", "top-p:0.3", "top-p:0.6"]

    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as texts:
        sample(arguments.texts, arguments.bytes, texts)
        command = [arguments.muster, "eval", arguments.model, texts.name, "--json"]
        for name in names:
            command += ["--routing", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    policies = json.loads(done.stdout)["policies"]

    print("Perplexity by domain, experts per token under the first policy:\n")
    first = policies[0]
    rows = []
    for domain in sorted(first["domains"]):
        parts = [p["domains"][domain] for p in policies]
        rows.append([domain] + [f"{p['perplexity']:.1f}" for p in parts] + [f"{parts[0]['experts_per_token']:.2f}"])
    parts = [p["all"] for p in policies]
    rows.append(["**all**"] + [f"**{p['perplexity']:.2f}**" for p in parts] + [f"**{parts[0]['experts_per_token']:.2f}**"])
    table(["domain"] + names + [f"experts, {names[0]}"], rows)

    print(f"Against `{names[0]}`, nats per token with a 95 % interval, and experts per token in each layer:\n")
    rows = []
    for name, p in zip(names, policies):
        d = p["difference"]
        change = "–" if p is first else f"{d['mean']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]"
        rows.append([name, change, f"{p['all']['experts_per_token']:.2f}", f"{p['activated_parameters'] / 1e6:.2f} M"]
                    + [f"{x:.2f}" for x in p["experts_per_layer"]])
    layers = [str(l) for l in range(len(first["experts_per_layer"]))]
    table(["policy", "difference", "experts", "activated"] + layers, rows)


if __name__ == "__main__":
    main()
