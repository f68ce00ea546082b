"""Plugins: files that the command line names and installed packages; a config alone never runs code."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rtok import plugins
from rtok.cli.app import build
from rtok.config import load_config
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError

TOY = """
import rtok

def open_toy(config):
    from rtok.data.source import FileSource

    return FileSource(".", ["a.png"])

def toy_threat(context, attack):
    return iter(())

rtok.register_dataset("toy", open_toy, about="squares", needs_root=False)
rtok.register_threat("toy-threat", toy_threat, about="knows nothing")
"""
CONFIG = "model: {name: dinov2_vits14}\ndata: {name: toy}\ntokens: t\nthreats: [transfer, toy-threat]\n"


@pytest.fixture(autouse=True)
def folder(forgotten: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t").mkdir()
    RobustnessTokens.draw(2, 384, backbone="dinov2_vits14").save(tmp_path / "t" / "rtokens.safetensors")
    (tmp_path / "x.yaml").write_text(CONFIG)
    (tmp_path / "toy.py").write_text(TOY)
    plugins.load_installed.cache_clear()
    yield tmp_path
    plugins.load_installed.cache_clear()


def run(*arguments: str, command: str = "eval-features") -> Any:
    return CliRunner().invoke(build(), [command, "--config", "x.yaml", *arguments])


def test_a_plugin_adds_names_that_a_config_can_use() -> None:
    done = run("--plugin", "toy.py", "--dry-run")
    assert done.exit_code == 0, done.stderr
    resolved = yaml.safe_load(done.stdout)
    assert resolved["data"]["name"] == "toy" and resolved["threats"] == ["transfer", "toy-threat"]


def test_without_the_plugin_the_names_are_unknown() -> None:
    done = run("--dry-run")
    assert done.exit_code == 2
    names = "imagenet, folder, hf, webdataset, photos, digits, ade20k, folder-seg or given"
    assert f'data.name: "toy" was given; valid: {names}' in done.stderr
    assert (
        'threats.1: "toy-threat" was given; valid: transfer, informed, guessed, extracted, adaptive or query'
        in done.stderr
    )


def test_a_file_runs_once_and_is_named_by_its_hash(folder: Path) -> None:
    (folder / "counted.py").write_text("import sys\nsys.rtok_test_runs = getattr(sys, 'rtok_test_runs', 0) + 1\n")
    content = (folder / "counted.py").read_bytes()
    found = [plugins.load_plugin("counted.py") for _ in range(2)]
    assert sys.__dict__.pop("rtok_test_runs") == 1
    assert found[0] == found[1] == plugins.Plugin(folder / "counted.py", hashlib.sha256(content).hexdigest())


def test_a_command_is_told_its_plugins(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from rtok.cli.runs import COMMANDS

    seen = []
    monkeypatch.setattr(COMMANDS["eval-features"], "run", lambda config, options: seen.append(options))
    assert run("--plugin", "toy.py").exit_code == 0
    assert [plugin.path for plugin in seen[0].plugins] == [folder / "toy.py"]


def test_a_resumed_run_needs_its_plugins_again(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from rtok.cli.runs import COMMANDS

    seen = []
    monkeypatch.setattr(COMMANDS["eval-features"], "run", lambda config, options: seen.append(options))
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text(CONFIG)
    record = {"command": ["rtok", "eval-features"], "inputs": {"plugin toy.py": "0" * 64}}
    (folder / "run" / "run.json").write_text(json.dumps(record))
    refused = CliRunner().invoke(build(), ["resume", "run"])
    assert refused.exit_code == 2 and "was started with toy.py: pass --plugin" in refused.stderr and not seen
    assert CliRunner().invoke(build(), ["resume", "run", "--plugin", "toy.py"]).exit_code == 0
    assert [plugin.path for plugin in seen[0].plugins] == [folder / "toy.py"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.py", None, "--plugin none.py cannot be read: No such file or directory."),
        ("plugin.txt", "", "--plugin plugin.txt is not a Python file"),
        ("wrong.py", "1 / 0", "--plugin wrong.py fails with ZeroDivisionError: division by zero"),
        ("syntax.py", "def", "--plugin syntax.py fails with SyntaxError"),
        ("exits.py", "raise SystemExit(0)", "--plugin exits.py fails with SystemExit: 0"),
        (
            "taken.py",
            "import rtok\nrtok.register_threat('transfer', print, 'x')",
            "--plugin taken.py fails with UserError: The threat 'transfer' is registered already",
        ),
    ],
)
def test_plugins_that_are_refused(folder: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (folder / name).write_text(content)
    done = run("--plugin", name, "--dry-run")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}") and "Traceback" not in done.stderr
    with pytest.raises(UserError):  # a file that failed is not taken for loaded
        plugins.load_plugin(name)


class Point:
    """What `entry_points` returns."""

    name, value = "toys", "toys:setup"

    def __init__(self, loaded: object) -> None:
        self.loaded = loaded

    def load(self) -> object:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


def install(monkeypatch: pytest.MonkeyPatch, *loaded: object) -> None:
    def entry_points(group: str) -> list[Point]:
        assert group == "rtok.plugins"
        return [Point(one) for one in loaded]

    monkeypatch.setattr(plugins, "entry_points", entry_points)


def test_installed_plugins_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    install(monkeypatch, lambda: calls.append(1), sys)
    (Path("x.yaml")).write_text(CONFIG.replace("toy-threat", "query").replace("toy", "photos"))
    for _ in range(2):
        assert run("--dry-run").exit_code == 0
    assert calls == [1]


@pytest.mark.parametrize("loaded", [ImportError("no toys"), lambda: int("toys")])
def test_an_installed_plugin_that_fails(monkeypatch: pytest.MonkeyPatch, loaded: object) -> None:
    install(monkeypatch, loaded)
    done = run("--dry-run")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: The installed plugin 'toys' (toys:setup) fails with ")
    assert "toys" in done.stderr.split("fails with")[1]


def test_help_and_reading_a_config_load_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, RuntimeError("was loaded"))
    for arguments in (["--help"], ["eval-features", "--help"], ["configs"]):
        assert CliRunner().invoke(build(), arguments).exit_code == 0
    Path("x.yaml").write_text(CONFIG.replace("toy-threat", "query").replace("toy", "photos"))
    assert load_config("eval-features", "x.yaml").data.name == "photos"
