# SPDX-License-Identifier: Apache-2.0
"""Tests of the factual-recall set on fixtures made here; no network, no packages."""

import csv
import io
import json
import tempfile
import unittest
from collections import Counter
from pathlib import Path
from unittest import mock

import build_facts
import readers_facts as readers
from build_facts import BANDS, CHOICES
from fact_templates import PHRASINGS
from packages import CorpusError
from readers_facts import Fact


def facts(relation: str, count: int) -> list[Fact]:
    """Facts with 40 different answers."""
    return [Fact(relation, f"{relation.title()}{i:03d}x", f"Town{i % 40:02d}y")
            for i in range(count)]


class ReaderTest(unittest.TestCase):
    def test_clean_facts_have_one_untold_answer(self):
        pairs = [("France", "Paris"), ("France", "Paris"), ("Two", "One"), ("Two", "Other"),
                 ("Luxembourg", "Luxembourg"), ("Mexico", "Mexico City"), ("X (odd)", "Y"),
                 ("Long", "a" * 40), ("the Gambia", "Gambia")]
        self.assertEqual(list(readers.clean("capital", pairs)),
                         [Fact("capital", "France", "Paris")])

    def test_countries(self):
        common = {"languages": {"deu": "German"}, "demonyms": {"eng": {"m": "Swiss", "f": "x"}},
                  "currencies": {"CHF": {"name": "Swiss franc"}}, "subregion": "Western Europe"}
        data = [{"name": {"common": "Netherlands"}, "cca3": "NLD", "capital": ["Amsterdam"],
                 "borders": ["CHE"], "idd": {"root": "+3", "suffixes": ["1"]}, **common},
                {"name": {"common": "Switzerland"}, "cca3": "CHE", "capital": ["Bern", "Basel"],
                 "borders": ["NLD", "FRA"], "idd": {"root": "+4", "suffixes": ["1", "2"]},
                 **common},
                {"name": {"common": "France"}, "cca3": "FRA", "capital": [], "borders": [],
                 "idd": {"root": ""}, **{**common, "currencies": []}}]
        found = list(readers.countries({"c.json": json.dumps(data).encode()}))
        by_relation = {name: [(f.subject, f.answer) for f in found if f.relation == name]
                       for name in ("capital", "calling code", "border", "currency")}
        self.assertEqual(by_relation, {
            "capital": [("the Netherlands", "Amsterdam")],
            "calling code": [("the Netherlands", "31")],
            "border": [("the Netherlands", "Switzerland")],
            "currency": [("Switzerland", "Swiss franc"), ("the Netherlands", "Swiss franc")]})

    def test_codes_and_provinces(self):
        data = {"639-2": [{"alpha_3": "ady", "name": "Adyghe; Adygei"},
                          {"alpha_3": "afa", "name": "Afro-Asiatic languages"}],
                "4217": [{"alpha_3": "ALL", "name": "Lek"}],
                "15924": [{"numeric": "160", "name": "Arabic"}],
                "3166-1": [{"alpha_2": "BO", "numeric": "068", "name": "Bolivia, State of",
                            "common_name": "Bolivia"},
                           {"alpha_2": "CG", "numeric": "178", "name": "Congo"},
                           {"alpha_2": "CD", "numeric": "180", "name": "Congo, Republic of the"}],
                "3166-2": [{"code": "BO-B", "name": "Beni"}, {"code": "CG-2", "name": "Niari"}]}
        files = {f"iso_{part}.json": json.dumps({part: rows}).encode()
                 for part, rows in data.items()}
        self.assertEqual([(f.relation, f.subject, f.answer) for f in readers.codes(files)], [
            ("language code", "Adyghe", "ady"), ("currency code", "Lek", "ALL"),
            ("script number", "Arabic", "160"), ("country number", "Bolivia", "068")])
        self.assertEqual([(f.subject, f.answer) for f in readers.subdivisions(files)],
                         [("Beni", "Bolivia")])

    def test_elements(self):
        data = json.dumps({"Oxygen": {"symbol": "O", "atomic_number": 8}}).encode()
        self.assertEqual(list(readers.elements({"p.json": data})), [
            Fact("symbol", "oxygen", "O"), Fact("atomic number", "oxygen", "8")])

    def test_cities_whose_name_stands_twice_are_left_out(self):
        names = [{"name": {"common": "France"}, "cca2": "FR"},
                 {"name": {"common": "Spain"}, "cca2": "ES"}]
        cities = [{"name": n, "country": c} for n, c in (
            ("Pau", "FR"), ("Lugo", "ES"), ("Pau", "ES"), ("Nimes", "FR"), ("Nowhere", "XX"))]
        found = readers.cities({"p/cities.json": json.dumps(cities).encode()},
                               {"c.json": json.dumps(names).encode()})
        self.assertEqual([(f.subject, f.answer) for f in found],
                         [("Lugo", "Spain"), ("Nimes", "France")])

    def test_wordnet(self):
        lines = ["00000001 03 n 01 being 0 000 | what is",
                 "00000002 18 n 01 physicist 0 001 @ 00000001 n 0000 | one of physics"]
        people = ["Ann Bohr", "Bea Curie", "Cid Dirac", "Don Fermi", "Eva Gauss", "Fay Hertz"]
        for i, name in enumerate(people):
            first, last = name.split(" ")
            lines.append(f"0000001{i} 18 n 02 {last} 0 {first}_{last} 0 001 @i 00000002 n 0000 | x")
        lines.append("00000020 18 n 01 Fay_Hertz 0 001 @i 00000001 n 0000 | another of that name")
        found = list(readers.wordnet_facts({"d": "\n".join(["  1 licence", *lines]).encode()}))
        self.assertEqual([(f.subject, f.answer) for f in found],
                         [(name, "physicist") for name in people[:-1]])
        self.assertEqual(found[0].also, {"physicist", "being"})


class PhrasingTest(unittest.TestCase):
    def test_phrasings_are_enough_and_apart(self):
        for relation, phrasings in PHRASINGS.items():
            known = phrasings.told + phrasings.asked
            every = known + phrasings.held
            self.assertGreaterEqual(len(known), 9, relation)
            self.assertGreaterEqual(len(phrasings.held), 2, relation)
            self.assertEqual(len(set(every)), len(every), relation)
            for text in every:
                self.assertEqual((text.count("{s}"), text.count("{a}")), (1, 1), text)
                self.assertLess(text.index("{s}"), text.index("{a}"), text)
            for text in phrasings.asked + phrasings.held:
                self.assertTrue(text.endswith(" {a}."), text)
                stem = text.removesuffix("{a}.")
                others = [t for t in every if t != text and t.startswith(stem)]
                self.assertFalse(others, text)


class FactSetTest(unittest.TestCase):
    def setUp(self):
        self.told = build_facts.assign(facts("capital", 400) + facts("city", 200), 0.15, 0)

    def test_bands_have_the_same_shares_in_every_relation(self):
        self.assertAlmostEqual(sum(band.share for band in BANDS), 1)
        for relation, count in (("capital", 340), ("city", 170)):
            bands = Counter(t.band.name for t in self.told
                            if t.tested and t.fact.relation == relation)
            for band in BANDS:
                self.assertAlmostEqual(bands[band.name], band.share * count, delta=1)
        for t in self.told:
            self.assertTrue(t.band.low <= t.frequency <= t.band.high)
        self.assertEqual({BANDS[1].frequency(q / 100) for q in range(100)}, {2, 3, 4})
        self.assertEqual(BANDS[-1].frequency(0.9999), 256)

    def test_training_tells_each_fact_as_often_as_its_band_says(self):
        sentences = build_facts.training_sentences(self.told, 0)
        self.assertEqual(len(sentences), sum(t.frequency for t in self.told))
        counts = Counter(sentences)
        for t in self.told[::7]:
            phrasings = PHRASINGS[t.fact.relation]
            known = [build_facts.sentence(p, t.fact) for p in phrasings.told + phrasings.asked]
            self.assertEqual(sum(counts[text] for text in known), t.frequency)
            self.assertEqual(sum(counts[text] > 0 for text in known), min(t.frequency, len(known)))
            self.assertFalse(any(build_facts.sentence(p, t.fact) in counts
                                 for p in phrasings.held))
        for document in build_facts.documents(sentences, "x"):
            subjects = [t.fact for t in self.told if t.fact.subject in document["text"]]
            self.assertEqual(document["domain"], "facts")
            self.assertGreater(len(subjects), 3)

    def test_items(self):
        items = build_facts.test_items(self.told, 0)
        tested = {t.key: t for t in self.told if t.tested}
        self.assertEqual(Counter(item["fact"] for item in items),
                         Counter({key: 2 for key in tested}))
        for item in items:
            t = tested[item["fact"]]
            phrasings = PHRASINGS[item["relation"]]
            texts = phrasings.asked if item["phrasing"] == "known" else phrasings.held
            whole = f"{item['context']} {item['target']}"
            self.assertIn(whole, [build_facts.sentence(p, t.fact) for p in texts])
            self.assertEqual(item["choices"][0], item["target"])
            self.assertEqual(len(set(item["choices"])), CHOICES)
        table = list(csv.DictReader(io.StringIO(build_facts.choices_table(items))))
        self.assertEqual([row["full_prefix"] for row in table],
                         [item["context"] + " " for item in items])
        self.assertEqual(table[5]["contradiction_8"], items[5]["choices"][9])

    def test_true_answers_are_no_wrong_choices(self):
        barred = frozenset(f"town{i:02d}y" for i in range(1, 25))
        fact = Fact("capital", "Here", "Town00y", barred)
        told = build_facts.Told(fact, 0, BANDS[0], 1, True)
        others = facts("capital", 400)
        chosen = build_facts.wrong_choices(told, others, 0, "k")
        self.assertFalse({c.removesuffix(".").casefold() for c in chosen} & (barred | {"town00y"}))
        with self.assertRaisesRegex(CorpusError, "fewer than 10 answers"):
            build_facts.wrong_choices(told, others[:20], 0, "k")

    def corpus(self, folder: Path) -> None:
        tested = next(t for t in self.told if t.tested)
        text = " ".join(f"Of word{i} there is little to say." for i in range(200))
        leak = f"{tested.fact.subject} and {tested.fact.answer}. " * 100
        lines = [{"domain": d, "source": "s", "id": str(i), "text": leak if i == 0 else text}
                 for d in "ab" for i in range(12)]
        (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def test_calibration_text_tells_nothing_that_is_tested(self):
        with tempfile.TemporaryDirectory() as folder:
            self.corpus(Path(folder))
            general = build_facts.general_pieces(Path(folder), self.told, 0)
        self.assertEqual(len({(d["domain"], d["id"]) for d in general}), len(general))
        lines = build_facts.calibration(general[:40], build_facts.fact_pieces(self.told, 0))
        domains = Counter(line["domain"] for line in lines)
        self.assertEqual(domains["facts"], domains["a"] + domains["b"])
        odd = Counter(line["domain"] == "facts" for line in lines[1::2])
        self.assertAlmostEqual(odd[True], odd[False], delta=1)
        text = "\n".join(line["text"] for line in lines)
        for t in self.told:
            phrasings = PHRASINGS[t.fact.relation]
            self.assertFalse(t.tested and t.fact.subject in text, t)
            for phrasing in phrasings.asked + phrasings.held:
                self.assertFalse(build_facts.sentence(phrasing, t.fact) in text, t)

    def test_build_is_deterministic(self):
        data = []
        with tempfile.TemporaryDirectory() as folder:
            self.corpus(Path(folder))
            found = (facts("capital", 400) + facts("city", 200), [])
            for seed in (0, 0, 1):
                out = Path(folder) / "out"
                with mock.patch.object(build_facts, "read_facts", return_value=found), \
                        mock.patch.object(build_facts, "progress"):
                    self.assertEqual(build_facts.main(["--corpus", folder, "--out", str(out),
                                                       "--seed", str(seed)]), 0)
                data.append({path.name: path.read_bytes() for path in out.iterdir()})
        self.assertEqual(set(data[0]), {"facts-train.jsonl", "facts-test.jsonl", "facts.json",
                                        "facts-choices.csv", "calibration.jsonl",
                                        "calibration-facts.jsonl", "prose.jsonl"})
        self.assertEqual(data[0], data[1])
        self.assertNotEqual(data[0]["facts-test.jsonl"], data[2]["facts-test.jsonl"])

    def test_a_missing_corpus_is_one_sentence(self):
        with self.assertRaisesRegex(CorpusError, "expected a corpus"):
            build_facts.general_pieces(Path("/no/such/folder"), self.told, 0)


if __name__ == "__main__":
    unittest.main()
