# SPDX-License-Identifier: Apache-2.0
"""Tests of the corpus builder on fixtures made here; no network, no packages."""

import gzip
import io
import json
import re
import sqlite3
import struct
import tarfile
import tempfile
import unittest
import zlib
from pathlib import Path
from unittest import mock

import build_corpus
import mixes
import packages
import readers_prose
import readers_reference
from binary import r_database, r_unserialize, sword_entries
from build_corpus import Deduplicator, Original
from markup import osis_text, pod_blocks, pod_inline, rst_blocks, rst_inline
from text import Block, assemble, html_blocks, normalise, split_long, unwrap

WORDS = ("the ship sailed over a quiet sea and all the men on deck were glad of it when morning "
         "came with light from the east while birds flew round").split()


def prose(start: int, count: int = 120) -> str:
    """English-looking sentences that differ for different `start`."""
    words = [WORDS[(start * 7 + i * (start % 5 + 1) + i * i) % len(WORDS)] + str(start)[:i % 7 == 0]
             for i in range(count)]
    return " ".join(words) + "."


class RWriter:
    """Writes the few R types that the reader's tests need, as R's XDR serialisation does."""

    def __init__(self) -> None:
        self.out = io.BytesIO()
        self.out.write(b"X\n" + struct.pack(">iii", 2, 0x40000, 0x20300))

    def integers(self, *values: int) -> None:
        self.out.write(struct.pack(f">{len(values)}i", *values))

    def char(self, text: str | None) -> None:
        data = b"" if text is None else text.encode()
        self.integers(0x40009, -1 if text is None else len(data))
        self.out.write(data)

    def strings(self, values: list[str | None]) -> None:
        self.integers(16, len(values))
        for value in values:
            self.char(value)

    def integer_vector(self, values: list[int]) -> None:
        self.integers(13, len(values), *values)

    def named_list(self, items: dict, write_value) -> None:
        self.integers(0x200 | 19, len(items))
        for value in items.values():
            write_value(value)
        self.integers(0x400 | 2, 1)  # pairlist cell with a tag, then the symbol
        self.char("names")
        self.strings(list(items))
        self.integers(254)


class BinaryTest(unittest.TestCase):
    def test_r_strings_and_missing_values(self):
        writer = RWriter()
        writer.strings(["Emma", None, "naïve"])
        self.assertEqual(r_unserialize(writer.out.getvalue()), ["Emma", None, "naïve"])

    def test_r_database(self):
        writer = RWriter()
        writer.strings(["CHAPTER I", "It was so."])
        raw = writer.out.getvalue()
        entry = struct.pack(">I", len(raw)) + zlib.compress(raw)
        rdb = b"other" + entry
        index = RWriter()
        index.named_list({"variables": None}, lambda _: index.named_list(
            {"emma": [5, len(entry)]}, index.integer_vector))
        for compress in (zlib.compress, gzip.compress):
            found = r_database(compress(index.out.getvalue()), rdb)
            self.assertEqual(found, {"emma": ["CHAPTER I", "It was so."]})

    def test_damaged_r_objects_are_refused(self):
        writer = RWriter()
        writer.strings(["a long enough string"])
        for data in (b"Y\n", writer.out.getvalue()[:-4], b"X\n" + struct.pack(">iii", 9, 0, 0)):
            with self.assertRaises(ValueError):
                r_unserialize(data)

    @staticmethod
    def sword_module(layout: str) -> tuple[bytes, bytes, bytes]:
        blocks = [b"In the beginning.And then.", b"A second book."]
        zz, zs = b"", b""
        for block in blocks:
            packed = zlib.compress(block)
            zs += struct.pack("<III", len(zz), len(packed), len(block))
            zz += packed
        records = [(0, 0, 0), (0, 0, 17), (0, 0, 17), (0, 17, 9), (1, 0, 14)]
        return zs, b"".join(struct.pack(layout, *record) for record in records), zz

    def test_sword_entries_in_both_layouts(self):
        for layout in ("<IIH", "<III"):
            self.assertEqual(sword_entries(*self.sword_module(layout)),
                             ["In the beginning.", "And then.", "A second book."])

    def test_damaged_sword_modules_are_refused(self):
        zs, zv, zz = self.sword_module("<IIH")
        with self.assertRaises(ValueError):
            sword_entries(zs, zv + struct.pack("<IIH", 7, 0, 5), zz)
        with self.assertRaises(ValueError):
            sword_entries(zs[:8] + b"\1\0\0\0" + zs[12:], zv, zz)


class TextTest(unittest.TestCase):
    def test_normalise(self):
        self.assertEqual(normalise("\u201cit\u2019s\u201d\u00a0so\r\n\x07e\u0301\u00ad!"),
                         "\"it's\" so\n\u00e9!")

    def test_unwrap_joins_prose_and_keeps_lists_and_verse(self):
        self.assertEqual(unwrap("One line of prose that\nruns on here.\n\n\n  Next\n  one."),
                         "One line of prose that runs on here.\n\nNext one.")
        self.assertEqual(unwrap("Choose:\n- the first\n  of all\n- the second"),
                         "Choose:\n- the first of all\n- the second")
        verse = "Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand"
        self.assertEqual(unwrap(verse), verse)
        self.assertEqual(unwrap("well-\nknown\n======"), "well-known")

    def test_split_long_keeps_every_word(self):
        text = "\n\n".join(prose(i) for i in range(40)) + "\n\n" + ". ".join(
            prose(i).capitalize() for i in range(40, 60))
        parts = split_long(text, 4000)
        self.assertEqual(" ".join(parts).split(), text.split())
        self.assertLess(max(map(len, parts)), 4600)
        self.assertGreater(min(map(len, parts)), 2000)
        self.assertEqual(split_long("short", 4000), ["short"])

    def test_html(self):
        page = """<html><head><title>T</title><style>p{}</style></head><body>
            <div class="nav"><div>up</div> next</div><h1>Of Ships</h1>
            <p>A <b>ship</b> sails &amp; <br>floats.<script>x()</script>
            <ul><li><p>first</p></li><li>second</li></ul>
            <pre>  x = 1\n  y = 2</pre><footer>end</footer></body></html>"""
        self.assertEqual(html_blocks(page, frozenset({"nav"})), [
            Block("head", "Of Ships"), Block("para", "A ship sails & floats."),
            Block("item", "- first"), Block("item", "- second"),
            Block("code", "    x = 1\n    y = 2")])

    def test_assemble_limits_code_and_drops_empty_sections(self):
        blocks = [Block("head", "Gone"), Block("head", "Kept"), Block("para", "p" * 100),
                  Block("code", "c" * 20), Block("code", "d" * 20), Block("head", "Gone too")]
        self.assertEqual(assemble(blocks), "Kept\n\n" + "p" * 100 + "\n\n" + "c" * 20)


class MarkupTest(unittest.TestCase):
    def test_rst_inline(self):
        self.assertEqual(
            rst_inline("Use :func:`~os.path.join` or ``*x``, see `the guide <http://x/y>`_ [#f]_ "
                       "and *this* :ref:`part <label>`."),
            "Use join or *x, see the guide and this part.")

    def test_rst_blocks(self):
        source = """.. comment\n\nTitle\n=====\n\nProse that\nis wrapped::\n\n  code(1)\n
.. toctree::\n   :maxdepth: 2\n\n   a\n   b\n\n.. note:: Mind\n   the gap.\n
.. function:: f(x)\n\n   Does *much*.\n\n- item one\n  goes on\n- item two\n
====  ====\nA     B\n====  ====\n1     2\n====  ====\n\nterm\n   its meaning\n"""
        self.assertEqual(rst_blocks(source), [
            Block("head", "Title"), Block("para", "Prose that is wrapped:"),
            Block("code", "    code(1)"), Block("para", "Note: Mind the gap."),
            Block("head", "f(x)"), Block("para", "Does much."), Block("item", "- item one goes on"),
            Block("item", "- item two"), Block("para", "term: its meaning")])

    def test_pod(self):
        self.assertEqual(pod_inline("B<bold I<both>> C<< a->b >> L<the page|perlfunc/x> E<lt>X<i>"),
                         "bold both a->b the page <")
        source = ("code\n\n=head1 NAME\n\nf - g\n\n=over\n\n=item A\n\nBody.\n\n=item B\n\n"
                  "=back\n\n=begin html\n\n<p>\n\n=end html\n\n  x = 1\n\n=cut\n\nmore")
        self.assertEqual(pod_blocks(source), [
            Block("head", "Name"), Block("para", "f - g"), Block("item", "- A: Body."),
            Block("item", "- B"), Block("code", "    x = 1")])

    def test_osis(self):
        markup = ('<title>A Psalm.</title><div sID="g1" type="x-p"/><w lemma="x">God</w><note>1:1 '
                  '</note><w>created</w> <w>light</w> , &amp; it was.<div eID="g1" type="x-p"/>')
        self.assertEqual(osis_text(markup), "A Psalm.\n\nGod created light, & it was.")


class ReaderTest(unittest.TestCase):
    def test_wordnet(self):
        line = ('00407433 04 n 02 paper_fold 0 folding(a) 0 001 @ 00405224 n 0000 | the act of '
                'folding; "a double fold"  \n')
        files = {"dict/data.noun": ("  1 head\n" + line).encode()}
        documents = list(readers_reference.wordnet(files))
        self.assertEqual(documents, [
            ("noun/0", 'paper fold, folding (noun): the act of folding; "a double fold"')])

    def test_gcide(self):
        entry = ('Davit \\Dav"it\\, n. [Cf. F. davier [x] forceps.] (Naut.)\n   A spar formerly '
                 'used on board of the {ships}\n   as a crane; -- called also\n   the {boom}. '
                 '--Totten.\n   [1913 Webster]\n')
        files = {"gcide.dict.dz": gzip.compress(b"00-database-info\n   x\n\n" + entry.encode())}
        self.assertEqual(list(readers_reference.gcide(files)), [
            ("gcide/0", "Davit (noun): (Naut.) A spar formerly used on board of the ships as a "
                        "crane; called also the boom. -- Totten.")])

    def test_ontology(self):
        connection = sqlite3.connect(":memory:")
        connection.execute("CREATE TABLE go_term (go_id, term, definition)")
        connection.execute("INSERT INTO go_term VALUES ('GO:1', 'heart process', "
                           "'A process carried out by the heart, an organ of the body.')")
        connection.commit()
        self.assertEqual(list(readers_reference.ontology({"GO.sqlite": connection.serialize()})), [
            ("go/0", "Heart process: A process carried out by the heart, an organ of the body.")])

    def test_metamath(self):
        source = ("$( Show that the sum of ` A ` and the other is closed, see ~ addcl . And this "
                  "` ( A + B ) = ( B + A ) ` goes.  (Contributed by NM, 1-Jan-2000.) $) addcl $p "
                  "|- x $= y $.")
        (_, text), = readers_reference.metamath({"set.mm": source.encode()})
        self.assertEqual(text, "Show that the sum of A and the other is closed, see addcl.")

    def test_mail(self):
        raw = (b"From x Mon\nSubject: Re: [list] The sea\nContent-Type: text/plain\n\n"
               b"On Monday he wrote:\n> a quotation\nI was at the sea and it was\n"
               b"good to be there for a day.\n-- \nsigned\n")
        (name, text), = readers_prose.mail({"p/easy-ham-1/1.txt": raw})
        self.assertEqual(name, "easy-ham-1/1.txt")
        self.assertEqual(text,
                         "The sea\n\nI was at the sea and it was good to be there for a day.")

    def test_code_drops_generated_files_and_licences(self):
        body = "def f(x):\n    return x\n" * 30
        notice = "# Copyright 2020 Me.\n# All rights.\n\n"
        files = {"usr/lib/python3.11/a.py": (notice + body).encode(),
                 "usr/lib/python3.11/b.py": ("# Code generated by x.\n" + body).encode(),
                 "usr/lib/python3.11/c.py": ("t = [" + "1, 2, 3,\n" * 200 + "]").encode()}
        self.assertEqual(list(readers_reference.code(files)), [("a.py", body.strip("\n"))])


class BuildTest(unittest.TestCase):
    def originals(self) -> list[Original]:
        return [Original(domain, "npm:x", f"{domain}{i}", prose(i + ord(domain)))
                for domain in "ab" for i in range(50)]

    def test_deduplicator(self):
        dedupe = Deduplicator()
        text = " ".join(prose(i) for i in range(5))
        self.assertTrue(dedupe.is_new(text, 0.5))
        self.assertFalse(dedupe.is_new(text.upper() + " !", 0.5))
        self.assertFalse(dedupe.is_new("Copyright someone else. " + text, 0.5))
        self.assertTrue(dedupe.is_new(" ".join(prose(i) for i in range(20, 25)), 0.5))

    def test_split_is_deterministic_and_per_domain(self):
        originals = self.originals()
        held = build_corpus.test_keys(originals, 0.1, 3)
        self.assertEqual(held, build_corpus.test_keys(list(reversed(originals)), 0.1, 3))
        self.assertNotEqual(held, build_corpus.test_keys(originals, 0.1, 4))
        for domain in "ab":
            self.assertIn(sum(key.startswith(f"npm:x/{domain}") for key in held), range(3, 8))
        self.assertEqual(build_corpus.test_keys(originals, 0, 3), set())
        self.assertEqual(len(build_corpus.test_keys(originals, 0.0001, 3)), 2)

    def test_cap(self):
        originals = self.originals()
        kept = build_corpus.capped(originals, 20_000, 1)
        self.assertLessEqual(sum(o.size for o in kept), 20_200)
        self.assertEqual(kept, [o for o in originals if o in kept])
        self.assertEqual(build_corpus.capped(originals, 0, 1), originals)

    def build(self, out: Path, cache: Path) -> None:
        package = packages.Package("npm", "toy", "CC0-1.0", "1.0.0")

        def reader(files):
            for path, data in files.items():
                yield path, data.decode()
        sources = [mixes.Source(domain, package, rf"package/{domain}\d+\.txt", reader)
                   for domain in "ab"]
        with mock.patch.dict(build_corpus.MIXES, {"toy": lambda: sources}), \
                mock.patch.object(build_corpus, "progress"), \
                mock.patch.object(packages, "_run_download", side_effect=AssertionError("network")):
            build_corpus.build("toy", out, cache, 0, 0.1)

    def test_build_end_to_end_from_the_cache(self):
        with tempfile.TemporaryDirectory() as folder:
            cache = Path(folder)
            with tarfile.open(cache / "toy-1.0.0.tgz", "w:gz") as tar:
                for domain in "ab":
                    for i in range(20):
                        text = "\n\n".join(prose(100 * i + ord(domain) * 3 + j, 400)
                                           for j in range(30 if i < 3 else 1)).encode()
                        member = tarfile.TarInfo(f"package/{domain}{i}.txt")
                        member.size = len(text)
                        tar.addfile(member, io.BytesIO(text))
            self.build(cache / "one", cache)
            self.build(cache / "two", cache)
            splits = {}
            for name in ("train.jsonl", "test.jsonl", "manifest.json"):
                data = (cache / "one" / name).read_bytes()
                self.assertEqual(data, (cache / "two" / name).read_bytes())
                splits[name] = data.decode()
            lines = {split: [json.loads(line) for line in splits[f"{split}.jsonl"].splitlines()]
                     for split in ("train", "test")}
            names = {split: {re.sub(r"#\d+$", "", line["id"]) for line in found}
                     for split, found in lines.items()}
            self.assertFalse(names["train"] & names["test"])
            self.assertTrue(any("#2" in line["id"] for found in lines.values() for line in found))
            self.assertEqual(list(lines["train"][0]), ["domain", "source", "id", "text"])
            manifest = json.loads(splits["manifest.json"])
            self.assertEqual(manifest["domains"]["train"]["a"]["documents"],
                             sum(line["domain"] == "a" for line in lines["train"]))
            self.assertFalse(list((cache / "one").glob("*.tmp")))

    def test_a_missing_tool_is_one_sentence(self):
        package = packages.Package("deb", "no-such-package", "none")
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(packages, "progress"), \
                mock.patch("packages.shutil.which", return_value=None):
            with self.assertRaisesRegex(packages.CorpusError, "apt-get is needed .* not installed"):
                packages.fetch(package, Path(folder))

    def test_a_failed_download_says_what_to_do(self):
        package = packages.Package("deb", "no-such-package", "none")
        failed = mock.Mock(returncode=100)
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(packages, "progress"), \
                mock.patch("packages.shutil.which", return_value="/usr/bin/apt-get"), \
                mock.patch("packages.subprocess.run", return_value=failed):
            with self.assertRaisesRegex(packages.CorpusError, "apt-get update"):
                packages.fetch(package, Path(folder))

    def test_mixes(self):
        domains = {name: {source.domain for source in mix()} for name, mix in mixes.MIXES.items()}
        self.assertEqual(len(domains["default"]), 14)
        self.assertEqual(len(domains["full"]), 14)
        self.assertFalse(domains["default"] & {"brown", "e-mail"})
        self.assertFalse(domains["facts"] & {"definitions", "dictionary", "e-mail"})
        self.assertTrue(all(source.package.kind == "npm" for source in mixes.small_mix()))


if __name__ == "__main__":
    unittest.main()
