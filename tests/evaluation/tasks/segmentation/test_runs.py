"""eval-seg from its config to its files: runs that can be cut anywhere, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from rtok.cli.app import build
from rtok.config.schema import Config
from rtok.evaluation import evaluate_segmentation, make_adversarial_set
from rtok.evaluation.loop import Evaluator
from rtok.runs.folder import flatten
from tests.evaluation.tasks.results import rows_of, table
from tests.evaluation.tasks.segmentation.helpers import Configure

FILES = ["config.yaml", "per_class.csv", "per_image.csv", "pictures", "results.json", "run.json", "summary.png"]
FIT = {"type": "fit", "steps": 3, "batch_size": 2}


def test_what_a_run_writes(seg_config: Configure, seg_settings: dict[str, Any]) -> None:
    config = seg_config(segmentation={**seg_settings["segmentation"], "pictures": 1})
    results = evaluate_segmentation(config)
    assert sorted(path.name for path in config.out.iterdir()) == FILES
    assert json.loads((config.out / "results.json").read_text()) == results
    assert [row["victim"] for row in results["rows"]] == ["plain", "random", "robust"]
    (random,) = rows_of(results, victim="random")
    assert random["draws"] == 2 and random["images"] == 3
    images = table(config.out / "per_image.csv")
    assert len(images) == 3 * 4 and not any("areas" in name for name in images[0])
    classes = table(config.out / "per_class.csv")
    expected = [
        (row["victim"], name, *map(str, ious)) for row in results["rows"] for name, ious in row["class_iou"].items()
    ]
    assert [(c["victim"], c["class"], c["clean_iou"], c["adversarial_iou"]) for c in classes] == expected
    (picture,) = (config.out / "pictures").iterdir()
    assert picture.suffix == ".png" and Image.open(picture).width > 500


def test_a_plain_model_alone_and_attacks_that_differ_in_their_variants(
    seg_config: Configure, seg_settings: dict[str, Any]
) -> None:
    attacks = [{"preset": "sea", "steps": 2, "variants": [{"loss": loss}]} for loss in ("jensen-shannon", "margin")]
    pictures = {**seg_settings["segmentation"], "pictures": 1}
    config = seg_config(tokens=None, threats=["transfer"], attack=attacks, segmentation=pictures)
    results = evaluate_segmentation(config)
    assert [row["images"] for row in results["rows"]] == [3, 3]
    assert [row["attack"] for row in results["rows"]] == [
        "sea, steps 2, variants (loss jensen-shannon)",
        "sea, steps 2, variants (loss margin)",
    ]
    (picture,) = (config.out / "pictures").iterdir()
    assert picture.suffix == ".png"


def test_an_interrupted_evaluation_goes_on(
    seg_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate_segmentation(seg_config(out=str(tmp_path / "whole")))
    evaluate, done = Evaluator.evaluate, []

    def cut(self: Evaluator, batch: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(batch.keys)
        return evaluate(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Evaluator, "evaluate", cut)
        evaluate_segmentation(seg_config())
    resumed = evaluate_segmentation(seg_config(), resume=True)
    assert resumed == whole


def test_a_crop_does_not_depend_on_its_batch(seg_config: Configure, seg_settings: dict, tmp_path: Path) -> None:
    crop = {**seg_settings["segmentation"], "mode": "crop"}
    results = [
        evaluate_segmentation(seg_config(segmentation=crop, batch_size=size, out=str(tmp_path / str(size))))
        for size in (1, 3)
    ]
    assert results[0]["rows"] == results[1]["rows"]


def test_an_adversarial_set_serves_again(seg_config: Configure, tmp_path: Path) -> None:
    made = make_adversarial_set(seg_config(out=str(tmp_path / "set"), tokens=None))
    assert made.images == 3 and made.max_linf_255 <= 8.01
    crafted = evaluate_segmentation(seg_config())
    stored = evaluate_segmentation(seg_config(attack={"from": str(tmp_path / "set")}, out=str(tmp_path / "again")))
    names = ("victim", "clean_miou", "adversarial_miou", "pixel_accuracy")
    assert [[row[name] for name in names] for row in stored["rows"]] == [
        [row[name] for name in names] for row in crafted["rows"]
    ]


def test_another_surrogate_needs_its_head(
    seg_config: Configure, seg_settings: dict, write_head: Callable, tmp_path: Path
) -> None:
    surrogate = {
        "tokens": seg_settings["tokens"],
        "head": str(write_head(tmp_path / "s.pth", 64, 3, bn__bias=torch.ones(64))),
    }
    results = evaluate_segmentation(seg_config(surrogate=surrogate))
    (row,) = rows_of(results, victim="plain")
    assert row["surrogate"] == f"timm:test_vit + {seg_settings['tokens']}"


def write_config(seg_settings: dict[str, Any], path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**seg_settings, **changes}))
    return path


def test_processes_change_nothing_and_libraries_are_quiet(
    seg_settings: dict[str, Any], tmp_path: Path, run_rtok: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    config = write_config(seg_settings, tmp_path / "fit.yaml", head=FIT)
    done = run_rtok("eval-seg", "--config", config, "--out", tmp_path / "two", processes=2)
    assert done.returncode == 0, done.stderr
    one = Config.model_validate({**seg_settings, "head": FIT, "out": str(tmp_path / "one")})
    results = evaluate_segmentation(one)
    assert json.loads((tmp_path / "two" / "results.json").read_text()) == results
    heads = sorted(p.stem for p in (tmp_path / "two" / "heads").iterdir())
    assert heads == ["control-1-0", "control-1-1", "plain", "robust"]
    assert not [line for line in done.stdout.splitlines() if "mmengine" in line or "Checkpoint" in line]
    errors = [line for line in done.stderr.splitlines() if "OMP_NUM_THREADS" not in line]
    assert errors == []


def test_bad_input_is_one_message_and_nothing_is_written(
    seg_settings: dict[str, Any],
    masked_set: Path,
    write_head: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    unknown, missing = tmp_path / "unknown", tmp_path / "missing"
    for root in (unknown, missing):
        shutil.copytree(masked_set, root)
    Image.fromarray(np.full((41, 49), 9, np.uint8)).save(unknown / "masks" / "test" / "p3.png")
    (missing / "masks" / "test" / "p3.png").unlink()
    data, head = seg_settings["data"], seg_settings["head"]
    without = write_head(tmp_path / "without.pth", 64, 3, bn__running_mean=None, bn__running_var=None)
    cases = {
        "width 1024": {"head": {**head, "path": str(write_head(tmp_path / "wide.pth", 1024, 3))}},
        "running_mean": {"head": {**head, "path": str(without)}},
        "holds 9; valid are 0 to 2 and 255": {"data": {**data, "root": str(unknown)}},
        "have no partner": {"data": {**data, "root": str(missing)}},
        "model.image_size: must be 32": {"model": {**seg_settings["model"], "image_size": 48}},
        "names 2 heads for 1 token files": {
            "head": {**head, "path": {"plain": head["path"], "robust": [head["path"], str(without)]}}
        },
    }
    for i, (message, changes) in enumerate(cases.items()):
        config = write_config(seg_settings, tmp_path / f"{i}.yaml", **changes)
        done = CliRunner().invoke(build(), ["eval-seg", "--config", str(config)])
        assert done.exit_code == 2, (message, done.output)
        assert message in done.stderr and done.stderr.startswith("error: ")
        assert not Path(seg_settings["out"]).exists()


def test_the_resolved_config_has_the_protocol(seg_settings: dict[str, Any], tmp_path: Path) -> None:
    config = write_config(
        {**seg_settings, "model": {**seg_settings["model"], "image_size": 512}}, tmp_path / "c.yaml", segmentation=None
    )
    done = CliRunner().invoke(build(), ["eval-seg", "--config", str(config), "--dry-run"])
    assert done.exit_code == 0, done.stderr
    resolved = flatten(yaml.safe_load(done.stdout))
    assert (resolved["segmentation.window"], resolved["segmentation.mode"]) == (512, "slide")
    (files,) = [line for line in done.stdout.splitlines() if line.startswith("# files")]
    assert "per_class.csv, *.png, pictures/, config.yaml" in files
