#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws a training run: loss, held-out loss and experts per token of each layer, over the tokens seen.

usage: tools/plot_run.py RUN... -o curves.svg      (RUN: directories that hold a metrics.jsonl)

Needs matplotlib (the docs group of packages.txt).
"""
import argparse
import json
import pathlib
import sys

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

SMOOTH = 25  # reports in a moving average


def read(run):
    path = pathlib.Path(run) / "metrics.jsonl"
    try:
        lines = [json.loads(line) for line in path.open(encoding="utf-8")]
    except (OSError, ValueError) as error:
        sys.exit(f"plot_run: {path}: cannot read: {error}, expected the metrics of a training run")
    train = [line for line in lines if line["kind"] == "train"]
    if not train:
        sys.exit(f"plot_run: {path}: holds no report of a training step")
    per_step = train[-1]["tokens"] / train[-1]["step"]
    held_out = [(line["step"] * per_step, line["loss"]) for line in lines if line["kind"] == "eval"]
    return train, held_out


def smooth(values):
    out = []
    for i in range(len(values)):
        window = values[max(0, i + 1 - SMOOTH) : i + 1]
        out.append(sum(window) / len(window))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", metavar="RUN", nargs="+")
    parser.add_argument("-o", "--output", required=True, help="picture to write, .svg or .png")
    arguments = parser.parse_args()

    plt.rcParams.update({"font.size": 9, "svg.hashsalt": "muster", "axes.spines.top": False, "axes.spines.right": False})
    figure, (loss, experts) = plt.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    for run in arguments.runs:
        train, held_out = read(run)
        millions = [line["tokens"] / 1e6 for line in train]
        name = f"{pathlib.Path(run).name}: " if len(arguments.runs) > 1 else ""
        (drawn,) = loss.plot(millions, smooth([line["loss"] for line in train]), linewidth=1, label=f"{name}training")
        loss.plot([t / 1e6 for t, _ in held_out], [x for _, x in held_out], "o", markersize=4, color=drawn.get_color(),
                  markerfacecolor="white", label=f"{name}held out")
        layers = sorted((key for key in train[0] if key.startswith("experts_layer_")), key=lambda k: int(k.rsplit("_", 1)[1]))
        for index, key in enumerate(layers):
            shade = plt.cm.viridis(index / max(1, len(layers) - 1) * 0.9)
            experts.plot(millions, smooth([line[key] for line in train]), linewidth=1, color=shade,
                         label=f"{name}layer {key.rsplit('_', 1)[1]}")
    loss.set(xlabel="tokens seen, millions", ylabel="loss, nats per token")
    loss.set_ylim(top=min(loss.get_ylim()[1], 6.5))
    experts.set(xlabel="tokens seen, millions", ylabel="experts per token")
    loss.legend(frameon=False)
    experts.legend(frameon=False, ncols=2)
    figure.savefig(arguments.output, metadata={"Date": None} if arguments.output.endswith(".svg") else None)


if __name__ == "__main__":
    main()
