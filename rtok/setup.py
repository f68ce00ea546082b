"""What every run needs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rtok.compute import Compute
from rtok.console import say
from rtok.data import open_source
from rtok.data.framing import Framing
from rtok.data.loader import Batch, Batches, evaluation_batches
from rtok.data.source import ImageSource, found
from rtok.data.transforms import ImageTransform, Transform
from rtok.models.loading import load_backbone

if TYPE_CHECKING:
    from rtok.config.schema import Config
    from rtok.config.sections import ModelConfig
    from rtok.models.backbone import Backbone


@dataclass(frozen=True)
class Setup:
    """What every run needs, loaded and checked before anything is written."""

    config: Config
    compute: Compute
    source: ImageSource
    backbone: Backbone
    transform: ImageTransform

    @classmethod
    def open(cls, config: Config, compute: Compute, framing: Framing | None = None) -> Setup:
        """Open the data and load the backbone onto the device; a framing takes the place of `data.resize`."""
        source = open_source(config.data, seed=config.seed)
        say(f"data: {found(source)}", enabled=compute.is_main)
        if config.data.root and config.out.resolve().is_relative_to(config.data.root.resolve()):
            say(f"out: {config.out} lies inside data.root; no folder of a run is data", enabled=compute.is_main)
        backbone = open_backbone(config.model, compute)
        transform = framing or Transform(config.data.resize, backbone.image_size)
        return cls(config, compute, source, backbone, transform)

    @property
    def sizes_differ(self) -> bool:
        """Whether images keep their own shapes: then a process takes one at a time, whatever `batch_size` is."""
        return isinstance(self.transform, Framing) and self.transform.mode == "slide"

    def batches(self, source: ImageSource | None = None, *, done: Collection[str] = ()) -> Batches:
        """This process's share of every image (of the data, or another source) that is not done yet."""
        data = self.config.data
        return evaluation_batches(
            source or self.source,
            self.transform,
            batch_size=self.compute.processes if self.sizes_differ else self.config.batch_size,
            seed=self.config.seed,
            process=self.compute.process,
            processes=self.compute.processes,
            workers=data.worker_count,
            on_error=data.on_error,
            skip=done,
        )

    def examples(self, keys: Collection[str]) -> Batch | None:
        """These images as one batch for figures (where sizes differ, the first); None when there are none."""
        others = set(self.source.keys).difference(keys)
        batches = evaluation_batches(
            self.source,
            self.transform,
            batch_size=1 if self.sizes_differ else max(1, len(keys)),
            seed=self.config.seed,
            on_error="skip",
            skip=others,
        )
        batch = next(iter(batches), None)
        return batch if batch else None


def open_backbone(model: ModelConfig, compute: Compute) -> Backbone:
    """Load a backbone onto the device, in the run's precision."""
    backbone = load_backbone(
        model.name, weights=model.weights, image_size=model.size, normalization=model.normalization
    )
    return compute.prepare(backbone)
