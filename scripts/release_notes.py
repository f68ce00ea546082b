"""The notes of a release, from CHANGELOG.md: `python scripts/release_notes.py v0.2.0` prints that version's section."""

from __future__ import annotations

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}")


def notes(changelog: str, version: str) -> str:
    """Return a version's section without its heading.

    Raises:
        ValueError: there is no such section, it has no date, or nothing is in it.
    """
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    found = {heading.split()[0]: (heading, body) for heading, _, body in (s.partition("\n") for s in sections)}
    if version not in found:
        raise ValueError(f"CHANGELOG.md has no version {version}; it has {', '.join(found)}")
    heading, body = found[version]
    if not _DATED.search(heading):
        raise ValueError(f"CHANGELOG.md gives no date for {version} ('{heading}'): write the day of the release")
    if not body.strip():
        raise ValueError(f"CHANGELOG.md says nothing about {version}")
    return body.strip() + "\n"


if __name__ == "__main__":
    try:
        print(notes(CHANGELOG.read_text(encoding="utf-8"), sys.argv[1].removeprefix("v")), end="")
    except ValueError as error:
        sys.exit(f"error: {error}")
