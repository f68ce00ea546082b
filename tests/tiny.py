"""Tiny models: two-block members of any family, built and read through the same code as the real ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from rtok.models import Backbone
    from rtok.models.spec import ModelSpec


@dataclass
class Tiny:
    """A tiny model: what rtok knows of it, timm's own instance at native size, and its weights in a file."""

    spec: ModelSpec
    vit: Any
    path: Path

    def load(self, **options: Any) -> Backbone:
        from rtok.models import load_backbone

        return load_backbone(self.spec, **{"weights": self.path, "image_size": self.spec.native_size, **options})

    def images(self, count: int = 2, size: int | None = None) -> Tensor:
        import torch

        side = size or self.spec.native_size
        return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def save_test_vit(path: Path) -> None:
    """Write random weights of timm's `test_vit`: six blocks of width 64."""
    import timm
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    state = timm.create_model("test_vit", num_classes=0).state_dict()
    save_file({name: 0.3 * torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}, path)


def tiny_maker(folder: Path) -> Callable[..., Tiny]:
    """Return what makes tiny models whose files lie in a folder."""
    import timm
    import torch
    from safetensors.torch import save_file

    from rtok.models.registry import find

    def make(name: str, **kwargs: Any) -> Tiny:
        spec = find(name)
        swiglu = {"mlp_ratio": 5.5} if name.startswith("dinov2_vitg") else {}  # packed: twice an even width
        kwargs = {"embed_dim": 64, "depth": 2, "num_heads": 2, **swiglu, **kwargs}
        spec = dataclasses.replace(spec, dim=64, timm_kwargs=kwargs)
        classes = {} if spec.kind == "embedding" else {"num_classes": 0}
        vit = timm.create_model(spec.timm_name, **classes, **kwargs).eval()
        generator = torch.Generator().manual_seed(0)
        state = vit.state_dict()
        for key, tensor in state.items():
            # everything but OpenCLIP's bias, which its files do not have
            if key == "head.bias":
                tensor.zero_()
            else:
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
        path = folder / f"{name.replace(':', '-')}.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
        return Tiny(spec, vit, path)

    return make
