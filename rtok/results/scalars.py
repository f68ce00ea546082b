"""The numbers of an evaluation as trackers take them: one name each."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rtok.results.columns import COLUMNS
from rtok.results.rows import Identity, Naming, Row

_REFUSED = re.compile(r"[^A-Za-z0-9_./ -]+")  # MLflow takes these in a name, the others more


def scalars(command: str, rows: Sequence[Row]) -> dict[str, float]:
    """Return the measured numbers of an evaluation's rows, as `ATTACK/THREAT/VICTIM/COLUMN`."""
    naming = Naming.of(rows)
    measured = [column.key for column in COLUMNS[command] if not column.identity]
    found: dict[str, float] = {}
    for row in rows:
        who = Identity.of(row)
        about = (who.attack or "none", who.threat_label, who.victim_label(naming))
        name = "/".join(_REFUSED.sub("-", text.replace("/", "-")) for text in about)
        found |= {f"{name}/{key}": row[key] for key in measured if isinstance(row.get(key), (int, float))}
    return found
