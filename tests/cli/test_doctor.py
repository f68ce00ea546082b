"""`rtok doctor`: what the machine has, and what is missing for which command."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants
import huggingface_hub.utils
import pytest
from typer.testing import CliRunner

import rtok
from rtok.cli import doctor
from rtok.cli.app import build


def test_it_says_what_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "not" / "there"))
    done = CliRunner().invoke(build(), ["doctor"])
    assert done.exit_code == 0, done.stderr
    lines = {line[:12].strip(): line[12:].strip() for line in done.stdout.splitlines()}
    assert lines["rtok"] == rtok.__version__ and lines["torch"] == metadata.version("torch")
    assert "cores" in lines["cpu"] and "GiB free" in lines["here"] and str(tmp_path) in lines["hub's cache"]
    assert lines["hub"].startswith("offline, since HF_HUB_OFFLINE is set")


@pytest.mark.parametrize(
    ("flags", "found"),
    [("fpu avx512f avx512_bf16", "avx512_bf16"), ("fpu amx_bf16 avx512_bf16", "amx_bf16, avx512_bf16"), ("fpu", "")],
)
def test_bf16_is_told_from_the_flags_of_the_cpu(flags: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    assert doctor.cpu_bf16(tmp_path / "cpuinfo") == found
    assert doctor.cpu_bf16(tmp_path / "missing") == ""


def test_the_hub_is_asked_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def head(address: str, timeout: float) -> None:
        asked.append((address, timeout))
        if len(asked) > 1:
            raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", lambda: SimpleNamespace(head=head))
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert doctor.hub() == f"{huggingface_hub.constants.ENDPOINT} answers, logged in"
    assert "cannot be reached (ConnectionError)" in doctor.hub()
    assert asked[0][1] <= 5

    monkeypatch.setattr(doctor, "PATIENCE", 0.1)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", lambda: SimpleNamespace(head=lambda *_, **__: sleep(2)))
    began = monotonic()
    assert "did not answer within 0.1 seconds" in doctor.hub() and monotonic() - began < 1


def test_each_extra_says_what_it_lacks_and_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["numpy>=1", "pytest>=8; extra == 'seg'", "not-there-1>=2 ; extra == 'seg'"]
    needs.append('also.missing; extra == "heic"')
    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    found = dict(doctor.extras())
    assert found["[seg]"] == 'lacks not-there-1 for rtok eval-seg: pip install "robustness-tokens[seg]"'
    assert found["[heic]"].startswith("lacks also.missing for HEIC images")
    assert found["[demo]"].startswith("installed, for")

    def unknown(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", unknown)
    assert "is not installed" in dict(doctor.extras())["extras"]


def test_every_extra_of_the_package_is_explained() -> None:
    text = (Path(rtok.__file__).parent.parent / "pyproject.toml").read_text()
    table = text.partition("[project.optional-dependencies]")[2]
    declared = set(re.findall(r"^([a-z]+) = \[", table.partition("\n[")[0], re.MULTILINE))
    assert declared - {"bench", "browser", "docs", "test"} == set(doctor.EXTRAS), "those are for work on rtok"
