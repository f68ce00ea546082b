"""Every hostile input ends as it has to, through the whole command: no traceback, nothing overwritten."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rtok.cli.app import build
from tests.hostile import checkpoints, configs, pictures, yaml_files
from tests.hostile.case import Case, World
from tests.tiny import save_test_vit

CASES = {
    f"{module.__name__.rpartition('.')[2]}: {case.name}": case
    for module in (yaml_files, configs, checkpoints, pictures)
    for case in module.CASES
}


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A config of one step on a tiny model and one picture."""

    root = tmp_path_factory.mktemp("good")
    save_test_vit(root / "vit.safetensors")
    for name in "ab":
        (root / "pictures" / name).mkdir(parents=True)
        (root / "pictures" / name / "0.png").write_bytes(pictures.encoded())
    return {
        "model": {"name": "timm:test_vit", "weights": str(root / "vit.safetensors"), "image_size": 32},
        "data": {"name": "folder", "root": str(root / "pictures"), "workers": 0},
        "attack": {"preset": "standard", "steps": 1},
        "train": {"steps": 1, "batch_size": 1},
    }


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """End a case that goes on for a minute."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of a run's time and see none of the input."""
    monkeypatch.setattr("rtok.reporting.figures.curves.training_curves", lambda *_: None)


def snapshot(folder: Path, out: Path) -> dict[str, object]:
    """Every file of a folder outside the run's own, by path."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path != out and out not in path.parents:
            found[str(path)] = path.read_bytes() if path.is_file() else "no file"
    return found


def test_there_are_enough() -> None:
    assert len(CASES) >= 60 and len(CASES) == sum(len(m.CASES) for m in (yaml_files, configs, checkpoints, pictures))


def test_the_good_config_runs(good: dict[str, Any], tmp_path: Path) -> None:
    world = World(tmp_path, good)
    assert CliRunner().invoke(build(), world.run("train", world.config())).exit_code == 0


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_it_ends_as_it_has_to(
    case: Case, good: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, good)
    monkeypatch.chdir(tmp_path)
    arguments = case.make(world)
    before = snapshot(tmp_path, world.out)
    result = CliRunner().invoke(build(), arguments)
    said = result.stdout + result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == (0 if case.outcome == "fine" else 2), said
    if case.outcome != "fine":
        assert result.stderr.startswith("error: ") and "\nerror: " not in result.stderr, said
        assert [word for word in case.words if word not in result.stderr] == [], said
    assert "Traceback" not in said and not any(c < " " and c != "\n" for c in result.stderr), said
    assert case.outcome != "refused" or not world.out.exists()
    assert snapshot(tmp_path, world.out) == before
