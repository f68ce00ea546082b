"""Copies of a defense, fitted to what the deployed model answers, and attacks through them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch.nn import functional as F

from rtok.attacks import PGD, Context, FeatureCriterion, FixedSurrogate, Objective, craft
from rtok.config.schema import Config
from rtok.config.threats import ExtractedConfig
from rtok.data import open_source
from rtok.data.loader import evaluation_batches
from rtok.data.transforms import Transform
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.evaluation import evaluate_features
from rtok.evaluation.extracted import NOISE, ExtractedDefenses, difference
from rtok.evaluation.loop import Evaluator
from rtok.models import load_backbone

PER_IMAGE = {"queries_per_image": 2, "steps": 40, "lr": 0.05}
FILES = ["1-random.safetensors", "2-robust.safetensors"]


def config(small: dict[str, Any], out: Path, **changes: Any) -> Config:
    more = {"threats": ["extracted"], "extracted": PER_IMAGE, "control_draws": 1, "batch_size": 7}
    return Config.model_validate({**small, **more, "out": str(out), **changes})


def test_a_copy_is_attacked_through(small: dict[str, Any], tmp_path: Path) -> None:
    cfg = config(small, tmp_path / "run")
    results = evaluate_features(cfg)
    told = [(row["threat"], row["victim"], row["queries"], row["start"]) for row in results["rows"]]
    assert told == [("extracted", victim, 2, "each image") for victim in ("random", "robust")]
    assert sorted(path.name for path in (cfg.out / "extracted").iterdir()) == FILES
    backbone = load_backbone("dinov2_vits14", weights=cfg.model.weights, image_size=28)
    source = open_source(cfg.data, seed=0)
    (batch,) = evaluation_batches(source, Transform("squash", (28, 28)), batch_size=7, seed=0)
    plain = backbone(batch.images)
    victim = RobustnessTokens.load(Path(small["tokens"]))
    copy = RobustnessTokens.load(cfg.out / "extracted" / FILES[1]).values
    answer = backbone(batch.images, victim.values)
    far, near = (
        float(1 - F.cosine_similarity(backbone(batch.images, r), answer, dim=-1).mean())
        for r in (victim.untrained(backbone, 0, "extracted").values, copy)
    )
    assert near < far / 3  # the answers are learned
    objective = Objective(FixedSurrogate(lambda x: backbone(x, copy)), FeatureCriterion(plain, "channel"))
    adversarial = craft(PGD(steps=3), batch.images, objective, Context(batch.keys)).images
    moved = F.cosine_similarity(backbone(adversarial, victim.values), plain, dim=-1).mean(1)
    with (cfg.out / "per_image.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["victim"] == "robust"]
    alone = torch.tensor([float(row["cosine_to_plain_alone"]) for row in rows])
    torch.testing.assert_close(alone, moved, atol=1e-4, rtol=0)
    assert results["rows"][1]["cosine_to_plain"] <= float(moved.mean()) + 1e-6


def test_a_copy_depends_on_neither_the_batch_nor_a_resumption(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {**PER_IMAGE, "steps": 4}
    whole = evaluate_features(config(small, tmp_path / "whole", extracted=quick))
    cut = config(small, tmp_path / "cut", extracted=quick, batch_size=3)
    evaluate = Evaluator.evaluate

    def interrupted(self: Evaluator, batch: Any) -> Any:
        if "picture3.png" in batch.keys:
            raise KeyboardInterrupt
        return evaluate(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Evaluator, "evaluate", interrupted)
        evaluate_features(cut)
    (cut.out / "extracted" / FILES[0]).unlink()  # as if the fit had been killed before it
    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    kept = (cut.out / "extracted" / FILES[1]).stat().st_mtime_ns
    resumed = evaluate_features(cut, resume=True)
    assert (cut.out / "extracted" / FILES[1]).stat().st_mtime_ns == kept
    for name in FILES:
        one, two = (load_file(tmp_path / run / "extracted" / name)["rtokens"] for run in ("whole", "cut"))
        assert torch.equal(one, two)
    for a, b in zip(whole["rows"], resumed["rows"], strict=True):
        assert a["cosine_to_plain"] == pytest.approx(b["cosine_to_plain"], abs=2e-3)
    (cut.out / "mine.txt").touch()
    evaluate_features(config(small, cut.out, threats=["transfer"]), overwrite=True)
    assert not (cut.out / "extracted").exists() and (cut.out / "mine.txt").exists()


def asked(small: dict[str, Any], out: Path, **budget: int) -> dict[bytes, int]:
    """Each query, and how often it was made; as the fit makes them, which here goes through the images many times."""
    cfg = config(small, out, extracted={**budget, "steps": 12})
    setup: Any = SimpleNamespace(
        config=cfg,
        source=open_source(cfg.data, seed=0),
        open_source=lambda data: open_source(data, seed=0),
        transform=Transform("squash", (28, 28)),
        compute=SimpleNamespace(device=torch.device("cpu")),
        sizes_differ=False,
    )
    counts: dict[bytes, int] = {}
    for images in ExtractedDefenses.open(setup)._queries():
        for image in images:
            query = image.numpy().tobytes()
            counts[query] = counts.get(query, 0) + 1
    return counts


def test_no_more_is_asked_than_allowed(small: dict[str, Any], tmp_path: Path) -> None:
    source = open_source(config(small, tmp_path).data, seed=0)
    (batch,) = evaluation_batches(source, Transform("squash", (28, 28)), batch_size=7, seed=0)
    clean = {image.numpy().tobytes(): image for image in batch.images}
    assert set(asked(small, tmp_path, queries_per_image=1)) == set(clean)
    few = asked(small, tmp_path, queries=3)
    assert len(few) == 3 and set(few) < set(clean)
    several = asked(small, tmp_path, queries_per_image=3)
    assert len(several) == 3 * 7 and set(clean) < set(several)
    images = torch.stack(list(clean.values()))
    for query in set(several) - set(clean):
        around = (
            (torch.frombuffer(bytearray(query), dtype=torch.float32).view(3, 28, 28) - images).abs().amax((1, 2, 3))
        )
        assert 0.9 * NOISE < around.min() <= NOISE + 1e-6


def test_budgets_that_cannot_be(small: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="queries is 8, but the train split of data has 7 images"):
        evaluate_features(config(small, tmp_path / "run", extracted={"queries": 8}))
    assert not (tmp_path / "run").exists()
    for wrong in ({}, {"queries": 1, "queries_per_image": 1}):
        with pytest.raises(ValidationError, match="write either queries"):
            ExtractedConfig.model_validate(wrong)


def test_the_images_asked_about_are_an_input(small: dict[str, Any], tmp_path: Path) -> None:
    evaluate_features(config(small, tmp_path / "run", extracted={"queries": 3, "steps": 1}))
    inputs = json.loads((tmp_path / "run" / "run.json").read_text())["inputs"]
    assert inputs["images of extracted"].startswith("3 images")


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 3, 4)])
def test_scores_differ_by_their_divergence(shape: tuple[int, ...]) -> None:
    output, answer = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    p, q = answer.softmax(1), output.softmax(1)
    expected = (p * (p / q).log()).sum(1).reshape(2, -1).mean(1)
    torch.testing.assert_close(difference(output, answer, "labels"), expected)
    assert difference(answer, answer, "labels").abs().max() < 1e-6


def test_features_differ_by_their_angle() -> None:
    output, answer = torch.randn(2, 2, 5, 3, generator=torch.Generator().manual_seed(0))
    expected = 1 - F.cosine_similarity(output, answer, dim=2).mean(1)
    torch.testing.assert_close(difference(output, answer, "features"), expected)
