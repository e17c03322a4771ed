#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the engine on one model, in turns with other programs, and prints a table (Markdown).

usage: tools/measure_engine.py MODEL [--rounds 3] [--peer NAME PREFILL DECODE ...] [--plot experts.svg]

PREFILL and DECODE are commands that print llama-bench's JSON; {model} stands for the file:
    --peer ik_llama.cpp "llama-bench -m {model} -t 2 -rtr 1 -p 512 -n 0 -r 3 -o json" \\
                        "llama-bench -m {model} -t 2 -rtr 1 -p 0 -n 0 -gp 512,32 -r 3 -o json"
An empty command leaves that part out. Every round runs each program once, so that all see the machine's drift;
given are the median of the rounds and the lowest and highest. --plot draws tokens per second over experts per
token (needs matplotlib, the docs group of packages.txt).
"""
import argparse
import json
import shlex
import statistics
import subprocess
import sys

RATES = {"prefill": "prefill", "decode": "decode, token after token"}
PARTS = tuple(RATES)


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, text=True)
    if done.returncode != 0:
        sys.exit(f"measure_engine: {shlex.join(command)}: exit {done.returncode}, expected 0")
    start = min((done.stdout.index(c) for c in "[{" if c in done.stdout), default=len(done.stdout))
    try:
        return json.loads(done.stdout[start:])
    except ValueError as error:
        sys.exit(f"measure_engine: {shlex.join(command)}: {error}, expected JSON")


def engine(arguments, part, *options):
    return run([arguments.bench, "--model", arguments.model, "--only", part, "--json", *options])


def value(report, name):
    return next(v["median"] for k, v in report.items() if k.startswith(name + " ["))


def cell(values, unit=""):
    low, high = min(values), max(values)
    return f"{statistics.median(values):.1f}{unit} ({low:.1f} to {high:.1f})"


def ratio(own, mine):
    """Of rounds, each with itself: 1 for the engine."""
    return "1" if own is mine else f"{statistics.median(a / b for a, b in zip(own, mine)):.2f}"


def plot(report, path):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    points = sorted((int(k.split(":")[1].split()[0]), v) for k, v in report.items() if "top-k:" in k)
    experts = [n for n, _ in points]
    start, slope = value(report, "line: start"), value(report, "line: one more expert in every layer")
    fine = [1 + i / 10 for i in range(10 * experts[-1] - 9)]
    plt.rcParams["svg.hashsalt"] = "muster"
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    axes.plot(fine, [1000 / (start + slope * x) for x in fine], color="0.6", label=f"1000 / ({start:.1f} + {slope:.2f} k) ms")
    rates = [1000 / v["median"] for _, v in points]
    errors = [[r - 1000 / v["high"] for r, (_, v) in zip(rates, points)], [1000 / v["low"] - r for r, (_, v) in zip(rates, points)]]
    axes.errorbar(experts, rates, yerr=errors, fmt="o", capsize=3, label="measured: median, lowest, highest")
    axes.set(xlabel="experts per token and layer (k)", ylabel="tokens per second", ylim=(0, None), xticks=experts)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--bench", default="build/test/bench/bench_engine")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", nargs=3, action="append", default=[], metavar=("NAME", "PREFILL", "DECODE"))
    parser.add_argument("--plot", metavar="FILE")
    arguments = parser.parse_args()

    rates = {}  # (program, part) -> tokens/s of each round
    shares = {part: [] for part in PARTS}
    limits = {part: [] for part in PARTS}
    for _ in range(arguments.rounds):
        for index, part in enumerate(PARTS):
            report = engine(arguments, part)
            rates.setdefault(("muster", part), []).append(value(report, RATES[part]))
            shares[part].append(value(report, part + (", share of the peak" if index == 0 else ", share of reading")))
            limits[part].append(value(report, part + (", peak" if index == 0 else ", reading")))
            for name, *commands in arguments.peer:
                if commands[index]:
                    command = shlex.split(commands[index].replace("{model}", arguments.model))
                    rates.setdefault((name, part), []).append(run(command)[-1]["avg_ts"])
    print("| | prompt of 512, tokens/s | times Muster's | one token after 512, tokens/s | times Muster's |")
    print("|---|---|---|---|---|")
    for name in ["muster"] + [peer[0] for peer in arguments.peer]:
        cells = [name]
        for part in PARTS:
            own, mine = rates.get((name, part)), rates["muster", part]
            cells += ["–", "–"] if own is None else [cell(own), ratio(own, mine)]
        print("| " + " | ".join(cells) + " |")
    print()
    print(f"Muster's share of the limit: prompt {cell(shares['prefill'], ' %')} of {cell(limits['prefill'])} Gop/s in int8, "
          f"one token {cell(shares['decode'], ' %')} of {cell(limits['decode'])} GB/s.")
    if arguments.plot:
        plot(engine(arguments, "experts"), arguments.plot)


if __name__ == "__main__":
    main()
