"""Count what the sanity checks flag: right attacks, none of which they may flag, and broken ones, which they must.

    python scripts/sanity_mutants.py --right 50 --broken 5 --steps 100

Every run has other images, another small ViT and another defense. A broken attack or model is a right one, changed
from outside.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import rtok
from rtok.attacks import PGD
from rtok.compute import Compute
from rtok.config.schema import Config
from rtok.defenses import defense_files
from rtok.evaluation.run import open_evaluator
from rtok.evaluation.sanity import sanity
from rtok.evaluation.tasks.features import FeatureTask
from rtok.evaluation.victims import Victim
from rtok.models import registry
from rtok.setup import Setup
from rtok.training import train

Model = Callable[[Tensor], Tensor]
Change = Callable[[Model, Victim], Model]
WIDTH, SIDE = 64, 28
DEFENSES: tuple[dict[str, Any], ...] = (
    {"kind": "tokens", "count": 3, "init_std": 0.3},
    {"kind": "deep-tokens", "count": 3, "init_std": 0.3},
    {"kind": "lora", "rank": 4},
)


class _Backward(torch.autograd.Function):
    """The identity, whose gradient is changed."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.change = change
        return images.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return ctx.change(*gradients), None


def altered(model: Model, change: Callable[[Tensor], Tensor]) -> Model:
    """The same model, whose gradient with respect to the images is changed."""
    return lambda images: model(_Backward.apply(images, change))


def _gradient(change: Callable[[Tensor], Tensor]) -> Change:
    return lambda model, _: altered(model, change)


def flipped(share: float, gradient: Tensor) -> Tensor:
    """The gradient with the signs of a random share of its entries flipped."""
    return torch.where(torch.rand_like(gradient) < share, -gradient, gradient)


def _half(gradient: Tensor) -> Tensor:
    gradient[..., gradient.shape[-1] // 2 :] = 0
    return gradient


class _Stale:
    """What is attacked is a copy from before the defense was trained; what is evaluated is asked for first."""

    def __init__(self) -> None:
        self.evaluated: set[Victim] = set()

    def __call__(self, model: Model, victim: Victim) -> Model:
        """The model when the victim is asked for the first time, then the copy."""
        if victim not in self.evaluated:
            self.evaluated.add(victim)
            return model
        assert victim.defense is not None
        return victim.with_defense(victim.defense.untrained(victim.features.backbone, 0, "stale")).features


MODELS: dict[str, Change] = {
    **{f"{share:.0%} of the signs flipped": _gradient(partial(flipped, share)) for share in (0.1, 0.2, 0.3, 0.45)},
    "gradient on half of the image": _gradient(_half),
    "random gradient": _gradient(torch.randn_like),
    "gradient times 1e-6": _gradient(lambda gradient: 1e-6 * gradient),
    "rounding defense": lambda model, _: lambda images: model((images * 64).round() / 64),
    "detached copy": _Stale(),
}
ATTACKS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "one step": lambda settings: {"steps": 1},
    "projection onto half the radius": lambda settings: {"eps": settings.eps / 2},
}
BROKEN = (*MODELS, *ATTACKS)


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Break robust models, or PGD, for as long as the context lasts."""
    if name in MODELS:

        def model(self: FeatureTask, victim: Victim) -> Model:
            return victim.features if victim.defense is None else MODELS[name](victim.features, victim)

        with patch.object(FeatureTask, "model", model):
            yield
        return
    right = PGD.run

    def run(self: PGD, *arguments: Any) -> Any:
        return right(PGD(self.settings.model_copy(update=ATTACKS[name](self.settings))), *arguments)

    with patch.object(PGD, "run", run):
        yield


def checked(config: Config) -> dict[str, Any]:
    """The checks of an evaluation of features, without the evaluation."""
    setup = Setup.open(config, Compute.start())
    found = sanity(setup, open_evaluator(setup, FeatureTask(), None))
    assert found is not None
    return found


def write_run(
    folder: Path, seed: int, *, images: int, queries: int, defense: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Write random images and weights, train a defense on them, and return a config of an evaluation.

    The backbone `random` has to be registered.
    """
    g = torch.Generator().manual_seed(seed)
    spec = registry.find("random")
    shapes = timm.create_model(spec.timm_name, num_classes=0, **spec.timm_kwargs).state_dict()
    spread = float(0.2 + 0.2 * torch.rand((), generator=g))
    state = {key: spread * torch.randn(tensor.shape, generator=g) for key, tensor in shapes.items()}
    save_file(state, folder / "weights.safetensors")
    random = np.random.default_rng(seed)
    (folder / "data").mkdir()
    for i in range(images):
        side = random.integers(2, 8)
        coarse = Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / "data" / f"{i}.png")
    common = {
        "model": {"name": spec.name, "weights": str(folder / "weights.safetensors"), "image_size": SIDE},
        "data": {"name": "folder", "root": str(folder / "data"), "workers": 0},
        "seed": seed,
    }
    training = {"attack": {"preset": "standard", "steps": 3}, "train": {"steps": 5, "batch_size": images, "lr": 0.1}}
    defense, out = defense or DEFENSES[seed % len(DEFENSES)], folder / "trained"
    train(Config.model_validate({**common, **training, "defense": defense, "out": str(out)}))
    return {
        **common,
        "attack": {"preset": "standard", "steps": 100},
        "defense": str(*defense_files(out)),
        "threats": ["transfer"],
        "control_draws": 1,
        "sanity": {"images": images, "queries": queries},
        "out": str(folder / "run"),
    }


def register_backbone() -> None:
    """Register a two-block ViT as `random`."""
    usual = registry.find("dinov2_vits14")
    kwargs = {"embed_dim": WIDTH, "depth": 2, "num_heads": 2}
    rtok.register_backbone(replace(usual, name="random", dim=WIDTH, timm_kwargs=kwargs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--right", type=int, default=50, help="runs of a right attack, with one to three images")
    parser.add_argument("--steps", type=int, default=100, help="steps of the attack")
    parser.add_argument("--broken", type=int, default=5, help="runs of each broken one, with one image")
    options = parser.parse_args()
    torch.set_num_threads(1)
    register_backbone()
    for name in ("right", *BROKEN):
        runs = options.right if name == "right" else options.broken
        flagged: Counter[str] = Counter()
        with ExitStack() as stack:
            if name != "right":
                stack.enter_context(broken(name))
            for seed in range(runs):
                with tempfile.TemporaryDirectory() as folder:
                    images = 1 + seed // 3 % 3 if name == "right" else 1
                    config = write_run(Path(folder), seed, images=images, queries=1000 if name == "right" else 100)
                    config["attack"] = {"preset": "standard", "steps": options.steps}
                    found = checked(Config.model_validate(config))["checks"]
                failing = [check for check in found if not check["passed"]]
                flagged.update(["any", *{check["check"] for check in failing}] if failing else [])
                for check in failing if name == "right" else ():
                    print(f"right, seed {seed}: {check['victim']}: {check['check']}: {check['seen']}", flush=True)
        details = ", ".join(f"{count} x {check}" for check, count in flagged.items() if check != "any")
        print(f"{name}: {flagged['any']} of {runs} flagged{f' ({details})' if details else ''}", flush=True)


if __name__ == "__main__":
    main()
