"""The sanity checks of an evaluation's attacks, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from rtok.results.rows import Identity, Naming
from rtok.results.words import counted, detailed


def verdict(sanity: Mapping[str, Any]) -> str:
    """Say in a sentence whether the attacks work as they should."""
    checks = sanity["checks"]
    failed = sum(not check["passed"] for check in checks)
    start = "Sanity checks of the attacks"
    told, images = counted(len(checks), "check"), counted(sanity["images"], "image")
    if not failed:
        return f"{start}: all passed ({told}, {images})."
    why = "The numbers above may be too good, because the attack may fail for the wrong reason."
    return f"{start}: SUSPICIOUS, {failed} of {told} failed ({images}). {why}"


def sanity_table(sanity: Mapping[str, Any]) -> Table:
    """Return the checks as a rich table."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("check", "result", "verdict"):
        table.add_column(heading, vertical="bottom")
    for name, seen, passed in check_lines(sanity):
        table.add_row(Text(name), Text(seen), Text("passed") if passed else Text("FAILED", style="bold red"))
    return table


def check_lines(sanity: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Return each check with what it is about, its result, and whether it passed."""
    checks = sanity["checks"]
    naming, attacks = Naming.of(checks), {check.get("attack") for check in checks}
    lines = []
    for check in checks:
        who = Identity.of({key: value for key, value in check.items() if value is not None})
        about = [str(check["victim"])] if check.get("victim") else []
        about += [*who.details(naming), *([f"attack {who.attack}"] if len(attacks) > 1 and who.attack else [])]
        lines.append((detailed(check["check"], about), str(check["seen"]), bool(check["passed"])))
    return lines
