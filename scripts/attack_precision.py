"""Do attacks with bf16 products (`precision: auto`) end where fp32 ones do, and how much sooner? Scored in fp32.

Writes a Markdown table: per victim and attack the mean cosine that each leaves of the demo's held-out photos, their
paired difference with its 95 % interval over photos (seeds averaged), and the processor time of bf16 over that of fp32.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from rtok.attacks.apgd import APGD
from rtok.attacks.base import Context, craft
from rtok.attacks.criteria import FeatureCriterion, cosine
from rtok.attacks.objective import FixedSurrogate, Model, Objective
from rtok.attacks.pgd import PGD
from rtok.config.schema import Config
from rtok.data import open_source
from rtok.data.loader import Batch, evaluation_batches
from rtok.data.transforms import Transform
from rtok.defenses import load_defense
from rtok.models import load_backbone
from rtok.models.backbone import Backbone
from rtok.models.half import pays
from rtok.statistics import difference_interval

ATTACKS: dict[str, PGD | APGD] = {
    "PGD, 15 steps": PGD(eps=8 / 255, units="normalized", step=0.01, steps=15, axis="channel"),
    "Auto-PGD, 100 steps": APGD(eps=8 / 255, units="normalized", steps=100, axis="channel"),
}


def attacked(attack: PGD | APGD, model: Model, batch: Batch, target: Tensor, seed: int, std: Tensor) -> Tensor:
    """The cosine that an attack leaves of each image, (B,)."""
    objective = Objective(FixedSurrogate(model), FeatureCriterion(target, "channel"))
    context = Context(list(batch.keys), seed=seed, visits=[0] * len(batch), std=std)
    images = craft(attack, batch.images, objective, context).images
    with torch.no_grad():
        return cosine(model(images), target, "channel")


def compare(name: str, attack: PGD | APGD, model: Model, backbone: Backbone, batch: Batch, seeds: int) -> list[str]:
    """The cells of one row."""
    with torch.no_grad():
        target = backbone(batch.images)
    left: dict[bool, Tensor] = {}
    seconds = {}
    for half in (False, True):
        backbone.half_gradients = half
        begin = time.process_time()
        found = [attacked(attack, model, batch, target, seed, backbone.std) for seed in range(seeds)]
        left[half], seconds[half] = torch.stack(found, 1).double(), time.process_time() - begin
    rounded, exact = (left[half].mean(1).numpy() for half in (True, False))  # a seed starts both from the same point
    interval = difference_interval(rounded, exact, list(batch.groups), (-1.0, 1.0))
    assert interval is not None  # there are several photos, and cosines have limits
    low, high = interval
    means = [float(values.mean()) for values in left.values()]
    difference = f"{means[1] - means[0]:+.4f} [{low:+.4f}, {high:+.4f}]"
    return [name, f"{means[0]:.4f}", f"{means[1]:.4f}", difference, f"{seconds[True] / seconds[False]:.2f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=Path("weights/demo/dinov2_vits14.safetensors"))
    parser.add_argument("--size", type=int, default=98)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--crops", type=int, default=1, help="of each photo; the interval counts photos")
    parser.add_argument("defense", type=Path, nargs="*", help="files of defenses, which are attacked too")
    options = parser.parse_args()
    backbone = load_backbone("dinov2_vits14", weights=options.weights, image_size=options.size)
    photos = {"name": "photos", "split": "test", "limit_per_group": options.crops, "workers": 0}
    source = open_source(Config.model_validate({"model": {"name": "dinov2_vits14"}, "data": photos}).data, seed=0)
    (batch,) = evaluation_batches(source, Transform("squash", backbone.image_size), batch_size=len(source), seed=0)
    print(f"bf16 instructions: {pays(backbone.mean.device)}; {len(batch)} images, {options.seeds} seeds\n")
    print("| victim | attack | fp32 | bf16 products | difference | time |\n| :--- | :--- | ---: | ---: | ---: | ---: |")
    victims: dict[str, Model] = {"plain": backbone}
    for file in options.defense:
        victims[file.stem] = load_defense(file).model(backbone)
    for victim, model in victims.items():
        for name, attack in ATTACKS.items():
            print("| " + " | ".join([victim, *compare(name, attack, model, backbone, batch, options.seeds)]) + " |")


if __name__ == "__main__":
    main()
