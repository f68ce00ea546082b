"""A report as GitHub-flavoured Markdown, with its figures as files beside it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rtok.reporting.report.blocks import Block, Figure, Heading, Listing, Paragraph, Table, printable

# Characters that are markup anywhere in a line; a bracket only before a link's target, an underscore only at the
# edge of a word.
_SIGNS = re.compile(r"[\\`*|~$]|\](?=[(\[:])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# What would begin something other than a paragraph: `# `, `1. `, `- `, a line of `=` or `-`.
_START = re.compile(r"(?:#+|[+-]|\d+[.)])(?:\s|$)|[=-]+$")


def to_markdown(blocks: Sequence[Block], figures: Mapping[Path, str]) -> str:
    """Render a report; `figures` has the link of each figure's file."""
    return "\n\n".join(_block(block, figures) for block in blocks) + "\n"


def escape(text: str) -> str:
    """Return one line that Markdown shows as it is: no markup, no HTML, no line breaks."""
    line = " ".join(printable(text).split())
    line = _SIGNS.sub(lambda found: "\\" + found[0], line)
    return html.escape(line, quote=False)


def _block(block: Block, figures: Mapping[Path, str]) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {escape(text)}"
        case Paragraph(text, alarm):
            line = escape(text)
            if alarm:
                return f"**{line}**"
            # A word joiner, which is invisible, keeps it a paragraph.
            return f"&#8288;{line}" if _START.match(line) else line
        case Table():
            return _table(block)
        case Figure(path, caption):
            shown = escape(caption).replace("[", "\\[")  # a link inside of the caption would take the target
            return f"![{shown}]({figures[path]})"
        case Listing(title, text):
            # The fence is longer than any in the text.
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            summary = html.escape(" ".join(printable(title).split()))
            body = printable(text).rstrip("\n")
            return f"<details><summary>{summary}</summary>\n\n{fence}\n{body}\n{fence}\n\n</details>"


def _table(table: Table) -> str:
    rule = ["---:" if i in table.numbers else ":---" for i in range(len(table.head))]
    lines = [[escape(text) for text in table.head], rule]
    for row in table.rows:
        cells = [escape(text) for text in row]
        lines.append([f"**{text}**" if i in table.strong and text else text for i, text in enumerate(cells)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
