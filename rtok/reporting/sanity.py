"""The checks of an evaluation's attacks, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from rtok.reporting.labels import counted, token_names


def verdict(sanity: Mapping[str, Any]) -> str:
    """Say in a sentence whether the attacks are what they should be."""
    checks = sanity["checks"]
    failed = sum(not check["passed"] for check in checks)
    told, images = counted(len(checks), "check"), counted(sanity["images"], "image")
    if not failed:
        return f"Sanity of the attacks: sound, {told} passed, none failed ({images})."
    return (
        f"Sanity of the attacks: SUSPICIOUS, {failed} of {told} failed ({images}). "
        "The numbers above may be too good: the attack may fail for the wrong reason."
    )


def sanity_table(sanity: Mapping[str, Any]) -> Table:
    """Return the checks as a rich table."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("check", "what was seen", "verdict"):
        table.add_column(heading, vertical="bottom")
    for name, seen, passed in check_lines(sanity):
        table.add_row(Text(name), Text(seen), Text("passed") if passed else Text("FAILED", style="bold red"))
    return table


def check_lines(sanity: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """The check with what it is about where there are several token files or heads, what was seen, the verdict."""
    checks = sanity["checks"]
    names = token_names(checks)
    heads = {check.get("head_features") for check in checks if check.get("tokens")}
    found = []
    for check in checks:
        about = [names[check["tokens"]]] if check.get("tokens") and len(names) > 1 else []
        about += [f"{check['head_features']} head"] if check.get("tokens") and len(heads) > 1 else []
        name = check["check"] + (f" ({', '.join(about)})" if about else "")
        found.append((name, str(check["seen"]), bool(check["passed"])))
    return found
