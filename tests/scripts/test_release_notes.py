"""The notes of a release are its section of the changelog, and a tag makes a release of them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "release_notes.py"
TEXT = """\
# Changelog

## 0.3.0 - unreleased

- c

## 0.2.0 - 2027-01-02

### Added

- b

## 0.1.0 - 2026-11-23
"""


def notes(version: str, text: str = TEXT) -> str:
    spec = spec_from_file_location("release_notes", SCRIPT)
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.notes(text, version))


def test_a_version_has_its_own_section_and_no_other() -> None:
    assert notes("0.2.0") == "### Added\n\n- b\n"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.4.0", "no version 0.4.0; it has 0.3.0, 0.2.0, 0.1.0"),
        ("0.3.0", r"no date for 0\.3\.0 \('0\.3\.0 - unreleased'\)"),
        ("0.1.0", "nothing about 0.1.0"),
    ],
)
def test_what_is_no_release_is_refused(version: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        notes(version)


def test_the_script_reads_the_changelog_by_tag() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "v0.1.0"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("First version.\n")
    done = subprocess.run([sys.executable, SCRIPT, "v9"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: CHANGELOG.md has no version 9; it has ")


def test_the_workflow_compares_the_tag_with_the_package_and_uses_the_script() -> None:
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    command = re.search(r'"v\$\((python -c \'.*\')\)"', workflow)
    assert command
    done = subprocess.run(shlex.split(command[1]), cwd=ROOT, capture_output=True, text=True)
    assert f'__version__ = "{done.stdout.strip()}"' in (ROOT / "rtok" / "version.py").read_text()
    assert "python scripts/release_notes.py" in workflow and SCRIPT.is_file()
