#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""terminal_picture.py TITLE < ANSI > SVG: a picture of a terminal's output (needs Debian's python3-rich)."""

import io
import re
import sys

from rich.console import Console
from rich.text import Text


def main():
    text = Text.from_ansi(sys.stdin.read().rstrip("\n"))
    width = max(60, max(len(line) for line in text.plain.split("\n")))
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(text, soft_wrap=True)
    svg = console.export_svg(title=sys.argv[1] if len(sys.argv) > 1 else "")
    # The fonts it would fetch from elsewhere: the reader's own monospace font will do.
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.S)
    sys.stdout.write(svg.replace("Fira Code", "monospace"))


if __name__ == "__main__":
    main()
