# SPDX-License-Identifier: Apache-2.0
"""Readers of reference works: dictionaries, ontologies, mathematics, licences, manuals, code.

Every reader takes the members of one package (path to bytes) and yields `(id, text)`: one pair per
original document, the id unique within the package, the text clean but not yet split.
"""

import gzip
import html
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable

from markup import pod_blocks, rst_blocks
from readers_prose import Documents, Files, decode
from text import Block, assemble, english_share, html_blocks, normalise, squeeze, unwrap


_GAP = "\ua66e"  # a rare letter that stands for something removed while its sentence is judged


def _grouped(name: str, entries: Iterable[str], size: int, joint: str = "\n") -> Documents:
    """Documents of `size` consecutive entries."""
    group: list[str] = []
    number = 0
    for entry in entries:
        group.append(entry)
        if len(group) == size:
            yield f"{name}/{number}", joint.join(group)
            group, number = [], number + 1
    if group:
        yield f"{name}/{number}", joint.join(group)


_PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}


def _wordnet_entries(text: str, part: str) -> Iterable[str]:
    for line in text.split("\n"):
        head, bar, gloss = line.partition(" | ")
        if not bar or line.startswith("  "):
            continue
        fields = head.split(" ")
        words = fields[4:4 + 2 * int(fields[3], 16):2]
        words = [re.sub(r"\((?:a|p|ip)\)$", "", word).replace("_", " ") for word in words]
        yield f"{', '.join(words)} ({part}): {squeeze(gloss)}"


def wordnet(files: Files) -> Documents:
    """WordNet's glosses, `word, synonym (noun): definition; "example"`, 50 to a document."""
    for path, data in files.items():
        part = path.rsplit(".", 1)[-1]
        yield from _grouped(part, _wordnet_entries(decode(data), _PARTS[part]), 50)


def _dictd_entries(data: bytes) -> Iterable[str]:
    """The entries of a dictd database: each begins at column 0, its body is indented."""
    text = decode(gzip.decompress(data))
    for entry in re.split(r"\n(?=\S)", text):
        if not entry.startswith("00-database") and "\n   " in entry:
            yield entry.strip("\n")


_GCIDE_LETTER = {"[ae]": "æ", "[oe]": "œ", "[AE]": "Æ", "[deg]": "°", "['e]": "é",
                 "[`e]": "è",
                 "[^e]": "ê", '["o]': "ö", '["u]': "ü", '["a]': "ä", "[,c]": "ç", "['E]": "É",
                 "[frac12]": "1/2", "[frac14]": "1/4", "[frac34]": "3/4", "[pound]": "£",
                 "[~n]": "ñ", "['a]": "á", "[`a]": "à", "[^o]": "ô", "[^a]": "â", "['i]": "í",
                 "[eacute]": "é", "[egrave]": "è"}
_GCIDE_PART = {"n.": "noun", "a.": "adjective", "adj.": "adjective", "adv.": "adverb",
               "v. t.": "verb", "v. i.": "verb", "v.": "verb", "prep.": "preposition",
               "conj.": "conjunction", "interj.": "interjection", "pron.": "pronoun",
               "n. pl.": "plural noun"}
_GCIDE_HEAD = re.compile(r"^(?P<word>[^\\\n]+?)\s*\\[^\\]*\\(?P<rest>.*)$", re.S)


def _gcide_entry(entry: str) -> str:
    """One readable paragraph, or nothing for a stub."""
    if "[WordNet" in entry and "Webster]" not in entry:
        return ""  # WordNet itself has it
    for code, letter in _GCIDE_LETTER.items():
        entry = entry.replace(code, letter)
    match = _GCIDE_HEAD.match(entry)
    if not match:
        return ""
    word = re.sub(r"\s*\\[^\\]*\\", "", match.group("word")).strip(" ,")
    head, _, body = match.group("rest").partition("\n")
    body = re.sub(r"\n\s+--?(?=[A-Z])", " --", body)  # a quotation's author on his own line
    text = squeeze(head + " " + body)
    text = re.sub(r"\\[^\\]{1,40}\\", "", text)
    for _ in range(3):  # etymologies, sources and remarks nest
        text = re.sub(r"\[[^\[\]]*\]", "", text)
    if re.search(r"[\[\]]|\w\?\w", text):  # what is left, or a letter that the source lacks
        return ""
    text = squeeze(re.sub(r"[{}]", "", text))
    text = re.sub(r"\s*-- [\w*\"'` -]*[*\"`][\w*\"'`-]*,? (?:n|a|adv|v\. [ti])\.", "", text)
    text = re.sub(r"^[\s,]*(?:\([^)]*\)[\s,]*)?", "", text, count=1) if text[:1] in ", (" else text
    text = re.sub(r"^(?:(?:,|or)\s*)*(?:[A-Z][\w' -]+,\s*)+(?=(?:n|a|v|adv)\.)", "", text)
    text = re.sub(r"(?<=[.)]) [A-Z][\w' -]+$", "", text)  # the next entry's other spelling
    part = ""
    found = re.match(r"(n\. pl\.|v\. [ti]\.|(?:n|a|adj|adv|v|prep|conj|interj|pron)\.)"
                     r"(?:\s*&\s*(?:n|a|v\. [ti]|adv)\.)?[\s,;]*", text)
    if found:
        part = f" ({_GCIDE_PART[found.group(1)]})"
        text = text[found.end():]
    text = re.sub(r"^(?:(?:imp|p\. p|pl|p\. pr|vb\. n|superl|compar|sing)\.[^.;]*[.;]\s*)+", "",
                  text)
    text = re.sub(r"\s*[;,]?\s*-- (?=[a-z]{2})", "; ", text)
    text = re.sub(r"\s*--\s*(?=[A-Z])", " -- ", text)
    text = re.sub(r"\s*\b(?:Syn|Note): ", lambda m: f" {m.group(0).strip()} ", text)
    text = re.sub(r"\s+([,.;:])", r"\1", text)
    text = re.sub(r"([;,])(?:\s*[;,])+", r"\1", squeeze(text)).strip(" ,;")
    stub = re.match(r"(?:See|Same as)\b[^.]{0,60}\.$", text)
    if stub or len(text) < 50 or english_share(text) < 0.12:
        return ""
    return f"{word}{part}: {text}"


def gcide(files: Files) -> Documents:
    """Webster's 1913 definitions without pronunciation and etymology, 30 to a document."""
    data = next(iter(files.values()))
    yield from _grouped("gcide", filter(None, map(_gcide_entry, _dictd_entries(data))), 30)


def _foldoc_entry(entry: str) -> str:
    word, _, body = entry.partition("\n")
    if "Jargon File" in body:
        return ""  # the Jargon File itself is read from its own package
    body = re.sub(r"[{}]", "", body)
    body = re.sub(r"(?m)^\s*\((?:\d{4}-\d\d(?:-\d\d)?)\)\s*$", "", body)
    body = re.sub(r"\s*\[[^\]]{0,60}\?\]\.?|(?m:^\s*\[[^\]]{0,60}\]\.?\s*$)", "", body)
    body = re.sub(r"<(?:[\w /.,-]{2,40})>\s*", "", body, count=1)
    body = re.sub(r"\(?<?(?:https?|ftp)://\S+>?\)?", _GAP, body)
    body = re.sub(r"\s*(?:E-?mail:\s*)?<\S+@\S+>\.?", "", body)
    for synonym in (f'(Or "{word.strip()}")', f"({word.strip()})"):
        body = body.replace(synonym, "", 1)
    body = re.sub(r"(?m)^\s*(?:E-mail|Telephone|FTP|Home|Usenet newsgroup).*$", "", body)
    paragraphs = (part for part in unwrap(body).split("\n\n")
                  if len(part) > 2 and not re.fullmatch(r"\[.*\]\.?", part, re.S)
                  and not (_GAP in part and len(part) < 150))
    text = re.sub(rf" ?{_GAP}", "", "\n\n".join(paragraphs)).strip()
    if len(text) < 80 or english_share(text) < 0.12:
        return ""
    return f"{word.strip()}: {text}"


def foldoc(files: Files) -> Documents:
    """The computing dictionary's entries of substance, 20 to a document."""
    data = next(iter(files.values()))
    entries = filter(None, map(_foldoc_entry, _dictd_entries(data)))
    yield from _grouped("foldoc", entries, 20, "\n\n")


def jargon(files: Files) -> Documents:
    """The Jargon File: its essays, then its entries, 25 to a document."""
    text = decode(gzip.decompress(next(iter(files.values()))))
    text = re.sub(r"[{}]", "", text[text.index("Welcome to the Jargon File", 500):])
    essays, *rest = re.split(r"\n {3}(?=:[^:\n]+:)", text)
    rest[-1], _, appendices = rest[-1].partition("Appendices")
    for number, part in enumerate(re.split(r"\n\s*(?=Chapter \d+\.)", essays)):
        yield f"essay/{number}", unwrap(part)
    entries = []
    for entry in rest:
        match = re.match(r":([^:\n]+):\s*(?:/[^/\n]+/)?[\s,]*", entry)
        body = unwrap(entry[match.end():])
        body = re.sub(r"^(?:(?:n|v|adj|adv|vt|vi|interj|pl)\.[\s,/]*)+", "", body)
        if len(body) >= 60:
            entries.append(f"{match.group(1)}: {body}")
    yield from _grouped("entry", entries, 20, "\n\n")
    yield "appendices", unwrap(appendices)


_OPENING_LIMIT = 400  # definitions that may share their first four words


def ontology(files: Files) -> Documents:
    """Gene Ontology terms, `Name: definition.`, 40 to a document, capped per stock phrase."""
    connection = sqlite3.connect(":memory:")
    connection.deserialize(next(iter(files.values())))
    rows = connection.execute(
        "SELECT term, definition FROM go_term WHERE definition IS NOT NULL ORDER BY go_id")
    openings: Counter[str] = Counter()
    entries = []
    for term, definition in rows:
        definition = squeeze(normalise(definition))
        opening = " ".join(definition.split()[:4])
        openings[opening] += 1
        formula = len(re.findall(r"[\d=+()\[\]]", definition)) / (len(definition) + 1)
        if openings[opening] <= _OPENING_LIMIT and len(definition) > 40 and formula < 0.08:
            term = normalise(term)
            if re.match(r"[a-z]{3,}(?:[ ,]|$)", term):
                term = term[0].upper() + term[1:]
            entries.append(f"{term}: {definition}")
    connection.close()
    yield from _grouped("go", entries, 40)


_MM_CREDIT = re.compile(
    r"\s*\((?:Contributed|Revised|Prove|Proof shortened|Proof modification|New usage|Proof revised|"
    r"Shortened|Moved|Unnecessary|Removed|Minor|Distinct)\b[^()]*(?:\([^()]*\)[^()]*)*\)")


def _metamath_comment(comment: str) -> str:
    if re.search(r"\$[a-z]\b|<HTML|[#=*.-]{10,}", comment):
        return ""
    text = _MM_CREDIT.sub("", squeeze(html.unescape(comment)))
    text = re.sub(r"` ?([^`]*?) ?`", lambda m: _GAP if len(m.group(1)) > 14 else m.group(1), text)
    sentences = re.split(r"(?<=[.:;]) +(?=[A-Z(\"])", text)
    text = " ".join(sentence for sentence in sentences if _GAP not in sentence)
    text = re.sub(r"(?<!\S)~ (\S+)", r"\1", text)
    text = re.sub(r"(?<![\w_])_([^_\n]+)_(?![\w_])", r"\1", text)
    text = re.sub(r"(?<=[(\[{]) ", "", re.sub(r"\s+([,.;:)\]}])", r"\1", text))
    text = text.replace("[[", "[").replace("]]", "]")
    if len(text) < 50 or english_share(text) < 0.2 or re.match(r"Lemma (?:\w+ )?for \S+$", text):
        return ""
    return text


def metamath(files: Files) -> Documents:
    """The explanations of theorems, 50 to a document, sentences with long formulas left out."""
    seen: set[str] = set()
    for path, data in sorted(files.items(), key=lambda item: -len(item[1])):
        comments = re.findall(r"\$\((.*?)\$\)", decode(data), re.S)
        entries = dict.fromkeys(filter(None, map(_metamath_comment, comments)))
        fresh = [entry for entry in entries if entry not in seen]
        seen.update(fresh)
        yield from _grouped(path.rsplit("/", 1)[-1][:-3], fresh, 50, "\n\n")


def licences(files: Files) -> Documents:
    """English licence texts, one document each."""
    for name, entry in sorted(json.loads(next(iter(files.values()))).items()):
        text = unwrap(normalise(entry["licenseText"]))
        text = re.sub(r"(?m)^#+\s*", "", text)
        if english_share(text) > 0.25:
            yield name, text


def rst_manual(files: Files) -> Documents:
    """reStructuredText files (plain or gzipped) as prose with modest code."""
    for path, data in files.items():
        data = gzip.decompress(data) if path.endswith(".gz") else data
        text = assemble([block for block in rst_blocks(decode(data))
                         if not block.text.startswith(("Source code: ", "Documentation/"))])
        name = re.sub(r"^.*?(?:_sources|Documentation)/|\.rst(?:\.txt|\.gz)?$", "", path)
        if english_share(text) > 0.2:
            yield name, text


def pod_manual(files: Files) -> Documents:
    """Perl's POD pages as prose with modest code."""
    for path, data in files.items():
        text = assemble(pod_blocks(decode(data)))
        if english_share(text) > 0.2:
            yield path.rsplit("/", 1)[-1][:-4], text


def _with_notes(blocks: Iterable[Block]) -> list[Block]:
    """Puts the heading of a note before its first paragraph: `Note: …`."""
    result: list[Block] = []
    for block in blocks:
        note = result and result[-1].kind == "head" and result[-1].text in (
            "Note", "Tip", "Caution", "Warning", "Important")
        if note and block.kind == "para":
            result[-1] = Block("para", f"{result[-1].text}: {block.text}")
        else:
            result.append(block)
    return result


_SECTION = re.compile(r"^(?:Chapter |Appendix )?\w{1,3}(?:\.\d+)*\. ")


def html_manual(files: Files) -> Documents:
    """DocBook's HTML pages as prose with modest code."""
    hidden = frozenset({"navheader", "navfooter", "toc", "synopsis", "refsynopsisdiv", "footnotes",
                        "indexterm", "table-contents", "table", "informaltable", "titlepage-nav"})
    for path, data in files.items():
        blocks = [Block("head", _SECTION.sub("", block.text)) if block.kind == "head" else block
                  for block in html_blocks(decode(data), hidden)
                  if not re.fullmatch(r"\s*(?:#|\(\d\))\s*", block.text)]
        text = assemble(_with_notes(blocks))
        if english_share(text) > 0.2:
            yield path.rsplit("/", 1)[-1][:-5], text


_GENERATED = re.compile(r"(?i)code generated|do not edit|automatically generated|autogenerated|"
                        r"generated by|this file is generated")


def _without_licence(text: str) -> str:
    """Drops an opening comment that states the copyright."""
    match = re.match(r"(?:#!.*\n|\s)*((?:(?://|#).*\n)+|/\*[\s\S]*?\*/\s*\n)\s*", text)
    return text[match.end():] if match and "opyright" in match.group(1) else text


_CODE_ROOT = re.compile(
    r"^usr/(?:share/go-[\d.]+/src|src/rustc-[\d.]+/library|lib/python[\d.]+)/")


def code(files: Files) -> Documents:
    """Source files that people wrote: no generated files, no tables of numbers, no long lines."""
    for path, data in files.items():
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            continue
        if _GENERATED.search(text[:1500]) or not 400 <= len(text) <= 120_000:
            continue
        lines = text.split("\n")
        digits = len(re.findall(r"\b0x[0-9a-fA-F]+|\b\d+", text))
        if max(map(len, lines)) > 200 or digits > len(text.split()) * 0.2:
            continue
        name = _CODE_ROOT.sub("", path)
        yield name, _without_licence(text.replace("\r\n", "\n")).strip("\n")
