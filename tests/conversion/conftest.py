"""Tiny backbones under their real names, with tokens for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rtok.defenses import RobustnessTokens
from rtok.models import registry


@dataclass
class Robust:
    """A tiny model (see `tiny`), tokens trained for it, and their file."""

    model: Any
    tokens: RobustnessTokens
    path: Path

    @property
    def weights(self) -> Path:
        return self.model.path

    def images(self, count: int = 3, size: int | None = None) -> Tensor:
        return self.model.images(count, size)

    def normalized(self, images: Tensor) -> Tensor:
        backbone = self.model.load()
        return (images - backbone.mean) / backbone.std

    def features(self, images: Tensor) -> Tensor:
        """What our wrapper computes with the tokens, at the images' size."""
        backbone = self.model.load(image_size=tuple(images.shape[-2:]))
        with torch.no_grad():
            return backbone(images, self.tokens.values)


@pytest.fixture
def robust(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Robust]:
    """Make a tiny member of a family that `find` knows under the family's name, and five tokens for it."""

    def make(name: str, *, image_size: tuple[int, int] | None = None, **kwargs: Any) -> Robust:
        model = tiny(name, **kwargs)
        monkeypatch.setitem(registry._BY_NAME, name, model.spec)
        values = torch.randn(1, 5, model.spec.dim, generator=torch.Generator().manual_seed(7))
        about = {"train": {"steps": 50}}
        fingerprint = model.load().fingerprint()
        tokens = RobustnessTokens(
            values, backbone=name, image_size=image_size, config=about, version="0.1.0", fingerprint=fingerprint
        )
        tokens.save(tmp_path / "rtokens.safetensors")
        return Robust(model, tokens, tmp_path / "rtokens.safetensors")

    return make
