"""One step of the training, against the paper's method written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rtok.data import open_source
from rtok.data.loader import training_batches
from rtok.data.transforms import Transform
from rtok.defenses import RobustnessTokens
from rtok.models import load_backbone
from rtok.training import train
from tests.training.runs import SCHEDULES, config, metrics, tokens

# FARE's objective, another optimizer's own decay, and an average that the last state is not.
DISTANCE = {"objective": "l2", "invariance_weight": 0, "weight_decay": 0.1, "ema": 0.5}


@pytest.mark.parametrize("changes", [{}, {"threat": "adaptive"}, {"threat": "mixed"}, SCHEDULES, DISTANCE], ids=str)
def test_a_step_is_the_papers(settings: dict[str, Any], changes: dict[str, Any]) -> None:
    """Three steps written out without the package's attack and loop, in normalized space, as the paper has it."""
    cfg = config(settings, train={"steps": 3, "batch_size": 3, **changes})
    train(cfg)
    threat, weight = changes.get("threat", "transfer"), changes.get("invariance_weight", 1.0)
    scales = (0, 0.5, 1) if "eps_schedule" in changes else (1, 1, 1)
    rates = (1, 0.75, 0.25) if "lr_schedule" in changes else (1, 1, 1)
    backbone = load_backbone(cfg.model.name, weights=cfg.model.weights, image_size=28)
    source = open_source(cfg.data, seed=0)
    batches = training_batches(source, Transform("squash", (28, 28)), batch_size=3, start=0, steps=3, seed=0)
    r = RobustnessTokens.draw(3, 384).values.requires_grad_(True)
    adam = torch.optim.Adam([r], lr=1e-3, weight_decay=changes.get("weight_decay", 0))
    average = r.detach().clone()

    def term(features: Tensor, target: Tensor) -> Tensor:
        if "objective" in changes:
            return -((features - target) ** 2).sum(2).mean()
        return F.cosine_similarity(features, target, dim=1).mean()

    from rtok.attacks.noise import start_noise

    def attacked(pixels: Tensor, first: int) -> Tensor:
        """Features of what is attacked: plain, with the tokens, or in turns."""
        own = [threat == "adaptive" or (threat == "mixed" and i % 2) for i in range(first, first + 3)]
        features = [backbone(x[None], r.detach() if known else None) for x, known in zip(pixels, own, strict=True)]
        return torch.cat(features)

    for step, batch in enumerate(batches):
        mean, std = backbone.mean, backbone.std
        clean = (batch.images - mean) / std
        target = backbone(batch.images).detach()
        noise = [
            start_noise("gaussian", "linf", 8 / 255, batch.images[b : b + 1].shape, batch.keys[b : b + 1], 0, 0, v)
            for b, v in enumerate(batch.visits)
        ]
        eps = scales[step] * 8 / 255
        x = clean + torch.cat(noise).clamp(-eps, eps)
        x = (x * std + mean).clamp(0, 1)
        for _ in range(3):
            z = ((x - mean) / std).requires_grad_(True)
            pixels = z * std + mean
            loss = term(attacked(pixels, 3 * step), target) * 3
            loss = loss + F.mse_loss(pixels, batch.images) * 3
            (gradient,) = torch.autograd.grad(loss, z)
            z = clean + (z.detach() - scales[step] * 1e-2 * gradient.sign() - clean).clamp(-eps, eps)
            x = (z * std + mean).clamp(0, 1)
        x = (x * 255 + 1e-4).floor() / 255 if eps else batch.images
        terms = [term(backbone(images, r), target) for images in (batch.images, x)]
        adam.zero_grad()
        adam.param_groups[0]["lr"] = rates[step] * 1e-3
        (-(weight * terms[0] + terms[1])).backward()
        adam.step()
        decay = min(0.5, (2 + step) / (11 + step)) if "ema" in changes else 0
        average = decay * average + (1 - decay) * r.detach()
    torch.testing.assert_close(tokens(cfg.out), average, rtol=0, atol=1e-5)
    if "objective" in changes:
        assert metrics(cfg.out)[-1]["loss"] == pytest.approx(-terms[1].item(), rel=1e-4)
        assert all(0 < row["invariance"] <= 1 and row["undefended"] < 1 for row in metrics(cfg.out))
    rows = metrics(cfg.out)
    assert [row["lr"] for row in rows] == pytest.approx([rate * 1e-3 for rate in rates])
    if "eps_schedule" in changes:
        assert [row["eps"] for row in rows] == pytest.approx([scale * 8 / 255 for scale in scales])
        assert rows[0]["undefended"] == 1 and rows[0]["image_mse"] == 0
        assert rows[0]["loss"] == pytest.approx(-1.25 * rows[0]["invariance"], abs=1e-6)
