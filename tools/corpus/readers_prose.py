# SPDX-License-Identifier: Apache-2.0
"""Readers of prose: speeches, novels, essays, religion, e-mail, Brown, quotations, games.

Every reader takes the members of one package (path to bytes) and yields `(id, text)`: one pair per
original document, the id unique within the package, the text clean but not yet split.
"""

import email
import email.policy
import html
import json
import re
from collections.abc import Iterator

from binary import r_database, sword_entries
from markup import osis_text
from text import Block, assemble, english_share, html_blocks, normalise, squeeze, unwrap

Files = dict[str, bytes]
Documents = Iterator[tuple[str, str]]


def decode(data: bytes) -> str:
    """UTF-8 or else Latin-1, normalised."""
    try:
        return normalise(data.decode("utf-8"))
    except UnicodeDecodeError:
        return normalise(data.decode("latin-1"))


def speeches(files: Files) -> Documents:
    """State of the Union addresses; paragraph breaks that were lost (`forms.Each`) come back."""
    for path, data in files.items():
        text = re.sub(r"([a-z0-9][.!?][\"')]?)(?=[A-Z][a-z' ])", r"\1\n\n",
                      html.unescape(decode(data)))
        text = re.sub(r"(?<=[a-z])([,;])(?=[A-Za-z])", r"\1 ", text)
        paragraphs = (squeeze(part) for part in text.split("\n\n"))
        yield path.rsplit("/", 1)[-1][:-4], "\n\n".join(filter(None, paragraphs))


def moby_dick(files: Files) -> Documents:
    """One document per chapter."""
    for path, data in files.items():
        yield "moby-dick/" + path.rsplit("/", 1)[-1][:-4], unwrap(decode(data))


def austen(files: Files) -> Documents:
    """One document per chapter of Jane Austen's six novels."""
    rdx = next(data for path, data in files.items() if path.endswith(".rdx"))
    rdb = next(data for path, data in files.items() if path.endswith(".rdb"))
    for title, lines in sorted(r_database(rdx, rdb).items()):
        text = normalise("\n".join(line or "" for line in lines))
        parts = re.split(r"(?im)^(?= *chapter (?:\d+|[ivxl]+)\.? *$)", text)
        for number, part in enumerate(parts[1:], 1):
            part = re.sub(r"(?mi)^\s*(?:volume [ivx]+|the end|finis)\s*$", "", part)
            part = re.sub(r"\n\s*\[?(?:Note:|\(?Northanger Abbey was written)[\s\S]*$", "", part)
            part = re.sub(r"(?<!\w)_([^_]+)_(?!\w)", r"\1", part)
            yield f"{title}/{number}", unwrap(part)


_FAQ_SKIP = re.compile(
    r"/(?:\w*links|biblio|book|contact|index|new|pdf|sec[A-J]\d*con|quotes)\.html$")


def _is_contents(text: str) -> bool:
    """Whether a block is a list of the questions that a page answers."""
    return text.count("?") >= 4 and len(text) < 130 * text.count("?")


def _close_up(text: str) -> str:
    """Ellipses without gaps, no space before a punctuation mark."""
    return re.sub(r" ([,.;])(?!\.)", r"\1", re.sub(r"\.(?: ?\.){2,}", "...", text))


def essays(files: Files) -> Documents:
    """The pages of a long FAQ on political theory."""
    hidden = frozenset({"book-navigation", "page-links"})
    for path, data in files.items():
        if not _FAQ_SKIP.search(path):
            blocks = [Block(b.kind, _close_up(b.text)) for b in html_blocks(decode(data), hidden)
                      if not _is_contents(b.text)]
            yield path.rsplit("/", 1)[-1][:-5], assemble(blocks)


def sword(files: Files) -> Documents:
    """One document per chapter of a Bible or commentary module."""
    stems = sorted({path[:-3] for path in files if path.endswith(("zs", "zv", "zz"))},
                   key=lambda stem: ("/ot." not in stem, stem))
    for stem in stems:
        zs, zv, zz = (files[stem + suffix] for suffix in ("bzs", "bzv", "bzz")) \
            if stem + "bzs" in files else (files[stem + suffix] for suffix in ("czs", "czv", "czz"))
        markup = " ".join(sword_entries(zs, zv, zz))
        for part in re.split(r'(?=<chapter\b[^>]*osisID=[^>]*sID=)', markup):
            name = re.match(r'<chapter\b[^>]*osisID="([^"]+)"', part)
            if name:
                text = normalise(osis_text(part))
                yield name.group(1), re.sub(r"(?m)^--|^Chapter Outline\n\n", "", text)


def _mail_text(message: email.message.EmailMessage) -> str:
    body = message.get_body(preferencelist=("plain", "html"))
    if body is None:
        return ""
    raw = body.get_payload(decode=True) or b""
    try:
        content = raw.decode("utf-8")
    except UnicodeDecodeError:
        content = raw.decode("cp1252", "ignore")
    tags = re.search(r"(?i)<(?:html|body|table|font)\b", content)
    if tags or body.get_content_subtype() == "html":
        return assemble(html_blocks(normalise(content)))
    lines = []
    for line in normalise(content).split("\n"):
        if re.match(r"-- ?$|_{10,}|-{4,} ?(?:Original|Forwarded)|-{5}BEGIN", line):
            break
        if not re.match(r"\s*(?:\w{0,3}>|[|:]\s)|.*\b(?:wrote|writes|said):\s*$", line):
            lines.append(line)
    return unwrap("\n".join(lines))


def mail(files: Files) -> Documents:
    """Plain bodies of e-mails without headers, quotations and signatures."""
    for path, data in files.items():
        data = data.partition(b"\n")[2] if data.startswith(b"From ") else data
        try:
            message = email.message_from_bytes(data, policy=email.policy.default)
            subject = str(message["subject"] or "")
            subject = re.sub(r"(?i)^(?:(?:re|fwd?):|\[[^\]]*\]|\s)+", "", subject)
            body = _mail_text(message)
        except (ValueError, LookupError, AttributeError, TypeError, IndexError):
            continue  # damaged MIME: common in this collection
        body = re.sub(r"[\w.+-]+@[\w-]+\.[\w.-]+", "someone@example.com", body)
        if english_share(body) > 0.2:
            yield "/".join(path.split("/")[-2:]), f"{normalise(squeeze(subject))}\n\n{body}".strip()


def brown(files: Files) -> Documents:
    """The Brown corpus without its tags, one document per sample, spacing of print restored."""
    for path, data in files.items():
        paragraphs = []
        for paragraph in re.split(r"\n\s*\n", decode(data)):
            words = [token.rsplit("/", 1)[0] for token in paragraph.split()]
            text = " ".join(words).replace("`` ", '"').replace(" ''", '"')
            text = re.sub(r" ([,.;:!?)\]])", r"\1", re.sub(r"([(\[]) ", r"\1", text))
            text = re.sub(r"([,.;:!?])(?: \1)+", r"\1", text.replace(";;", ";").replace("::", ":"))
            paragraphs.append(re.sub(r"([.;:!?])\1+", r"\1", text).strip())
        yield path.rsplit("/", 1)[-1], "\n\n".join(filter(None, paragraphs))


def quotations(files: Files) -> Documents:
    """Fortune cookies in groups of consecutive ones, lines joined, attributions kept."""
    for path, data in files.items():
        group: list[str] = []
        count = 0
        for cookie in re.split(r"(?m)^%\s*$", decode(data)):
            cookie = re.sub(r"(?m)^([QA]):\s+", r"\1: ", cookie.lstrip().removeprefix("QOTD:"))
            body, dash, author = cookie.partition("\n\t\t-- ")
            text = unwrap(body)
            if dash:
                text += "\n-- " + squeeze(author)
            if 20 < len(text) < 3000:
                group.append(text)
            if sum(map(len, group)) > 4000:
                yield f"{path.rsplit('/', 1)[-1]}/{count}", "\n\n".join(group)
                group, count = [], count + 1
        if group:
            yield f"{path.rsplit('/', 1)[-1]}/{count}", "\n\n".join(group)


_GAME_KEYS = frozenset("description text dynamic_line offer advice success info accepted rejected "
                       "detailed_definition messages desc no yes describe failure lore "
                       "inquire success_lie failure_lie message".split())


def _game_strings(value: object, key: str = "") -> Iterator[str]:
    if isinstance(value, str):
        if key in _GAME_KEYS:
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _game_strings(item, key)
    elif isinstance(value, dict):
        name = value.get("name", "")
        name = name.get("str", name.get("str_sp", "")) if isinstance(name, dict) else name
        for inner_key, item in value.items():
            if inner_key == "str" and key in _GAME_KEYS:
                inner_key = key
            strings = _game_strings(item, inner_key)
            if inner_key == "description" and isinstance(name, str) and name:
                strings = (f"{name[0].upper()}{name[1:]}: {text}" for text in strings)
            yield from strings


def cataclysm(files: Files) -> Documents:
    """Descriptions, dialogue and found texts of a survival game, per file."""
    for path, data in files.items():
        try:
            strings = _game_strings(json.loads(data))
        except ValueError:
            continue
        seen: set[str] = set()
        paragraphs = []
        for text in strings:
            text = re.sub(r"</?(?:color|good|bad|info|neutral|header|bold|reduced)[^>]*>", "", text)
            text = squeeze(normalise(text).replace("&", ""))
            if len(text) >= 40 and text not in seen and not re.search(
                    r"<[a-z_0-9:]+>|%\d?\$?[sd]|[│─█]|^\*|\w_\w", text):
                seen.add(text)
                paragraphs.append(text)
        if paragraphs:
            yield path.split("/json/", 1)[-1][:-5], "\n\n".join(paragraphs)


_NAMES = {"first": "Alex", "last": "Reyes", "ship": "Swallow", "origin": "Earth", "system": "Sol",
          "planet": "New Boston", "destination": "New Boston", "cargo": "cargo", "npc": "Heron",
          "commodity": "food", "tons": "ten tons", "bunks": "four", "payment": "20,000 credits",
          "fare": "5,000 credits", "passengers": "four passengers", "date": "the first of May",
          "day": "the first of May", "stopovers": "Vega", "waypoints": "Vega"}


def endless_sky(files: Files) -> Documents:
    """Conversations and descriptions of a space game; placeholders get plausible names."""
    quoted = re.compile(r"`([^`]+)`|\b(?:description|dialog|spaceport|to say)\s+\"([^\"]{60,})\"")
    for path, data in files.items():
        text = decode(data)
        paragraphs = []
        for match in quoted.finditer(text):
            line = squeeze(match.group(1) or match.group(2))
            line = re.sub(r"<(\w+)>", lambda m: _NAMES.get(m.group(1), m.group(0)), line)
            if len(line) > 20 and "<" not in line:
                paragraphs.append(line)
        if paragraphs:
            yield path.rsplit("/", 1)[-1][:-4], "\n\n".join(dict.fromkeys(paragraphs))
