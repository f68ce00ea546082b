"""LoRA: a low-rank change of the frozen weights, W + alpha / rank * B A (Hu et al., 2022)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from rtok.checkpoints import Checkpoint
from rtok.defenses.base import Defense, new_for
from rtok.defenses.reading import read_parameter
from rtok.errors import UserError
from rtok.models.low_rank import LowRankChanges, layer_path, merged, target_layers
from rtok.release import DEFENSE_FORMAT, check_format, made_with, parse_made_for
from rtok.seeding import image_seed

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone


@dataclass(frozen=True, eq=False, repr=False)
class LoRA(Defense):
    """Low-rank changes of linear layers; with B at zero, where it starts, it is the plain model.

    Attributes:
        values: for each layer `x` (such as `qkv`), `x_A` (L, rank, in) and `x_B` (L, out, rank) of its L blocks,
            float32.
        alpha: the change is alpha / rank * B A.
        targets: the layers as the config names them; `qkv` and `fc1` may be several.
        blocks: the numbers of the changed blocks, from 0.
        every_block: whether those are all.
    """

    values: Mapping[str, Tensor]
    alpha: float
    targets: tuple[str, ...]
    blocks: tuple[int, ...]
    every_block: bool

    kind: ClassVar[str] = "lora"
    stem: ClassVar[str] = "lora"
    noun: ClassVar[str] = "low-rank changes"
    has_control: ClassVar[bool] = False
    private: ClassVar[bool] = False
    fit_lr: ClassVar[float] = 1e-3  # ten times as much throws the first steps far away from the answers

    def __repr__(self) -> str:
        """Say what it is without its values."""
        return f"LoRA(rank={self.rank}, targets={self.targets}, backbone={self.backbone!r})"

    @property
    def rank(self) -> int:
        """The rank of every change."""
        return next(iter(self.values.values())).shape[1]

    @property
    def layers(self) -> list[str]:
        """The changed layers, by the last part of their paths."""
        return [name.removesuffix("_A") for name in self.values if name.endswith("_A")]

    @property
    def dim(self) -> int:
        """The width D: what a layer takes or gives that is no inner width of a block."""
        layer = self.layers[0]
        reads = self.targets[0] in ("qkv", "fc1")
        return self.values[f"{layer}_A"].shape[2] if reads else self.values[f"{layer}_B"].shape[1]

    @classmethod
    def create(cls, settings: Any, backbone: Backbone, seed: int) -> LoRA:
        """Draw A and set B to zero, on the CPU.

        Raises:
            UserError: the model has no such layers or blocks.
        """
        made_for = new_for(backbone)
        blocks = range(backbone.depth) if settings.blocks == "all" else settings.blocks
        if max(blocks) >= backbone.depth:
            raise UserError(
                f"defense.blocks names block {max(blocks)}, but '{backbone.spec.name}' has {backbone.depth}, from 0 "
                f"to {backbone.depth - 1}."
            )
        values: dict[str, Tensor] = {}
        for target in settings.targets:
            for path, layer in target_layers(backbone.vit.blocks[blocks[0]], target).items():
                name = path.rpartition(".")[2]
                out, width = layer.weight.shape
                values[f"{name}_A"] = _draw((len(blocks), settings.rank, width), seed, name)
                values[f"{name}_B"] = torch.zeros(len(blocks), out, settings.rank)
        return cls(
            values,
            float(settings.rank if settings.alpha is None else settings.alpha),
            tuple(settings.targets),
            tuple(blocks),
            settings.blocks == "all",
            **made_for,
        )

    @classmethod
    def parse(cls, content: Checkpoint, path: Path) -> LoRA:
        """Take the changes out of a checkpoint that was read; `path` is for the message of the UserError."""
        about = made_with(content.metadata)
        check_format(about, path, DEFENSE_FORMAT)
        try:
            form = json.loads(about["form"])
            rank, alpha, layers = int(form["rank"]), float(form["alpha"]), [str(layer) for layer in form["layers"]]
            targets, blocks = tuple(map(str, form["targets"])), tuple(map(int, form["blocks"]))
            every_block = bool(form["every_block"])
            for layer in layers:
                layer_path(layer)
            if not layers or not targets or not blocks or min(blocks) < 0:
                raise ValueError("nothing is changed")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise UserError(f"'{path}' has damaged metadata: the form of its LoRA. Copy it again.") from error
        values = {}
        for layer in layers:
            shapes: dict[str, tuple[int | str, ...]] = {
                "A": (len(blocks), rank, "inputs"),
                "B": (len(blocks), "outputs", rank),
            }
            for factor, shape in shapes.items():
                name = f"{layer}_{factor}"
                values[name] = read_parameter(content, path, name, noun=cls.noun, shape=shape)
        return cls(values, alpha, targets, blocks, every_block, **parse_made_for(about, path))

    def parameters(self) -> dict[str, Tensor]:
        """Return A and B of every changed layer."""
        return dict(self.values)

    def replaced(self, parameters: Mapping[str, Tensor]) -> LoRA:
        """Return changes of other values, made for the same."""
        return replace(self, values={name: parameters[name] for name in self.values})

    def entry(self) -> LowRankChanges:
        """Return the changes, which are merged once they are bound to a model's blocks."""
        found: dict[int, dict[str, tuple[Tensor, Tensor]]] = {block: {} for block in self.blocks}
        for layer in self.layers:
            factors = zip(self.values[f"{layer}_A"].unbind(), self.values[f"{layer}_B"].unbind(), strict=True)
            for block, pair in zip(self.blocks, factors, strict=True):
                found[block][layer_path(layer)] = pair
        return LowRankChanges(found, self.alpha / self.rank)

    def merged_into(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights with the changes added."""
        found = dict(weights)
        for block, layers in self.entry().factors.items():
            for path, factors in layers.items():
                key = f"blocks.{block}.{path}.weight"
                found[key] = merged(weights[key], factors, self.alpha / self.rank)
        return found

    def untrained(self, backbone: Backbone, seed: int, *draw: object) -> LoRA:
        """Draw A again and set B to zero, where a training starts; as a model it is the plain one."""
        values = {
            name: torch.zeros_like(given)
            if name.endswith("_B")
            else _draw(tuple(given.shape), seed, name.removesuffix("_A"), *draw).to(given)
            for name, given in self.values.items()
        }
        return replace(self, values=values)

    def settings(self) -> dict[str, Any]:
        """Return the kind, the rank, alpha, and what is changed."""
        blocks = "all" if self.every_block else self.blocks
        return {"kind": self.kind, "rank": self.rank, "alpha": self.alpha, "targets": self.targets, "blocks": blocks}

    @property
    def metadata(self) -> dict[str, str]:
        """What the changes were made for, as the metadata of a file."""
        form = {
            "rank": self.rank,
            "alpha": self.alpha,
            "targets": self.targets,
            "layers": self.layers,
            "blocks": self.blocks,
            "every_block": self.every_block,
        }
        return {**super().metadata, "form": json.dumps(form)}


def _draw(shape: tuple[int, ...], seed: int, *draw: object) -> Tensor:
    """Draw A: uniform within 1 / sqrt(inputs), as the paper's code and PEFT do; a function of seed, shape and names."""
    generator = torch.Generator().manual_seed(image_seed(seed, "lora", *shape, *draw))
    bound = shape[-1] ** -0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
