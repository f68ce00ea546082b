"""eval-seg from its config to its files: numbers against a direct computation, runs that can be cut anywhere."""

from __future__ import annotations

import csv
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
from torch.nn import functional as F
from typer.testing import CliRunner

from rtok.attacks import PGD, Context, FixedSurrogate, MaskCriterion, Objective, craft
from rtok.attacks.masks import LOSSES
from rtok.cli.app import build
from rtok.config.attack import PRESETS
from rtok.config.schema import Config
from rtok.data import open_source
from rtok.data.framing import Framing
from rtok.data.loader import evaluation_batches
from rtok.defenses import RobustnessTokens, load_defense
from rtok.errors import UserError
from rtok.evaluation import evaluate_segmentation, make_adversarial_set
from rtok.evaluation.loop import Evaluator
from rtok.heads.segmentation.files import read_head
from rtok.heads.segmentation.models import build_segmenter
from rtok.models import load_backbone
from rtok.runs.folder import flatten
from tests.masked import defended

FILES = ["config.yaml", "per_class.csv", "per_image.csv", "pictures", "results.json", "run.json", "summary.png"]
Configure = Callable[..., Config]


def rows_of(results: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in results["rows"] if all(row[key] == value for key, value in wanted.items())]


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def iou_by_class(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """IoU of the classes that are predicted or labelled, counted with masks."""
    found = []
    for k in range(3):
        both = sum(int(((p == k) & (y == k)).sum()) for p, y in pairs)
        either = sum(int((((p == k) | (y == k)) & (y != 255)).sum()) for p, y in pairs)
        found += [both / either] if either else []
    return found


@pytest.mark.parametrize("mode", ["slide", "crop"])
def test_numbers_equal_a_direct_computation(seg_config: Configure, seg_settings: dict[str, Any], mode: str) -> None:
    config = seg_config(segmentation={**seg_settings["segmentation"], "mode": mode})
    results = evaluate_segmentation(config)
    backbone = load_backbone("timm:test_vit", weights=config.model.weights, image_size=32)
    head = read_head(Path(seg_settings["head"]["path"]), backbone, 3)
    tokens = RobustnessTokens.load(Path(seg_settings["tokens"])).values
    plain, robust = (build_segmenter(defended(backbone, r), head, (5,), 25, 17).logits for r in (None, tokens))
    source, framing = open_source(config.data, seed=0), Framing(mode, 36, 25, seed=0)  # type: ignore[arg-type]
    batches = {}
    for batch in evaluation_batches(source, framing, batch_size=1, seed=0):
        batches[batch.keys[0]] = batch.images
    seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for i, (key, image) in enumerate(batches.items()):
        mask = source.read_mask(i)  # type: ignore[attr-defined]
        small = framing.mask(mask, key)
        objective = Objective(FixedSurrogate(plain), MaskCriterion(small[None]))
        attacked = craft(PGD(steps=2), image, objective, Context([key], seed=0)).images
        for name, model, shown in (
            ("plain clean", plain, image),
            ("plain adversarial", plain, attacked),
            ("robust clean", robust, image),
            ("robust adversarial", robust, attacked),
        ):
            with torch.no_grad():
                logits = model(shown)
            labels = mask if mode == "slide" else small.numpy()
            resized = F.interpolate(logits, labels.shape, mode="bilinear", align_corners=False)
            seen.setdefault(name, []).append((resized[0].argmax(0).numpy(), labels))
    for victim in ("plain", "robust"):
        (row,) = rows_of(results, victim=victim)
        for state in ("clean", "adversarial"):
            pairs = seen[f"{victim} {state}"]
            expected = float(np.mean(iou_by_class(pairs)))
            per_image = float(np.mean([np.mean(iou_by_class([pair])) for pair in pairs]))
            assert row[f"{state}_miou"] == pytest.approx(expected, abs=1e-9, rel=0)
            assert row[f"{state}_image_miou"] == pytest.approx(per_image, abs=1e-9, rel=0)
            low, high = row["ci95"][f"{state}_miou"]
            assert 0 <= low < high <= 1
        right = sum(int((p == y).sum()) for p, y in seen[f"{victim} adversarial"])
        counted = sum(int((y != 255).sum()) for _, y in seen[f"{victim} adversarial"])
        assert row["pixel_accuracy"] == pytest.approx(right / counted, abs=1e-9)
        assert row["head_features"] == "plain" and 0 < row["image_linf_255"] <= 8.01
    assert seen["plain clean"][0][0].shape == ((41, 49) if mode == "slide" else (25, 25))


def test_an_ensemble_is_the_worst_of_its_variants_per_image(seg_config: Configure, tmp_path: Path) -> None:
    """SEA's, and the middle block's features of every window."""
    sea = PRESETS["sea"]["variants"]
    assert [variant["loss"] for variant in sea] == list(LOSSES)
    variants: list[dict[str, Any]] = [*sea, {"layer": 0.5}]
    attack = {"method": "apgd", "steps": 10, "shrink": True}
    threats = ["adaptive"]  # what transfer finds counts there too

    def harm(name: str, attack: dict[str, Any]) -> list[float]:
        config = seg_config(attack=attack, threats=threats, control_draws=1, out=tmp_path / name)
        evaluate_segmentation(config)
        return [float(row["adversarial_image_miou"]) for row in table(config.out / "per_image.csv")]

    alone = [harm(str(i), {**attack, **variant}) for i, variant in enumerate(variants)]
    assert len(set(map(tuple, alone))) == 4  # each is an attack of its own
    assert harm("all", {**attack, "variants": variants}) == [min(found) for found in zip(*alone, strict=True)]


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


def test_the_control_is_the_mean_over_its_draws(seg_config: Configure, tmp_path: Path) -> None:
    both = evaluate_segmentation(seg_config())
    one = evaluate_segmentation(seg_config(control_draws=1, out=str(tmp_path / "one")))
    rows = table(seg_config().out / "per_image.csv")
    second = [float(row["adversarial_image_miou"]) for row in rows if row["draw"] == "1"]
    first = [float(row["adversarial_image_miou"]) for row in rows if row["draw"] == "0"]
    (mean,), (single,) = (rows_of(results, victim="random") for results in (both, one))
    assert single["adversarial_image_miou"] == pytest.approx(np.mean(first))
    assert mean["adversarial_image_miou"] == pytest.approx(np.mean([*first, *second]))
    assert first != second and mean["adversarial_miou"] != single["adversarial_miou"]


def test_attacks_are_checked_and_victims_compared(seg_config: Configure) -> None:
    """On the first image, since windows slide over images of any size."""
    sanity = {"images": 2, "queries": 5}
    results = evaluate_segmentation(seg_config(sanity=sanity, threats=["transfer", "adaptive"]))
    assert results["sanity"]["images"] == 1
    passed = [(check["victim"], check["check"], check["passed"]) for check in results["sanity"]["checks"]]
    assert len(passed) == 8
    assert [(victim, found) for victim, check, found in passed if check.startswith("the gradient is")] == [
        ("plain", True),
        ("robust", True),
    ]
    compared = [(row["threat"], row["baseline_victim"]) for row in results["differences"]]
    assert compared == [(threat, other) for threat in ("transfer", "adaptive") for other in ("random", "plain")]
    rows = {(row["threat"], row["victim"]): row for row in results["rows"]}
    gain = rows["adaptive", "robust"]["adversarial_image_miou"] - rows["transfer", "plain"]["adversarial_image_miou"]
    assert results["differences"][3]["adversarial_image_miou"] == pytest.approx(gain, abs=1e-9)


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


def test_every_threat_and_both_heads(
    seg_config: Configure, seg_settings: dict, write_head: Callable, tmp_path: Path
) -> None:
    files = {
        "plain": seg_settings["head"]["path"],
        "robust": str(write_head(tmp_path / "r.pth", 64, 3, bn__bias=torch.ones(64))),
    }
    results = evaluate_segmentation(
        seg_config(head={"type": "mmseg", "path": files}, threats=["transfer", "informed", "adaptive"])
    )
    told = [(row["threat"], row["victim"], row["head_features"]) for row in results["rows"]]
    assert told == [
        ("transfer", "plain", "plain"),
        *[
            (threat, *who)
            for threat in ("transfer", "informed", "adaptive")
            for who in (("random", "plain"), ("robust", "plain"), ("robust", "robust"))
        ],
    ]
    clean = {row["head_features"]: row["clean_miou"] for row in results["rows"] if row["victim"] == "robust"}
    assert clean["plain"] != clean["robust"]


def test_a_copy_is_fitted_to_the_scores_of_whole_pictures(seg_config: Configure, seg_settings: dict[str, Any]) -> None:
    asking = {"queries_per_image": 1, "steps": 4}
    config = seg_config(threats=["extracted"], extracted=asking, control_draws=1)
    results = evaluate_segmentation(config)
    assert [(row["threat"], row["victim"], row["queries"]) for row in results["rows"]] == [
        ("extracted", "random", 1),
        ("extracted", "robust", 1),
    ]
    copy = load_defense(config.out / "extracted" / "2-robust.safetensors")
    backbone = load_backbone(config.model.name, weights=config.model.weights, image_size=config.model.size)
    start = load_defense(Path(seg_settings["tokens"])).untrained(backbone, config.seed, "extracted")
    moved = copy.parameters()["rtokens"] - start.parameters()["rtokens"]
    assert 1e-3 < float(moved.abs().mean()) < 0.04  # by the learning rate at each step, so the gradient arrives
    with pytest.raises(UserError, match="extracted asks about whole pictures"):
        crop = {**seg_settings["segmentation"], "mode": "crop"}
        evaluate_segmentation(seg_config(threats=["extracted"], extracted=asking, segmentation=crop, out="not-there"))


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


FIT = {"type": "fit", "steps": 3, "batch_size": 2}


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
