# SPDX-License-Identifier: Apache-2.0
"""Recall of facts under routing policies: from the records of `muster eval --task` to tables and a picture.

Values are compared with the baseline's fact by fact and seed by seed. Intervals are bootstraps that draw facts (both items of
a fact together) and seeds independently, each with replacement, since the same facts are asked of every seed's model.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np

DRAWS = 4000
_CHUNK = 250  # draws at a time


class ResultError(Exception):
    """What is wrong with the measurements, in one sentence."""


@dataclasses.dataclass(frozen=True)
class Policy:
    name: str  # in tables
    text: str
    equal: bool = True  # has the activations of the baseline

    @property
    def stem(self) -> str:
        """Of the files of its records."""
        return self.name.replace(" ", "-").replace("/", "_")


@dataclasses.dataclass
class Task:
    """The items of one task and what was measured: values[policy name][metric]: [seeds, items]."""

    name: str
    items: list[dict]
    values: dict[str, dict[str, np.ndarray]]

    def select(self, band: str = "", phrasing: str = "") -> np.ndarray:
        """Indices of items; empty words stand for all."""
        return np.array([i for i, item in enumerate(self.items)
                         if band in ("", item["band"]) and phrasing in ("", item["phrasing"])], dtype=int)


def read_lines(path: Path) -> list[dict]:
    try:
        with open(path, encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise ResultError(f"{path} cannot be read ({error}), expected one JSON object a line.") from error


def check_activations(records: list[dict], experts: int, path: Path) -> None:
    """Every item spent `experts` per layer and token; layers that have none at all are dense."""
    for record in records:
        layers = [x for x in record["experts"] if x > 0]
        if abs(sum(layers) - experts * len(layers)) > 1e-6 * experts * len(layers):
            raise ResultError(f"{path}: item {record['item']} spent {sum(layers):.6f} experts per token, "
                              f"expected {experts * len(layers)}: the comparison would not be fair.")


def read_task(name: str, items: list[dict], policies: list[Policy], experts: int, files) -> Task:
    """`files(policy)`: the records of each seed, in the order of the items, perhaps of the first ones alone."""
    values: dict[str, dict[str, np.ndarray]] = {}
    count = None
    for policy in policies:
        seeds = []
        for path in files(policy):
            records = read_lines(path)
            count = len(records) if count is None else count
            if len(records) != count or not 0 < count <= len(items):
                raise ResultError(f"{path} holds {len(records)} records, expected as many as the other files.")
            if policy.equal:
                check_activations(records, experts, path)
            seeds.append(records)
        values[policy.name] = {metric: np.array([[r["metrics"][metric] for r in records] for records in seeds])
                               for metric in seeds[0][0]["metrics"]}
    return Task(name, items[:count], values)


def by_fact(task: Task, which: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[seeds, items] to the means of each fact, [seeds, facts]."""
    names, index = np.unique([task.items[i]["fact"] for i in which], return_inverse=True)
    sums = np.zeros((values.shape[0], len(names)))
    for row, value in zip(sums, values[:, which]):
        np.add.at(row, index, value)
    return sums / np.bincount(index)


def bootstrap(values: np.ndarray, draws: int = DRAWS, confidence: float = 0.95) -> tuple[float, float, float]:
    """values: [seeds, facts]. Mean, low, high."""
    random = np.random.default_rng(1)
    seeds, facts = values.shape
    means = []
    for begin in range(0, draws, _CHUNK):
        n = min(_CHUNK, draws - begin)
        of_facts = random.multinomial(facts, np.full(facts, 1 / facts), size=n)
        of_seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=n)
        means.append(((of_facts @ values.T) * of_seeds).sum(axis=1) / (facts * seeds))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(values.mean()), float(low), float(high)


def difference(task: Task, policy: str, base: str, metric: str, which: np.ndarray) -> tuple[float, float, float]:
    return bootstrap(by_fact(task, which, task.values[policy][metric] - task.values[base][metric]))


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    return _row(head) + "|" + "---|" * len(head) + "\n" + "".join(map(_row, rows)) + "\n"


def change(triple: tuple[float, float, float], scale: float, digits: int) -> str:
    mean, low, high = (scale * x for x in triple)
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _columns(task: Task) -> list[tuple[str, np.ndarray]]:
    bands = sorted({item["band"] for item in task.items}, key=lambda b: int(b.split("-")[0]))
    return [(band, task.select(band)) for band in bands] + [("all", task.select())]


def recall_tables(task: Task, policies: list[Policy], metric: str, scale: float, digits: int) -> str:
    """Values by band, then differences from the first policy."""
    columns = _columns(task)
    head = [f"told … times ({len(task.items)} items)"] + [name for name, _ in columns]
    values = [[p.name] + [f"{scale * by_fact(task, which, task.values[p.name][metric]).mean():.{digits}f}"
                          for _, which in columns] for p in policies]
    base = policies[0].name
    changes = [[p.name] + [change(difference(task, p.name, base, metric, which), scale, digits) for _, which in columns]
               for p in policies[1:]]
    head_changes = [f"minus {base}"] + head[1:]
    return table(head, values) + table(head_changes, changes)


def phrasing_table(task: Task, policies: list[Policy], metric: str) -> str:
    """Phrasings that training has, and those that it has not."""
    kinds = sorted({item["phrasing"] for item in task.items}, reverse=True)
    selected = [task.select(phrasing=kind) for kind in kinds]
    base = policies[0].name
    rows = []
    for p in policies:
        cells = [p.name]
        for which in selected:
            cells.append(f"{100 * task.values[p.name][metric][:, which].mean():.1f}")
            cells.append("–" if p.name == base else change(difference(task, p.name, base, metric, which), 100, 1))
        rows.append(cells)
    return table(["phrasing"] + [x for kind in kinds for x in (kind, "difference")], rows)


def against_table(tasks: list[Task], full: str, controls: list[str]) -> str:
    """The whole plan minus each control, all bands."""
    rows = [[f"{full} minus {name}"] + [change(difference(t, full, name, "acc", t.select()), 100, 1) for t in tasks]
            for name in controls]
    return table(["points, all bands"] + [t.name for t in tasks], rows)


def seed_table(task: Task, policies: list[Policy], seeds: list[int]) -> str:
    """Differences of each seed by itself, intervals over facts."""
    base = task.values[policies[0].name]["acc"]
    rows = []
    for p in policies[1:]:
        gaps = task.values[p.name]["acc"] - base
        rows.append([p.name] + [change(bootstrap(by_fact(task, task.select(), gaps[s:s + 1])), 100, 1)
                                for s in range(len(seeds))])
    return table([f"{task.name}: minus {policies[0].name}"] + [f"seed {seed}" for seed in seeds], rows)


def _number(value) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def calibration_table(plans: list[tuple[str, dict]]) -> str:
    """What calibrations found, each with its name: reliability is the agreement of odd and even windows."""
    rows = []
    for name, plan in plans:
        experts = [e for layer in plan["layers"] for e in layer["experts"]]
        measured = [e for e in experts if e["tokens"] > 0]
        rows.append([name, str(plan["windows"]), _number(plan["contrast_reliability"]),
                     _number(plan["impact_reliability"]),
                     ", ".join(_number(layer["contrast"][0]) for layer in plan["layers"]),
                     "/".join(str(layer["budget"]) for layer in plan["layers"]),
                     f"{len(measured)} of {len(experts)}",
                     str(sum((e["impact"][1] or 0) > 0 for e in measured)), str(sum(e["dormant"] for e in experts))])
    return table(["seed", "windows", "contrast: split halves", "impact: split halves", "contrast of the layers", "budgets",
                  "experts measured", "surely above 0", "dormant"], rows)


def prose_table(prose: list[dict], policies: list[Policy]) -> str:
    """prose: of each seed, the document of `muster eval --json` with the policies in order."""
    rows = []
    for i, p in enumerate(policies):
        parts = [document["policies"][i] for document in prose]
        changes = [part["difference"] for part in parts]
        rows.append([p.name, f"{np.mean([part['all']['loss'] for part in parts]):.4f}",
                     "–" if i == 0 else ", ".join(f"{d['mean']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]" for d in changes),
                     f"{np.mean([part['all']['experts_per_token'] for part in parts]):.3f}",
                     f"{np.mean([part['activated_parameters'] for part in parts]) / 1e6:.2f} M"])
    return table(["held-out prose", "nats per token", "difference, each seed", "experts per token", "activated"], rows)


def plot(tasks: list[Task], policies: list[Policy], path: Path) -> None:
    """Differences from the first policy over bands, a panel for each task."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "svg.hashsalt": "muster", "axes.spines.top": False, "axes.spines.right": False})
    figure, panels = plt.subplots(1, len(tasks), figsize=(4.7 * len(tasks), 3.6), layout="constrained", squeeze=False)
    for axes, task in zip(panels[0], tasks):
        columns = _columns(task)
        for i, policy in enumerate(policies[1:]):
            points = [difference(task, policy.name, policies[0].name, "acc", which) for _, which in columns]
            mean, low, high = 100 * np.array(points).T
            place = np.arange(len(columns)) + (i - (len(policies) - 2) / 2) * 0.8 / len(policies)
            axes.errorbar(place, mean, yerr=[np.maximum(mean - low, 0), np.maximum(high - mean, 0)], fmt="o", markersize=3,
                          capsize=2, linewidth=1, color=plt.cm.tab20(i % 20), label=policy.name)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set(xticks=range(len(columns)), xticklabels=[name for name, _ in columns], xlabel="times told in one pass",
                 ylabel=f"points against {policies[0].name}", title=task.name)
    panels[0][-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
