"""The analysis of activations against what hooks on timm's own blocks see."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rtok.attacks import PGD, Context, FeatureCriterion, FixedSurrogate, Objective, craft
from rtok.config import load_config
from rtok.config.schema import Config
from rtok.data import open_source
from rtok.data.loader import evaluation_batches
from rtok.data.transforms import Transform
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.evaluation import evaluate_features
from rtok.models import Backbone, load_backbone

IMAGES = 5


@pytest.fixture
def analyzed(settings: dict[str, Any], tmp_path: Path) -> Config:
    """An evaluation with the analysis, and tokens with larger activations than the patches, at first."""
    path = tmp_path / "rtokens.safetensors"
    RobustnessTokens.draw(3, 384, std=5, backbone="dinov2_vits14", image_size=(28, 28)).save(path)
    more = {"tokens": str(path), "threats": ["transfer"], "control_draws": 2, "batch_size": 2}
    analysis = {"activations": True, "images": IMAGES}
    return Config.model_validate({**settings, **more, "analysis": analysis, "sanity": {"images": 0}})


def seen_by_hooks(backbone: Backbone, images: Tensor, tokens: Tensor | None) -> Tensor:
    """The largest absolute activation of every position (blocks, B, N)."""
    seen: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _module, _input, output: seen.append(output))
        for block in backbone.vit.blocks
    ]
    with torch.no_grad():
        backbone(images, tokens)
    for hook in hooks:
        hook.remove()
    return torch.stack([sequence.abs().max(-1).values for sequence in seen])


def test_it_is_the_mean_over_images_of_the_largest(analyzed: Config) -> None:
    evaluate_features(analyzed)
    with (analyzed.out / "activations.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (analyzed.out / "activations.png").stat().st_size > 1000
    backbone = load_backbone("dinov2_vits14", weights=analyzed.model.weights, image_size=28)
    tokens = RobustnessTokens.load(analyzed.defense_paths[0]).values
    source = open_source(analyzed.data, seed=0)
    batch = next(iter(evaluation_batches(source, Transform("squash", (28, 28)), batch_size=IMAGES, seed=0)))
    pgd = PGD(eps=8 / 255, step=1e-2, steps=3, units="normalized", init="gaussian", mse_weight=1.0, quantize="floor")
    objective = Objective(FixedSurrogate(backbone), FeatureCriterion(backbone(batch.images), "token"))
    adversarial = craft(pgd, batch.images, objective, Context(batch.keys, std=backbone.std)).images

    def found(**wanted: str) -> list[float]:
        chosen = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
        assert [int(row["block"]) for row in chosen] == list(range(1, 13))
        assert all(float(row["low"]) < float(row["largest"]) < float(row["high"]) for row in chosen)
        return [float(row["largest"]) for row in chosen]

    for kind, images in (("clean", batch.images), ("adversarial", adversarial)):
        plain = seen_by_hooks(backbone, images, None).amax(-1).mean(-1)
        assert found(victim="plain", images=kind) == pytest.approx(plain.tolist(), rel=2e-3)
        robust = seen_by_hooks(backbone, images, tokens)
        own, extra = robust[..., :-3].amax(-1).mean(-1), robust[..., -3:].amax(-1).mean(-1)
        assert (extra > 1.1 * own).any()  # else the own positions could hold the tokens too, unseen
        about = {"victim": "robust", "images": kind, "defense": str(analyzed.defense_paths[0])}
        assert found(**about, positions="own") == pytest.approx(own.tolist(), rel=2e-3)
        assert found(**about, positions="tokens") == pytest.approx(extra.tolist(), rel=2e-3)
    # plain: own positions; the control (one victim, two draws) and the robust one: both
    assert len(rows) == 12 * 2 * (1 + 2 + 2)


def test_it_needs_the_images_of_the_transfer_threat(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "model: {name: dinov2_vits14}\ndata: {name: photos}\ntokens: t.safetensors\nthreats: [adaptive]\n"
        "analysis: {activations: true}\n"
    )
    with pytest.raises(UserError, match=r"analysis\.activations: shows the images of the transfer threat"):
        load_config("eval-features", file)
