"""A report as one self-contained HTML page: no script, no fonts, images inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from rtok.reporting.report.blocks import Block, Figure, Heading, Listing, Paragraph, Table, printable

# What the page may load: its own style and the images inside it. A browser refuses everything else.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """\
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fff; --line: #d9dce0; --soft: #f4f5f7; --alarm: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --paper: #17191c; --line: #3a3e44; --soft: #22252a; --alarm: #ff8a80; }
}
body { margin: 2rem auto; max-width: 68rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3, h4 { line-height: 1.25; margin: 2em 0 .5em; }
h1 { margin-top: 0; }
h2 { border-bottom: 1px solid var(--line); padding-bottom: .2em; }
.wide { overflow-x: auto; margin: 1em 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3em .7em; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { vertical-align: bottom; background: var(--soft); }
.number { text-align: right; }
td.number, td:first-child { white-space: nowrap; }
.alarm { color: var(--alarm); font-weight: bold; }
figure { margin: 1.5em 0; }
img { max-width: 100%; height: auto; padding: .5rem; background: #fff; border-radius: 4px; box-sizing: border-box; }
figcaption { font-size: .9rem; }
details { margin: .5em 0; }
summary { cursor: pointer; }
pre { background: var(--soft); padding: 1em; overflow-x: auto; font-size: .85rem; }
"""


def to_html(blocks: Sequence[Block], images: Mapping[Path, bytes], title: str) -> str:
    """Render a report; `images` has the content of each figure's PNG."""
    body = "\n".join(_block(block, images) for block in blocks)
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>
{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _block(block: Block, images: Mapping[Path, bytes]) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{_text(text)}</h{level}>"
        case Paragraph(text, alarm):
            kind = ' class="alarm"' if alarm else ""
            return f"<p{kind}>{_text(text)}</p>"
        case Table():
            return _table(block)
        case Figure(path, caption):
            data = base64.b64encode(images[path]).decode()
            shown = _text(caption)
            image = f'<img alt="{shown}" src="data:image/png;base64,{data}">'
            return f"<figure>{image}<figcaption>{shown}</figcaption></figure>"
        case Listing(title, text):
            return f"<details><summary>{_text(title)}</summary><pre>{_text(text)}</pre></details>"


def _table(table: Table) -> str:
    head = _row(table, table.head, "th")
    body = "\n".join(_row(table, row, "td") for row in table.rows)
    return f'<div class="wide"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _row(table: Table, texts: Sequence[str], tag: str) -> str:
    cells = []
    for i, text in enumerate(texts):
        kind = ' class="number"' if i in table.numbers else ""
        shown = f"<strong>{_text(text)}</strong>" if i in table.strong and tag == "td" else _text(text)
        cells.append(f"<{tag}{kind}>{shown}</{tag}>")
    return f"<tr>{''.join(cells)}</tr>"


def _text(text: str) -> str:
    """Return text that HTML shows as it is."""
    return escape(printable(text))
