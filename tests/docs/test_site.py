"""The docs site: every page is in its menu, and it builds without a warning and without anything from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT


def test_every_page_is_in_the_menu() -> None:
    menu = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    missing = {page.name for page in PAGES if page.parent.name == "docs"} - menu
    assert not missing, f"add to nav in mkdocs.yml: {', '.join(sorted(missing))}"


def test_it_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pages = {path.name: path.read_text() for path in (tmp_path / "site").glob("*.html")}
    assert {f"{page.stem}.html" for page in PAGES if page.parent.name == "docs"} < set(pages)
    for name, page in pages.items():
        assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=\"?(https?:)?//", page), name
    assert 'id="rtok.attacks.craft"' in pages["api.html"]
    assert 'href="defenses.html#measured"' in pages["attackers.html"]
