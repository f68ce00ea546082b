"""A report as one self-contained HTML page: style, script and images are inside, and it loads nothing else.

Everything can be read without the script, which sorts and filters tables, shows the values of charts and leafs through
examples.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rtok.reporting.report import svg
from rtok.reporting.report.blocks import Bars, Block, Curves, Examples, Figure, Heading, Listing, Paragraph, Table, View
from rtok.reporting.report.markup import text

_STYLE, _SCRIPT = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
# Figures that are photos, or show some: colors of the others may be turned around in the dark.
_PHOTOS = ("examples", "features", "pictures")


def to_html(blocks: Sequence[Block], images: Mapping[Path, bytes], title: str) -> str:
    """Render a report; `images` has the content of each figure's PNG."""
    body = "\n".join(_blocks(blocks, images))
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{text(_policy())}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _policy() -> str:
    """What the page may do: its own style and script, known by their digests, and images inside of it."""
    style, script = (
        base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in (_STYLE, _SCRIPT)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _blocks(blocks: Sequence[Block], images: Mapping[Path, bytes]) -> Iterator[str]:
    """Every block in turn; a list of the chapters follows the first of what stands below the title."""
    chapters = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    links = "".join(f'<li><a href="#c{i}">{text(name)}</a></li>' for i, name in enumerate(chapters, start=1))
    number = 0
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2:
            if number == 0 and len(chapters) > 1:
                yield f'<nav aria-label="Chapters"><ol>{links}</ol></nav>'
            number += 1
            yield f'<h2 id="c{number}">{text(block.text)}</h2>'
        else:
            yield _block(block, images)


def _block(block: Block, images: Mapping[Path, bytes]) -> str:
    match block:
        case Heading(level, words):
            return f"<h{level}>{text(words)}</h{level}>"
        case Paragraph(words, alarm):
            kind = ' class="alarm"' if alarm else ""
            return f"<p{kind}>{text(words)}</p>"
        case Table():
            return _table(block)
        case Figure():
            return _figure(block, images)
        case Listing(title, words):
            return f"<details><summary>{text(title)}</summary><pre>{text(words)}</pre></details>"


def _figure(figure: Figure, images: Mapping[Path, bytes]) -> str:
    shown = text(figure.caption)
    match figure.live:
        case Bars() as chart:
            drawn = f'<div class="chart">{svg.bars(chart)}</div>'
        case Curves() as chart:
            drawn = f'<div class="chart">{svg.curves(chart)}</div>'
        case Examples(items):
            drawn = f'<div class="examples">{"".join(_example(*item, images) for item in items)}</div>'
        case None:
            photo = figure.path.stem in _PHOTOS or figure.path.parent.name in _PHOTOS
            drawn = f'<img class="{"photo" if photo else "plot"}" alt="{shown}" src="{_data(figure.path, images)}">'
    return f"<figure>{drawn}<figcaption>{shown}</figcaption></figure>"


def _example(title: str, views: Sequence[View], images: Mapping[Path, bytes]) -> str:
    drawn = "".join(
        f'<div class="view"><img alt="{text(view.title)}" src="{_data(view.path, images)}">'
        f"<p>{text(view.title)}<br><small>{text(view.note)}</small></p></div>"
        for view in views
    )
    return f'<div class="example"><p class="panel-title">{text(title)}</p><div class="views">{drawn}</div></div>'


def _data(path: Path, images: Mapping[Path, bytes]) -> str:
    return f"data:image/png;base64,{base64.b64encode(images[path]).decode()}"


def _table(table: Table) -> str:
    head = _row(table, table.head, "th")
    body = "\n".join(_row(table, row, "td") for row in table.rows)
    return f'<div class="wide"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _row(table: Table, texts: Sequence[str], tag: str) -> str:
    cells = []
    for i, words in enumerate(texts):
        kind = ' class="number"' if i in table.numbers else ""
        shown = f"<strong>{text(words)}</strong>" if i in table.strong and tag == "td" else text(words)
        cells.append(f"<{tag}{kind}>{shown}</{tag}>")
    return f"<tr>{''.join(cells)}</tr>"
