# SPDX-License-Identifier: Apache-2.0
"""reStructuredText, POD and OSIS reduced to plain blocks of prose with modest code."""

import re
import textwrap

from text import Block, squeeze

_DROPPED = frozenset(
    "toctree index image figure raw csv-table tabularcolumns kernel-doc contents highlight include "
    "literalinclude module currentmodule sectionauthor moduleauthor testsetup testcleanup testcode "
    "testoutput productionlist math versionchanged versionadded deprecated list-table flat-table "
    "table only default-role role meta kernel-figure kernel-render kernel-include kernel-feat "
    "kernel-abi maintainers-include opcode audit-event availability impl-detail parsed-literal "
    "cssclass rst-class highlightlang deprecated-removed miscnews graphviz digraph tabs ifconfig "
    "localmodule codeauthor doctest unicode replace date header footer target-notes".split())
_CODE = frozenset("code code-block sourcecode".split())
_ADMONITION = {"note": "Note: ", "warning": "Warning: ", "tip": "Tip: ", "important": "Important: ",
               "caution": "Caution: ", "seealso": "See also: ", "hint": "Hint: "}
_DIRECTIVE = re.compile(r"\.\.\s+([\w:+-]+?)::\s*(.*)")
_UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_<>])\1{2,}\s*$")
_RST_BULLET = re.compile(r"(?:[-*+•]|\(?(?:\d{1,3}|[a-zA-Z]|#)[.)])(\s+)\S")
_ROLE = re.compile(r":[\w:+.-]+:`([^`]*)`")
_LINK = re.compile(r"`([^`<]*?)\s*<[^`>]*>`_{0,2}")
_TABLE = re.compile(r"={2,}(\s+={2,})+\s*$|\+[-=+]{3,}|\|\s.*\|$")
_FIELD = re.compile(r":[\w /.*-]+:(\s|$)")


def _role_text(match: re.Match) -> str:
    text = match.group(1)
    target = re.match(r"(.*?)\s*<[^>]*>$", text, re.S)
    if target:
        return target.group(1)
    if text.startswith("~"):
        text = text[1:].rsplit(".", 1)[-1]
    return text.lstrip("!")


def rst_inline(text: str) -> str:
    """The text of a paragraph without roles, links, emphasis, footnote marks and targets."""
    text = _ROLE.sub(_role_text, text)
    text = _LINK.sub(r"\1", text)
    text = re.sub(r"\s*<(?:(?:https?|ftp)://[^>\s]+|[^<>@\s]+@[^<>@\s]+)>", "", text)
    text = re.sub(r"``(.+?)``", r"\1", text)
    text = re.sub(r"_?`([^`]+)`_{0,2}", r"\1", text)
    text = re.sub(r"\s*\[(?:#\w*|\d+|\*)\]_", "", text)
    text = re.sub(r"\[([\w-]+)\]_", r"[\1]", text)
    text = re.sub(r"(?<![\w*])\*\*?(?=\S)([^*\n]+?)(?<=\S)\*\*?(?![\w*])", r"\1", text)
    text = re.sub(r"(?<![\w|])\|([\w -]+)\|(?:_{1,2})?(?![\w|])", r"\1", text)
    text = re.sub(r"(\w)__?(?=[\s,.;:)]|$)(?<!__init__)", r"\1", text)
    text = re.sub(r"(?<= )---?(?= )", "—", text)
    return squeeze(re.sub(r"\\([\\*`_|<>: ])", r"\1", text))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


class _Rst:
    """One pass over lines; indented bodies are handled by a parser of their own."""

    def __init__(self, lines: list[str]):
        self._lines = lines
        self._at = 0
        self.blocks: list[Block] = []

    def _body(self, indent: int) -> list[str]:
        """Takes the following lines that are blank or deeper than `indent`, dedented."""
        body = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.strip() and _indent(line) <= indent:
                break
            body.append(line)
            self._at += 1
        return textwrap.dedent("\n".join(body)).strip("\n").split("\n")

    def _add_body(self, body: list[str], prefix: str = "", kind: str = "") -> None:
        inner = _Rst(body).parse()
        if inner and inner[0].kind in ("para", "item"):
            inner[0] = Block(kind or inner[0].kind, prefix + inner[0].text)
        elif prefix.strip(" -:") and inner:
            inner.insert(0, Block(kind or "para", prefix.strip()))
        self.blocks += inner

    def _code(self, body: list[str]) -> None:
        if any(line.strip() for line in body):
            self.blocks.append(Block("code", textwrap.indent("\n".join(body), "    ")))

    def _explicit(self, line: str) -> None:
        """A line that starts with `..`: directive, target, footnote or comment."""
        self._at += 1
        match = _DIRECTIVE.match(line)
        body = self._body(0)
        if not match:
            return
        name, argument = match.group(1).lower().split(":")[-1] or match.group(1), match.group(2)
        while body and _FIELD.match(body[0]):
            body.pop(0)
        if name in _CODE:
            self._code(body)
        elif name in _ADMONITION:
            self._add_body([argument, *body] if argument else body, _ADMONITION[name])
        elif name in _DROPPED:
            return
        elif name in ("rubric", "topic", "admonition"):
            self.blocks.append(Block("head", rst_inline(argument)))
            self._add_body(body)
        else:  # an object description, a glossary or something unknown: keep the body
            if argument and any(line.strip() for line in body):
                self.blocks.append(Block("head", rst_inline(argument.rstrip("\\").strip())))
            while body and not body[0].strip():
                body.pop(0)
            self._add_body(body)

    def _paragraph(self) -> None:
        lines = self._lines
        start = self._at
        while self._at < len(lines) and lines[self._at].strip():
            if self._at > start and _indent(lines[self._at]) > 0:
                break
            self._at += 1
        taken = [line.strip() for line in lines[start:self._at]]
        if self._at < len(lines) and lines[self._at].strip():  # definition list: term, body
            body = self._body(0)
            if taken[-1].endswith("::"):
                self._code(body)
                return
            term = rst_inline(" ".join(taken))
            self._add_body(body, term + (" " if term.endswith((":", "-")) else ": "))
            return
        text = " ".join(taken)
        literal = text.endswith("::")
        if literal:
            text = text[:-2].rstrip() + ":" if text[:-2].strip(" :") else ""
        if text and not re.search(r"={3,} +={3,}|-{5,} +-{5,}", text):
            self.blocks.append(Block("para", rst_inline(text)))
        if literal:
            self._code(self._body(0))

    def _table(self) -> None:
        """Skips a grid table or a simple table."""
        line = self._lines[self._at]
        grid = line.lstrip().startswith(("+", "|"))
        while self._at < len(self._lines) and self._lines[self._at].strip():
            self._at += 1
        if grid:
            return
        end = self._at
        while end < len(self._lines) and end < self._at + 200:  # rows set apart by blank lines
            if re.match(r"\s*={3,}(\s+={2,})+\s*$", self._lines[end]):
                self._at = end + 1
                return
            if self._lines[end].strip() and _UNDERLINE.match(self._lines[end]):
                return
            end += 1

    def parse(self) -> list[Block]:
        lines = self._lines
        while self._at < len(lines):
            line = lines[self._at]
            following = lines[self._at + 1] if self._at + 1 < len(lines) else ""
            bullet = _RST_BULLET.match(line)
            if not line.strip():
                self._at += 1
            elif _indent(line) > 0:
                self._add_body(self._body(0))
            elif _TABLE.match(line):
                self._table()
            elif line.startswith("..") and (len(line) == 2 or line[2] in " _") or line == "__":
                self._explicit(line)
            elif line.startswith(">>>"):
                code = []
                while self._at < len(lines) and lines[self._at].strip():
                    code.append(lines[self._at])
                    self._at += 1
                self._code(code)
            elif line.startswith("| "):
                self._at += 1
                self.blocks.append(Block("item", rst_inline(line[2:])))
            elif _FIELD.match(line):
                self._at += 1
                self._body(0)
            elif _UNDERLINE.match(following) and not _UNDERLINE.match(line) and (
                    len(following.rstrip()) >= min(4, len(line.strip()))):
                self.blocks.append(Block("head", rst_inline(line)))
                self._at += 2
            elif _UNDERLINE.match(line):
                self._at += 1
            elif bullet:
                width = bullet.start(1) + len(bullet.group(1))
                mark = line[:bullet.start(1)].replace("#.", "-")
                mark = "-" if mark in "*+•" else mark
                first = line[width:]
                self._at += 1
                rest = []
                while self._at < len(lines) and (
                        not lines[self._at].strip() or _indent(lines[self._at]) > 0):
                    rest.append(lines[self._at])
                    self._at += 1
                body = textwrap.dedent("\n".join(rest)).split("\n") if rest else []
                self._add_body([first, *body], mark + " ", "item")
            else:
                self._paragraph()
        return self.blocks


def rst_blocks(source: str) -> list[Block]:
    """The blocks of a reStructuredText file; tables, comments and directives of layout vanish."""
    return _Rst(source.expandtabs(8).split("\n")).parse()


_POD_ENTITY = {"lt": "<", "gt": ">", "sol": "/", "verbar": "|"}


def pod_inline(text: str) -> str:
    """The text of a POD paragraph without formatting codes."""
    def replace(match: re.Match) -> str:
        code, inner = match.group(1), match.group(2).strip()
        if code in "XZ":
            return ""
        if code == "E":
            return _POD_ENTITY.get(inner, "")
        if code == "L":
            label, _, target = inner.partition("|")
            if target or "://" in inner:
                return label
            page, _, section = inner.partition("/")
            return section.strip('"') or page
        return inner
    double = re.compile(r"([BCFIKLSXZ])<<+\s(.+?)\s>>+", re.S)
    single = re.compile(r"([A-Z])<([^<>]*)>", re.S)
    text = double.sub(lambda m: replace(m).replace("<", "\1").replace(">", "\2"), text)
    for _ in range(6):
        new = single.sub(lambda m: replace(m).replace("<", "\1").replace(">", "\2"), text)
        if new == text:
            break
        text = new
    return squeeze(text.replace("\1", "<").replace("\2", ">"))


def pod_blocks(source: str) -> list[Block]:
    """The blocks of a POD document; text before the first command is not POD."""
    blocks: list[Block] = []
    item = ""
    skipping = ""
    inside = False

    def flush_item() -> None:
        nonlocal item
        if item not in ("", "-"):
            blocks.append(Block("item", f"- {item}"))
        item = ""

    for paragraph in re.split(r"\n[ \t]*\n", source.expandtabs(8)):
        paragraph = paragraph.strip("\n")
        command = re.match(r"=(\w+)\s*(.*)", paragraph, re.S)
        if command:
            name, rest = command.group(1), command.group(2)
            inside = name != "cut"
            if name == "begin":
                skipping = rest.split()[0] if rest.split() else "?"
            elif name == "end":
                skipping = ""
            elif skipping:
                continue
            elif name.startswith("head"):
                title = pod_inline(rest)
                blocks.append(Block("head", title.capitalize() if title.isupper() else title))
            elif name == "item":
                flush_item()
                item = re.sub(r"^\*\s*", "", pod_inline(rest)) or "-"
            elif name in ("back", "over"):
                flush_item()
        elif not inside or skipping or not paragraph.strip():
            continue
        elif paragraph[0] == " ":
            flush_item()
            blocks.append(Block("code", textwrap.indent(textwrap.dedent(paragraph), "    ")))
        else:
            text = pod_inline(paragraph)
            if item:
                plain = item == "-" or re.fullmatch(r"\d+\.?", item) is not None
                mark = item + " " if plain else f"- {item}: "
                text, item = mark + text, ""
                blocks.append(Block("item", text))
            elif text:
                blocks.append(Block("para", text))
    return blocks


_OSIS_NOTE = re.compile(r"<note\b.*?</note>|<table>.*?</table>|<rdg\b.*?</rdg>", re.S)
_OSIS_BREAK = re.compile(
    r"<(?:div|lg|p)\b[^>]*type=\"(?:x-p|paragraph|section)\"[^>]*>|</?p>|<lb\b[^>]*>")


def osis_text(markup: str) -> str:
    """The running text of OSIS: notes and tables dropped, paragraphs and verse lines kept."""
    text = _OSIS_NOTE.sub(" ", markup.replace("\n", " "))
    text = re.sub(r"<title\b[^>]*>(.*?)</title>", r"\n\n\1\n\n", text)
    text = _OSIS_BREAK.sub("\n\n", text)
    text = re.sub(r"<lg\b[^>]*>", "\n\n", text)
    text = re.sub(r"<l\b[^>]*sID[^>]*>|</l>|<item\b[^>]*>", "\n", text)
    text = re.sub(r"<[^>]*>", "", text)
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"),
                         ("&amp;", "&")):
        text = text.replace(entity, char)
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" +([,.;:!?])", r"\1", text)
    paragraphs = (re.sub(r" ?\n ?", "\n", part).strip() for part in re.split(r"\n\s*\n", text))
    return "\n\n".join(part for part in paragraphs if part)
