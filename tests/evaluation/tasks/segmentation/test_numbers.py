"""eval-seg: numbers against a direct computation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rtok.attacks import PGD, Context, FixedSurrogate, MaskCriterion, Objective, craft
from rtok.attacks.masks import LOSSES
from rtok.config.attack_presets import PRESETS
from rtok.data import open_source
from rtok.data.framing import Framing
from rtok.data.loader import evaluation_batches
from rtok.defenses import RobustnessTokens, load_defense
from rtok.errors import UserError
from rtok.evaluation import evaluate_segmentation
from rtok.heads.segmentation.files import read_head
from rtok.heads.segmentation.models import build_segmenter
from rtok.models import load_backbone
from tests.evaluation.tasks.results import rows_of, table
from tests.evaluation.tasks.segmentation.helpers import Configure
from tests.masked import defended


def iou_by_class(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """IoU of the classes that are predicted or labeled, counted with masks."""
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
