# SPDX-License-Identifier: Apache-2.0
"""Turning marked-up and hard-wrapped text into plain paragraphs.

A text is handled as a list of `Block`s (heading, paragraph, list item, code) until the end, so
that prose is unwrapped, code keeps its lines, and the amount of code stays modest.
"""

import html.parser
import re
import textwrap
import unicodedata
from typing import NamedTuple

_TYPOGRAPHY = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201b": "'", "\u2032": "'",
    "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2033": '"',
    "\u00a0": " ", "\u2002": " ", "\u2003": " ", "\u2009": " ", "\u202f": " ",
    "\u2010": "-", "\u2011": "-", "\u2028": "\n", "\u2029": "\n\n", "\u0085": "\n",
    "\u00ad": None, "\u200b": None, "\u200c": None, "\u200d": None, "\u2060": None,
    "\ufeff": None, "\ufb01": "fi", "\ufb02": "fl", "\r": None, "\f": "\n", "\v": "\n",
})
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_SPACES = re.compile(r"\s+")
_BULLET = re.compile(r"\s*(?:[-*+•o]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)]|[QA]:)\s+\S")
_STOPWORDS = frozenset(
    "the of and to in a is that it for as be with are by this on or not from which an at was have "
    "but if you can will has all any may one when there they we his he".split())
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")


class Block(NamedTuple):
    """`kind` is "head", "para", "item" or "code"; code alone may hold line breaks that matter."""

    kind: str
    text: str


def normalise(text: str) -> str:
    """NFC with one form of quotes and spaces, no control characters, `\\n` line ends."""
    text = text.replace("\r\n", "\n").translate(_TYPOGRAPHY)
    return unicodedata.normalize("NFC", _CONTROL.sub("", text))


def squeeze(text: str) -> str:
    """Runs of white space become one space."""
    return _SPACES.sub(" ", text).strip()


def english_share(text: str) -> float:
    """The share of very common English words among the words; English prose has 0.3 to 0.5."""
    words = _WORD.findall(text.lower())
    return sum(word in _STOPWORDS for word in words) / len(words) if words else 0.0


def _is_verse(lines: list[str]) -> bool:
    """Whether short lines that mostly start with a capital are better left as they stand."""
    if len(lines) < 3 or max(len(line.strip()) for line in lines) > 54:
        return False
    return sum(line.lstrip()[:1].isupper() for line in lines) >= 0.8 * len(lines)


def _is_table(lines: list[str]) -> bool:
    gaps = sum(re.search(r"\S {3,}\S|\t\S|[|+]\s*$", line.strip()) is not None for line in lines)
    return len(lines) > 1 and gaps * 2 >= len(lines)


def _is_rule(line: str) -> bool:
    return not any(char.isalnum() for char in line)


def unwrap(text: str) -> str:
    """Joins the hard-wrapped lines of each paragraph.

    Paragraphs are separated by blank lines. List items, verse and tables keep their lines; lines
    of mere punctuation (rules) are dropped; a word split by a hyphen at a line end stays hyphened.
    """
    paragraphs = []
    for chunk in re.split(r"\n\s*\n", text.expandtabs(8)):
        lines = [line for line in chunk.split("\n") if line.strip() and not _is_rule(line)]
        if not lines:
            continue
        if _is_verse(lines) or _is_table(lines):
            paragraphs.append("\n".join(squeeze(line) for line in lines))
            continue
        out = [lines[0].strip()]
        for line in lines[1:]:
            if _BULLET.match(line):
                out.append(line.strip())
            else:
                out[-1] += ("" if re.search(r"\w-$", out[-1]) else " ") + line.strip()
        paragraphs.append("\n".join(squeeze(line) for line in out))
    return "\n\n".join(paragraphs)


def assemble(blocks: list[Block], code_share: float = 0.25, max_code_lines: int = 15) -> str:
    """Joins blocks: consecutive list items stand on adjacent lines, all else is set apart.

    Long code blocks, drawings and code beyond `code_share` of the text are left out, and so are
    headings with nothing below them.
    """
    prose = sum(len(block.text) for block in blocks if block.kind != "code")
    code_left = prose * code_share
    kept: list[Block] = []
    for block in blocks:
        if block.kind == "code":
            signs = len(re.findall(r"[^\w\s]", block.text))
            drawing = 2 * signs > len(re.sub(r"\s", "", block.text))
            if (block.text.count("\n") >= max_code_lines or len(block.text) > code_left or drawing):
                continue
            code_left -= len(block.text)
        if block.kind == "head" and kept and kept[-1].kind == "head":
            kept.pop()
        if block.text.strip():
            kept.append(block)
    while kept and kept[-1].kind == "head":
        kept.pop()
    parts: list[str] = []
    for index, block in enumerate(kept):
        if index:
            both_items = block.kind == "item" and kept[index - 1].kind == "item"
            parts.append("\n" if both_items else "\n\n")
        parts.append(block.text)
    return "".join(parts)


def _sentences(paragraph: str) -> list[str]:
    return re.split(r"(?<=[.!?][\"')\]])\s+(?=[A-Z\"'(])|(?<=[.!?])\s+(?=[A-Z\"'(])", paragraph)


def split_long(text: str, limit: int) -> list[str]:
    """Cuts `text` into nearly equal parts of at most about `limit` characters.

    Cuts fall between paragraphs, inside a paragraph only where it alone is too long, then between
    sentences. Joining the parts gives back every word in order.
    """
    if len(text) <= limit:
        return [text]
    target = len(text) / -(-len(text) // limit)
    pieces: list[tuple[str, str]] = []  # (separator before it, text)
    for paragraph in text.split("\n\n"):
        if len(paragraph) <= limit // 2:
            pieces.append(("\n\n", paragraph))
            continue
        lines = paragraph.split("\n") if "\n" in paragraph else _sentences(paragraph)
        joint = "\n" if "\n" in paragraph else " "
        pieces += [("\n\n" if i == 0 else joint, line) for i, line in enumerate(lines)]
    parts: list[str] = []
    current = ""
    for joint, piece in pieces:
        if current and len(current) + len(piece) / 2 > target:
            parts.append(current)
            current = piece
        else:
            current = current + joint + piece if current else piece
    parts.append(current)
    return parts


class _Extractor(html.parser.HTMLParser):
    """Collects blocks; see html_blocks."""

    BLOCK = frozenset("p div blockquote section article ul ol dl dt dd tr table center form "
                      "body main figure caption address hr".split())
    HEAD = frozenset("h1 h2 h3 h4 h5 h6".split())
    SKIP = frozenset("script style head nav header footer form button select svg".split())
    VOID = frozenset("br hr img input link meta col area base wbr".split())

    def __init__(self, skip_classes: frozenset[str]):
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self._buffer: list[str] = []
        self._kind = "para"
        self._skip_classes = skip_classes
        self._skip_tag = ""
        self._skip_depth = 0
        self._pre = 0

    def _flush(self, next_kind: str = "para") -> None:
        text = "".join(self._buffer)
        self._buffer.clear()
        if self._pre:
            text = text.strip("\n").rstrip()
            if text.strip():
                self.blocks.append(Block("code", textwrap.indent(textwrap.dedent(text), "    ")))
        elif squeeze(text):
            mark = "- " if self._kind == "item" else ""
            self.blocks.append(Block(self._kind, mark + squeeze(text)))
        self._kind = next_kind

    def handle_starttag(self, tag, attrs):
        if self._skip_tag:
            self._skip_depth += tag == self._skip_tag
            return
        classes = set(dict(attrs).get("class", "").split()) if attrs else set()
        if tag not in self.VOID and (tag in self.SKIP or classes & self._skip_classes):
            self._skip_tag, self._skip_depth = tag, 1
        elif tag == "br":
            self._buffer.append("\n" if self._pre else " ")
        elif tag in self.HEAD:
            self._flush("head")
        elif tag == "li":
            self._flush("item")
        elif tag == "pre":
            self._flush()
            self._pre += 1
        elif tag in ("td", "th"):
            self._buffer.append(" ")
        elif tag == "p" and self._kind == "item" and not "".join(self._buffer).strip():
            pass  # the paragraph that opens a list item
        elif tag in self.BLOCK:
            self._flush()

    def handle_endtag(self, tag):
        if self._skip_tag:
            self._skip_depth -= tag == self._skip_tag
            if self._skip_depth <= 0:
                self._skip_tag = ""
            return
        if tag == "pre":
            self._flush()
            self._pre = max(0, self._pre - 1)
        elif tag in self.HEAD or tag in self.BLOCK or tag == "li":
            self._flush()

    def handle_data(self, data):
        if not self._skip_tag:
            self._buffer.append(data)


def html_blocks(markup: str, skip_classes: frozenset[str] = frozenset()) -> list[Block]:
    """The readable blocks of a page: no scripts, navigation, headers, footers, forms.

    Elements that carry one of `skip_classes` are left out with everything inside them.
    """
    extractor = _Extractor(skip_classes)
    extractor.feed(markup)
    extractor.close()
    extractor._flush()
    return extractor.blocks
