"""The names: `robustness-tokens` is what indexes have, `rtok` what is imported and typed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from rtok.version import install

ROOT = Path(__file__).parent.parent
# On PyPI, `rtok` is another package: nobody may be told to install it. `\[` is how a pattern has it.
WRONG = re.compile(r"pip3? install [^\n`;|&]*(?<![\w./-])rtok\b(?![./-])|(?<![\w./-])rtok\\?\[")


def test_install_names_the_distribution() -> None:
    assert install("seg") == 'pip install "robustness-tokens[seg]"'


def test_the_pattern_finds_what_is_wrong() -> None:
    for line in ("pip install rtok", 'pip install "rtok[seg]"', "rtok[seg]>=1", r"install rtok\[demo\]"):
        assert WRONG.search(line)
    for line in (install("seg"), "pip install .", "pip install ./rtok.whl", "import rtok", 'versions["rtok"]'):
        assert not WRONG.search(line)


def test_nothing_names_another_package_of_the_index() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert ROOT / "README.md" in files
    found = []
    for file in files:
        content = file.read_bytes() if file.is_file() and file != Path(__file__) else b""
        if b"\0" in content:  # no text
            continue
        lines = content.decode("utf-8", errors="replace").splitlines()
        numbers = [number for number, line in enumerate(lines, start=1) if WRONG.search(line)]
        found += [f"{file.relative_to(ROOT)}:{number}" for number in numbers]
    assert not found
