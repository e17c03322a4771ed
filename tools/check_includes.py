#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that a folder of muster/ includes only itself and folders above it, and that heavy libraries stay
where they belong. Prints each violation; exit code 1 when there is one."""

import pathlib
import re
import sys

ORDER = ["core", "cpu", "quant", "kernels", "routing", "experts", "checkpoint", "tokenizer", "model",
         "generate", "counterfactual", "evaluate", "train", "cluster", "report", "serve", "cli"]
RANK = {name: i for i, name in enumerate(ORDER)}
# Libraries whose headers only these folders may include (program files of train/ count as train).
ONLY_IN = {"torch/": {"train"}, "ATen/": {"train"}, "c10/": {"train"}, "mpi.h": {"cluster"}, "CLI/": {"cli", "train"},
           "sentencepiece": {"tokenizer", "train"}, "toml++/": {"train", "core"}}
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]')


def violations(root):
    for path in sorted((root / "muster").rglob("*")):
        if path.suffix not in {".h", ".cpp"}:
            continue
        folder = path.relative_to(root / "muster").parts[0]
        if folder not in RANK:
            yield f"{path}: folder '{folder}' is not in the list of folders"
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            target = match.group(1)
            place = f"{path.relative_to(root)}:{number}"
            if target.startswith("muster/"):
                other = target.split("/")[1]
                if other not in RANK or RANK[other] > RANK[folder]:
                    yield f"{place}: {folder}/ may not include {target}"
            if folder != "train" and target.startswith("muster/train/"):
                yield f"{place}: only train/ includes LibTorch's side"
            for prefix, allowed in ONLY_IN.items():
                if target.startswith(prefix) and folder not in allowed:
                    yield f"{place}: {target} belongs to {', '.join(sorted(allowed))}/ only"


def main():
    found = list(violations(pathlib.Path(__file__).resolve().parent.parent))
    print("\n".join(found) if found else "include directions hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
