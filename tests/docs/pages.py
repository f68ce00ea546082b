"""The documentation's pages: their code blocks, and the headings that links can name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *(p for p in sorted(ROOT.glob("*.md")) if p.name != "README.md"), *ROOT.glob("docs/*.md")]
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    """The contents of a page's code blocks in these languages."""
    return [found[2] for found in _BLOCK.findall(page.read_text()) if found[1] in languages]


def commands(page: Path) -> list[list[str]]:
    """Every command of the shell blocks, as words; each part of a pipe is one."""
    found = []
    for block in blocks(page, "bash", "text"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "|" in words and "$(" not in line:
                place = words.index("|")
                found.append(words[:place])
                words = words[place + 1 :]
            found.append(words)
    return [words for words in found if words]


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return _BLOCK.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What `#...` can name on a page, as GitHub derives it from the headings."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found
