"""From run folders to a report's folder: `report.md` with its figures, and `report.html`, which needs nothing else."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rtok.errors import UserError
from rtok.files import write_atomic
from rtok.reporting.report.blocks import Block, Examples, Figure
from rtok.reporting.report.content import content
from rtok.reporting.report.entries import read_entries
from rtok.reporting.report.html import to_html
from rtok.reporting.report.leaderboard import leaderboard
from rtok.reporting.report.markdown import to_markdown
from rtok.reporting.report.runs import read_runs
from rtok.version import __version__

FILES = ("report.md", "report.html")
FIGURES = "figures"


@dataclass(frozen=True)
class Report:
    """Where a report is, and how many runs (or entries) it covers."""

    markdown: Path
    html: Path
    count: int


def write_report(runs: Sequence[Path], out: Path, *, overwrite: bool = False) -> Report:
    """Write `out/report.md`, its figures and `out/report.html` about these run folders.

    Raises:
        UserError: a folder does not hold a run, a file in it is damaged, or `out` holds something already; nothing
            has been written then.
    """
    found = read_runs(runs)
    _check(out, overwrite)
    with TemporaryDirectory() as drawn:
        blocks = content(found, __version__, Path(drawn))
        return _write(blocks, out, len(found), "rtok report")


def write_leaderboard(runs: Sequence[Path], out: Path, *, overwrite: bool = False) -> Report:
    """Write a leaderboard of the protocol's entries in these run folders, as a report is written.

    Raises:
        UserError: see `read_entries` and `write_report`; nothing has been written then.
    """
    entries = read_entries(runs)
    _check(out, overwrite)
    return _write(leaderboard(entries), out, len(entries), "rtok leaderboard")


def _write(blocks: Sequence[Block], out: Path, count: int, title: str) -> Report:
    figures = [block.path for block in blocks if isinstance(block, Figure)]
    links = {path: f"{FIGURES}/{number:02}-{_slug(path)}" for number, path in enumerate(figures, start=1)}
    try:
        images = {path: path.read_bytes() for path in [*figures, *_pieces(blocks)]}
        shutil.rmtree(out / FIGURES, ignore_errors=True)
        (out / FIGURES).mkdir(parents=True) if figures else out.mkdir(parents=True, exist_ok=True)
        for path, link in links.items():
            write_atomic(out / link, images[path])
        markdown, html = (out / name for name in FILES)
        write_atomic(html, to_html(blocks, images, title))
        write_atomic(markdown, to_markdown(blocks, links))
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}. Name another folder with --out.") from error
    return Report(markdown, html, count)


def _pieces(blocks: Sequence[Block]) -> list[Path]:
    """The pictures of all examples."""
    shown = [block.live for block in blocks if isinstance(block, Figure) and isinstance(block.live, Examples)]
    return [view.path for examples in shown for _, views in examples.items for view in views]


def _check(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, not a folder: name another folder with --out.")
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if there.intersection(FILES):
        if not overwrite:
            raise UserError(
                f"{out} already holds a report: replace it with --overwrite, or name another folder with --out."
            )
    elif there:
        raise UserError(f"{out} is not empty and holds no report: name another folder with --out.")


def _slug(path: Path) -> str:
    """Return a figure's name as a link can have it."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", f"{path.parent.name}-{path.stem}")[-60:] + ".png"
