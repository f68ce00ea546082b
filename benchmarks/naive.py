"""The naive path, as the original code takes it: what `rtok` is measured against.

The backbone is never frozen, so every backward pass computes all weight gradients; everything is fp32 and eager; the
clean, adversarial, target and undefended passes run one by one.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor
from torch.nn import functional as F

EPS, STEP = 8 / 255, 1e-2  # the paper's attack, in normalized space


class NaiveModel(torch.nn.Module):
    """timm's ViT with tokens inserted after its prefix, every weight trainable."""

    def __init__(self, timm_name: str, image_size: int, count: int = 10) -> None:
        super().__init__()
        vit: Any = timm.create_model(timm_name, img_size=image_size, num_classes=0).eval()
        self.vit = vit
        self.tokens = torch.nn.Parameter(0.01 * torch.randn(1, count, vit.embed_dim))

    def forward(self, x: Tensor, with_tokens: bool) -> Tensor:
        """Features (B, 1+P, D) of normalized images."""
        vit, prefix = self.vit, self.vit.num_prefix_tokens
        x = vit.norm_pre(vit._pos_embed(vit.patch_embed(x)))
        if with_tokens:
            x = torch.cat([x[:, :prefix], self.tokens.expand(len(x), -1, -1), x[:, prefix:]], dim=1)
        x = vit.norm(vit.blocks(x))
        first_patch = prefix + (self.tokens.shape[1] if with_tokens else 0)
        return torch.cat([x[:, :1], x[:, first_patch:]], dim=1)


def attack(model: NaiveModel, x: Tensor, steps: int, with_tokens: bool = False) -> Tensor:
    """PGD with `backward()` through unfrozen weights; clips to the batch's range, as the original does."""
    with torch.no_grad():
        target = model(x, with_tokens)
    low, high = x.min(), x.max()
    adversarial = x + STEP * torch.randn_like(x)
    for _ in range(steps):
        adversarial = adversarial.detach().requires_grad_(True)
        loss = F.cosine_similarity(model(adversarial, with_tokens), target).mean() + F.mse_loss(adversarial, x)
        model.zero_grad()
        loss.backward()
        assert adversarial.grad is not None
        moved = adversarial - STEP * adversarial.grad.sign()
        adversarial = (x + (moved - x).clamp(-EPS, EPS)).clamp(low, high)
    model.zero_grad()
    return adversarial.detach()


def training_step(model: NaiveModel, optimizer: torch.optim.Optimizer, x: Tensor, steps: int) -> None:
    """One step: attack, target, two robust passes, one for the undefended similarity, update."""
    adversarial = attack(model, x, steps)
    with torch.no_grad():
        target = model(x, False)
    optimizer.zero_grad()
    invariance = F.cosine_similarity(model(x, True), target).mean()
    robust = F.cosine_similarity(model(adversarial, True), target).mean()
    (-(invariance + robust)).backward()
    optimizer.step()
    with torch.no_grad():
        F.cosine_similarity(model(adversarial, False), target).mean()


def evaluation(model: NaiveModel, x: Tensor, steps: int, victims: int) -> None:
    """Clean and adversarial features of the plain model and of `victims` robust ones, an attack for each."""
    for with_tokens in [False] + [True] * victims:
        adversarial = attack(model, x, steps)
        with torch.no_grad():
            F.cosine_similarity(model(x, with_tokens), model(adversarial, with_tokens)).mean()
