"""What can be added from outside: the plugins of docs/extend.md, from their files, through the command line."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

import rtok
from rtok.cli.app import build
from rtok.models import registry as backbones
from rtok.results import columns

PAGE = Path(rtok.__file__).parent.parent / "docs" / "extend.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section(title: str) -> list[tuple[str, str]]:
    """The code blocks below a heading, up to the next of the same level: (language, content)."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found, title
    return BLOCK.findall(found[1])


@pytest.fixture(autouse=True)
def folder(
    forgotten: None, tiny: Callable[..., Any], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder that the page describes."""
    model = tiny("dinov2_vits14")
    monkeypatch.setitem(backbones._BY_NAME, "dinov2_vits14", model.spec)
    monkeypatch.setitem(columns.COLUMNS, "eval-features", columns.COLUMNS["eval-features"])
    place = tmp_path / "place"
    (place / "weights").mkdir(parents=True)
    (place / "weights" / "dinov2_vits14.safetensors").symlink_to(model.path)
    (place / "photos").symlink_to(pictures)
    for language, content in BLOCK.findall(PAGE.read_text()):
        named = re.match(r"# (\w+\.(?:py|yaml))\n", content)
        if named:
            (place / named[1]).write_text(content)
        else:
            assert language in ("bash", "text", "toml")
    monkeypatch.chdir(place)
    return place


def run(command: str) -> None:
    done = CliRunner().invoke(build(), shlex.split(command)[1:])
    assert done.exit_code == 0, f"{command}\n{done.output}\n{done.exception!r}"


def run_section(title: str) -> None:
    if title != "An attack":
        run("rtok train --config train.yaml")
    for language, content in section(title):
        for command in content.replace("\\\n", "").splitlines() if language == "bash" else ():
            run(command)


def rows(out: str, **identity: object) -> list[dict[str, Any]]:
    """The rows of a finished run with these columns."""
    found: list[dict[str, Any]] = json.loads(Path("results", out, "results.json").read_text())["rows"]
    return [row for row in found if all(row[key] == value for key, value in identity.items())]


def test_an_attack_and_one_of_another_library() -> None:
    run_section("An attack")
    for out, label in (("noise", "noise, tries 5"), ("adam", "foolbox-adam, steps 3")):
        (plain,) = rows(out, victim="plain")
        assert (plain["attack"], plain["threat"], plain["fidelity"]) == (label, "transfer", pytest.approx(1))
        assert plain["cosine"] < 0.999  # it does move the features
        assert 0 < plain["image_linf_255"] <= 8.5
        assert len(rows(out, victim="robust", threat="adaptive")) == 1
    # following gradients beats a few random changes
    assert rows("adam", victim="plain")[0]["cosine"] < rows("noise", victim="plain")[0]["cosine"]


def test_an_attack_without_gradients_cannot_train() -> None:
    command = "train --config train.yaml --plugin noise.py --set attack={method:\\ noise}"
    done = CliRunner().invoke(build(), shlex.split(command))
    assert done.exit_code == 2
    assert "attack.method: train follows gradients, and noise has none: use pgd" in done.output


def test_a_threat() -> None:
    run_section("A threat")
    found = rows("average", threat="average")
    assert [row["victim"] for row in found] == ["plain", "robust"]
    assert {row["surrogate"] for row in found} == {"all models at once"}
    # on average the two are attacked more than by an attack on one of them alone
    transfer = [row for row in rows("average", threat="transfer") if row["victim"] != "random"]
    assert found[1]["cosine_to_plain"] < transfer[1]["cosine_to_plain"]


def test_a_defense() -> None:
    run_section("A defense")
    assert load_file("results/shift/shift.safetensors")["vector"].shape == (64,)
    metrics = [json.loads(line) for line in Path("results/shift/metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == 2
    robust = rows("eval-shift", victim="robust")
    assert [row["threat"] for row in robust] == ["transfer", "informed", "adaptive"]
    assert {(row["kind"], row["n"]) for row in robust} == {("shift", None)}
    control, informed, adaptive = rows("eval-shift", victim="random")
    # what transfer finds counts for those who know more
    assert adaptive["cosine_to_plain"] < control["cosine_to_plain"] >= informed["cosine_to_plain"]
    assert control["kind"] == "shift" and control["fidelity"] < 0.9999
    assert robust[0]["fidelity"] != control["fidelity"]  # trained, so not its own control


def test_a_backbone_with_a_defense_that_wraps_it() -> None:
    run_section("A backbone")
    (file,) = Path("results/recolor").glob("*.safetensors")
    assert file.name == "recolor.safetensors" and load_file(file)["change"].shape == (2, 3)
    assert rows("eval-pooled", victim="plain")[0]["cosine"] < 0.999
    robust = rows("eval-pooled", victim="robust")
    assert [row["threat"] for row in robust] == ["transfer", "informed", "adaptive"]
    assert {row["kind"] for row in robust} == {"recolor"}


def test_tokens_cannot_enter_a_module() -> None:
    done = CliRunner().invoke(build(), shlex.split("train --config pooled.yaml --plugin pooled.py --set defense={}"))
    assert done.exit_code == 2
    assert "'pooled' is a module whose blocks are unknown, so tokens cannot join its sequence" in done.output


def test_a_data_set() -> None:
    run_section("A data set")
    (plain,) = rows("stripes", victim="plain")
    assert plain["clean_accuracy"] >= 0.5
    images = Path("results/stripes/per_image.csv").read_text()
    assert "test/3" in images and "train/" not in images


def test_a_column() -> None:
    run_section("A column")
    for row in rows("norms"):
        low, high = row["ci95"]["norm_ratio"]
        assert low <= row["norm_ratio"] <= high and 0.2 < row["norm_ratio"] < 5
