"""Adversarial sets: made once, evaluated often, and only where they belong."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from rtok.attacks import stored
from rtok.attacks.stored import AdversarialSet, file_name, load_image
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.evaluation import evaluate_features, make_adversarial_set
from rtok.evaluation.loop import Evaluator
from tests.evaluation.tasks.features.helpers import config


def test_an_adversarial_set_is_made_once_and_evaluated_often(
    settings: dict[str, Any], token_file: Path, tmp_path: Path
) -> None:
    made = make_adversarial_set(config(settings, None, out=tmp_path / "set"))
    names = sorted(path.name for path in (tmp_path / "set").iterdir())
    assert names == ["attack.json", "examples", "examples.png", "images", "manifest.csv"]
    assert made.images == 7 and made.max_linf_255 <= 3
    crafted = evaluate_features(config(settings, token_file, threats=["transfer"], out=tmp_path / "crafted"))
    stored = evaluate_features(
        config(settings, token_file, attack={"from": str(tmp_path / "set")}, out=tmp_path / "stored")
    )
    assert stored["rows"] == crafted["rows"]


def test_a_set_for_something_else_is_refused(settings: dict[str, Any], token_file: Path, tmp_path: Path) -> None:
    make_adversarial_set(config(settings, None, out=tmp_path / "set"))
    stored = {"attack": {"from": str(tmp_path / "set")}, "out": str(tmp_path / "eval")}

    def refused(message: str, **changes: Any) -> None:
        with pytest.raises(UserError, match=message):
            evaluate_features(config(settings, token_file, **{**stored, **changes}))
        assert not (tmp_path / "eval").exists()

    refused("made at 28 x 28 px", model={**settings["model"], "image_size": 42})
    refused("weights", model={**settings["model"], **_other_weights(settings, tmp_path)})
    other = tmp_path / "others"
    other.mkdir()
    (other / "new.png").write_bytes((Path(settings["data"]["root"]) / "picture0.png").read_bytes())
    refused("made for other images", data={**settings["data"], "root": str(other)})
    refused("holds no finished adversarial set", attack={"from": str(tmp_path)})


def test_a_set_from_other_pixels_is_refused(settings: dict[str, Any], token_file: Path, tmp_path: Path) -> None:
    make_adversarial_set(config(settings, None, out=tmp_path / "set"))
    data = {**settings["data"], "resize": "crop"}
    with pytest.raises(UserError, match=r"another data\.resize"):
        evaluate_features(config(settings, token_file, attack={"from": str(tmp_path / "set")}, data=data))


def test_stored_images_are_the_crafted_ones(settings: dict[str, Any], tmp_path: Path) -> None:
    cfg = config(settings, None, out=tmp_path / "set")
    make_adversarial_set(cfg)
    manifest = list(csv.DictReader((tmp_path / "set" / "manifest.csv").open()))
    assert [row["image"] for row in manifest] == [f"picture{i}.png" for i in range(7)]
    for row in manifest:
        image = load_image(tmp_path / "set" / row["file"])
        assert row["file"] == f"images/{file_name(row['image'])}"
        assert float(row["linf_255"]) > 0 and image.shape == (3, 28, 28)


def test_a_set_of_many_images_is_divided_into_folders_and_read_back(
    settings: dict[str, Any], token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_adversarial_set(config(settings, None, out=tmp_path / "flat"))
    with monkeypatch.context() as patch:
        patch.setattr(stored, "PER_FOLDER", 3)
        made = config(settings, None, batch_size=2, out=tmp_path / "set")
        make_adversarial_set(made)
        manifest = list(csv.DictReader((tmp_path / "set" / "manifest.csv").open()))
        folders = ["00000"] * 3 + ["00001"] * 3 + ["00002"]
        assert [row["file"] for row in manifest] == [
            f"images/{folder}/{file_name(row['image'])}" for folder, row in zip(folders, manifest, strict=True)
        ]
        (made.out / "images" / "00001" / ".left.1.tmp.png").touch()  # of a kill
        _unfinished(made.out, manifest[:4])
        make_adversarial_set(made, resume=True)
        assert list(csv.DictReader((tmp_path / "set" / "manifest.csv").open())) == manifest
        assert sorted(path.name for path in (made.out / "images").rglob("*.png")) == sorted(
            Path(row["file"]).name for row in manifest
        )
    both = [
        evaluate_features(
            config(settings, token_file, attack={"from": str(tmp_path / name)}, out=tmp_path / f"of-{name}")
        )
        for name in ("flat", "set")
    ]
    assert both[0]["rows"] == both[1]["rows"]


def test_a_manifest_that_leads_out_of_its_set_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    make_adversarial_set(config(settings, None, out=tmp_path / "set"))
    manifest = tmp_path / "set" / "manifest.csv"
    whole, name = manifest.read_text(), f"images/{file_name('picture0.png')}"
    for file in ("images/../x.png", "images/00000/../x.png", "/etc/x.png", "images", "images/a/x.png", "x.png"):
        manifest.write_text(whole.replace(name, file))
        with pytest.raises(UserError, match="lies outside the set"):
            AdversarialSet.open(tmp_path / "set")
    manifest.write_text(whole.replace(name, "images/00000/x.png"))
    AdversarialSet.open(tmp_path / "set")


def test_an_adversarial_image_does_not_depend_on_batch_or_processes(
    settings: dict[str, Any], tmp_path: Path, run_rtok: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    file = tmp_path / "attack.yaml"
    file.write_text(yaml.safe_dump({**settings, "batch_size": 3}))
    for size in (1, 7):
        make_adversarial_set(config(settings, None, batch_size=size, out=tmp_path / str(size)))
    done = run_rtok("attack", "--config", file, "--out", tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr
    for i in range(7):
        name = f"images/{file_name(f'picture{i}.png')}"
        alone = load_image(tmp_path / "1" / name)
        assert torch.equal(load_image(tmp_path / "7" / name), alone)
        assert torch.equal(load_image(tmp_path / "two" / name), alone)
    assert (tmp_path / "two" / "manifest.csv").read_text() == (tmp_path / "1" / "manifest.csv").read_text()


def test_an_interrupted_set_resumes_to_the_same_files(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_adversarial_set(config(settings, None, batch_size=2, out=tmp_path / "whole"))
    cut = config(settings, None, batch_size=2, out=tmp_path / "cut")
    craft = Evaluator.craft
    calls = {"n": 0}

    def interrupted(self: Evaluator, *arguments: Any) -> torch.Tensor:
        calls["n"] += 1
        if calls["n"] == 3:
            raise KeyboardInterrupt
        return craft(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Evaluator, "craft", interrupted)
        make_adversarial_set(cut)
    with pytest.raises(UserError, match="holds no finished adversarial set"):
        evaluate_features(config(settings, None, attack={"from": str(cut.out)}, tokens=_any_tokens(tmp_path)))
    calls["n"] = 10
    make_adversarial_set(cut, resume=True)
    assert (cut.out / "manifest.csv").read_bytes() == (tmp_path / "whole" / "manifest.csv").read_bytes()
    for path in (tmp_path / "whole" / "images").iterdir():
        assert (cut.out / "images" / path.name).read_bytes() == path.read_bytes()
    assert sorted(p.name for p in cut.out.iterdir()) == [
        "attack.json",
        "examples",
        "examples.png",
        "images",
        "manifest.csv",
    ]


def _unfinished(out: Path, rows: list[dict[str, str]]) -> None:
    """Make a set look as if its run had ended after these images."""
    from rtok.runs.journal import Journal

    record = json.loads((out / "attack.json").read_text())
    (out / "attack.json").write_text(json.dumps({**record, "finished": False}))
    (out / "manifest.csv").unlink()
    (out / "state").mkdir()
    numbers = {name: float for name in ("linf_255", "mse")} | {name: int for name in ("gradients", "forwards")}
    Journal(out / "state" / "manifest.jsonl").append(
        [{name: numbers.get(name, str)(value) for name, value in row.items()} for row in rows]
    )


def _other_weights(settings: dict[str, Any], tmp_path: Path) -> dict[str, str]:
    from safetensors.torch import load_file, save_file

    state = load_file(settings["model"]["weights"])
    state["cls_token"] += 1
    save_file(state, tmp_path / "other.safetensors")
    return {"weights": str(tmp_path / "other.safetensors")}


def _any_tokens(tmp_path: Path) -> str:
    path = tmp_path / "any.safetensors"
    RobustnessTokens.draw(2, 384, backbone="dinov2_vits14", image_size=(28, 28)).save(path)
    return str(path)
