from __future__ import annotations

import itertools
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.cli.command import Options
from rtok.cli.runs import COMMANDS
from rtok.config import Config, load_config

CONFIGS = {
    "train": "",
    "attack": "",
    "eval-features": "tokens: t\n",
    "eval-class": "tokens: t\nhead: {type: backbone}\n",
    "eval-seg": "tokens: t\nhead: {type: fit}\nsegmentation: {protocol: paper}\n"
    "data: {name: ade20k, root: t, split: val}\nmodel: {name: dinov2_vits14, image_size: 518}\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t").mkdir()
    for name, text in CONFIGS.items():
        usual = "" if "model:" in text else "model: {name: dinov2_vits14}\ndata: {name: photos}\n"
        (tmp_path / f"{name}.yaml").write_text(usual + text)
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Config, Options]]:
    calls: list[tuple[str, Config, Options]] = []
    for name, runs in COMMANDS.items():
        monkeypatch.setattr(runs, "run", lambda config, options, name=name: calls.append((name, config, options)))
    return calls


def make_tokens(folder: Path) -> None:
    from rtok.defenses import RobustnessTokens

    RobustnessTokens.draw(2, 384, backbone="dinov2_vits14").save(folder / "rtokens.safetensors")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(build(), list(arguments))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs_its_config(command: str, calls: list[tuple[str, Config, Options]]) -> None:
    arguments = ["--config", f"{command}.yaml", "--set", "seed=3", "--set", "attack.steps=2", "--out", "o", "--resume"]
    assert run(command, *arguments).exit_code == 0
    [(name, config, options)] = calls
    assert name == command
    assert config == load_config(command, f"{command}.yaml", ["seed=3", "attack.steps=2"], "o")
    assert (config.seed, config.out) == (3, Path("o"))
    assert (options.resume, options.overwrite, options.command[0]) == (True, False, "rtok")


@pytest.mark.parametrize("command", COMMANDS)
def test_dry_run_prints_the_config_and_touches_nothing(
    command: str, calls: list[tuple[str, Config, Options]], folder: Path
) -> None:
    make_tokens(folder / "t")
    for kind, split in itertools.product(("images", "annotations"), ("training", "validation")):
        (folder / "t" / kind / split).mkdir(parents=True)
        Image.new("L", (40, 40)).save(folder / "t" / kind / split / f"a.{'jpg' if kind == 'images' else 'png'}")
    before = sorted(folder.rglob("*"))
    done = run(command, "--config", f"{command}.yaml", "--set", "attack.eps=4/255", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert calls == []
    assert sorted(folder.rglob("*")) == before
    (folder / "printed.yaml").write_text(done.stdout)
    assert load_config(command, "printed.yaml") == load_config(command, f"{command}.yaml", ["attack.eps=4/255"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no config was given: pass --model NAME and --data FOLDER, or --config FILE, or a ready one: deit3_base_"),
        (["--config", "nope.yaml"], "--config nope.yaml: no such file"),
        (["--config", "train.yaml", "--resume", "--overwrite"], "exclude each other"),
        (
            ["--config", "train.yaml", "--set", "model.weights=w.pth", "--dry-run"],
            "model.weights: w.pth does not exist",
        ),
    ],
)
def test_wrong_input(arguments: list[str], message: str, calls: list[tuple[str, Config, Options]]) -> None:
    done = run("train", *arguments)
    assert (done.exit_code, calls) == (2, [])
    assert message in done.stderr
    assert done.stderr.startswith("error: ")


def test_every_command_has_the_shared_options() -> None:
    group = typer.main.get_command(build())
    shared = {"--config", "--set", "--plugin", "--out", "--resume", "--overwrite", "--dry-run", "--verbose", "--quiet"}
    for name in COMMANDS:
        options = {option for parameter in group.commands[name].params for option in parameter.opts}  # type: ignore[attr-defined]
        assert options >= shared


@pytest.mark.parametrize(
    ("command", "core", "result", "said"),
    [
        ("train", "rtok.training.train", SimpleNamespace(files=["o/rtokens.safetensors"]), "o/rtokens.safetensors"),
        (
            "attack",
            "rtok.evaluation.make_adversarial_set",
            SimpleNamespace(images=3, out="o", mean_linf_255=1.5, max_linf_255=2.0),
            "3 adversarial images in o",
        ),
        (
            "eval-features",
            "rtok.evaluation.evaluate_features",
            {"command": "eval-features", "images": 0, "rows": []},
            "results/dinov2_vits14-eval-features",
        ),
        (
            "eval-class",
            "rtok.evaluation.evaluate_classification",
            {"command": "eval-class", "images": 0, "rows": []},
            "results/dinov2_vits14-eval-class",
        ),
        (
            "eval-seg",
            "rtok.evaluation.evaluate_segmentation",
            {"command": "eval-seg", "images": 0, "rows": []},
            "results/dinov2_vits14-eval-seg",
        ),
    ],
)
def test_a_command_makes_one_core_call_and_says_what_came_out(
    command: str, core: str, result: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Config, dict]] = []
    monkeypatch.setattr(core, lambda config, **options: seen.append((config, options)) or result)
    done = run(command, "--config", f"{command}.yaml", "--overwrite")
    assert (done.exit_code, done.exception) == (0, None)
    assert said in done.output.replace("\n", "")
    [(config, options)] = seen
    assert config == load_config(command, f"{command}.yaml")
    assert (options["resume"], options["overwrite"], options["command"][0]) == (False, True, "rtok")


def test_resume_goes_on_with_a_run_from_its_folder(
    calls: list[tuple[str, Config, Options]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_config("train", "train.yaml", out="run")
    asked: list[Path] = []
    module = ModuleType("rtok.runs.resume")
    vars(module)["command_of"] = lambda path, plugins: (asked.append(path), ("train", found))[1]
    monkeypatch.setitem(sys.modules, "rtok.runs.resume", module)
    monkeypatch.setenv("HOME", str(Path.cwd()))
    assert run("resume", "~/run").exit_code == 0
    [(name, config, options)] = calls
    assert asked == [Path.cwd() / "run"] and (name, options.resume, options.overwrite) == ("train", True, False)
    assert config == found and options.command[:3] == ("rtok", "train", "--resume")


def test_keys_without_effect_are_named_at_the_start(calls: list[tuple[str, Config, Options]]) -> None:
    done = run("train", "--config", "train.yaml", "--set", "batch_size=1", "--set", "train.steps=2")
    assert done.stdout == "train does not use batch_size\n"
    assert run("train", "--config", "train.yaml", "--set", "train.steps=2").stdout == ""


@pytest.mark.parametrize("out", ["~/there", "${PLACE}/there"])
def test_out_expands_as_in_the_config(
    out: str, calls: list[tuple[str, Config, Options]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PLACE", str(folder))
    assert run("train", "--config", "train.yaml", "--out", out).exit_code == 0
    assert calls[0][1].out == folder / "there"


def test_libraries_warn_only_when_asked(
    calls: list[tuple[str, Config, Options]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*_: object) -> None:
        warnings.warn("old", FutureWarning, stacklevel=1)

    monkeypatch.setattr(COMMANDS["train"], "run", warn)
    for arguments, shown in ((["--verbose"], 1), ([], 0)):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            assert run("train", "--config", "train.yaml", *arguments).exit_code == 0
        assert len(seen) == shown


def test_quiet_prints_errors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from rtok import console

    monkeypatch.setattr(console, "_hushed", False)
    monkeypatch.setattr("rtok.training.train", lambda config, **options: SimpleNamespace(files=["o"]))
    arguments = ["train", "--config", "train.yaml", "--set", "batch_size=1"]
    assert run(*arguments).stdout == "train does not use batch_size\ndefense: o\n"
    done = run(*arguments, "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    assert run(*arguments).stdout, "the next one talks again"
    assert "exclude each other" in run(*arguments, "--quiet", "--verbose").stderr
