"""What every run needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rtok.compute import Compute
from rtok.console import say
from rtok.data import open_source
from rtok.data.framing import Framing
from rtok.data.loader import Batch, Batches, evaluation_batches
from rtok.data.memory import GIVEN
from rtok.data.source import ImageSource, found
from rtok.data.subset import take
from rtok.data.transforms import ImageTransform, Transform
from rtok.errors import UserError
from rtok.models.loading import load_backbone

if TYPE_CHECKING:
    from rtok.config.schema import Config
    from rtok.config.sections import DataConfig, ModelConfig
    from rtok.models.backbone import Backbone


@dataclass(frozen=True)
class Given:
    """What a Python program has in memory; it takes the place of what the config names.

    Attributes:
        backbone: the run works on a copy.
        sources: what `data.name: given` stands for, by split.
    """

    backbone: Backbone | None = None
    sources: Mapping[str, ImageSource] = field(default_factory=dict)

    def open_source(self, data: DataConfig, *, seed: int) -> ImageSource:
        """Return the images of a split, as `rtok.data.open_source` does.

        Raises:
            UserError: as there; or the program gave images, but not these.
        """
        if data.name != GIVEN:
            return open_source(data, seed=seed)
        if data.split not in self.sources:
            given = ", ".join(self.sources) or "none"
            raise UserError(f"data: the run reads images of the split '{data.split}', and those given are {given}.")
        return take(self.sources[data.split], data.limit, seed=seed, per_group=data.limit_per_group)

    def open_backbone(self, model: ModelConfig, compute: Compute) -> Backbone:
        """Return the backbone on the device, in the run's precision."""
        return open_backbone(model, compute) if self.backbone is None else compute.prepare(deepcopy(self.backbone))


@dataclass(frozen=True)
class Setup:
    """What every run needs, loaded and checked before anything is written."""

    config: Config
    compute: Compute
    source: ImageSource
    backbone: Backbone
    transform: ImageTransform
    given: Given = Given()

    @classmethod
    def open(
        cls, config: Config, compute: Compute, framing: Framing | None = None, given: Given | None = None
    ) -> Setup:
        """Open the data and load the backbone onto the device; a framing takes the place of `data.resize`."""
        given = given or Given()
        source = given.open_source(config.data, seed=config.seed)
        say(f"data: {found(source)}", enabled=compute.is_main)
        if config.data.root and config.out.resolve().is_relative_to(config.data.root.resolve()):
            say(f"out: {config.out} lies inside data.root; no folder of a run is data", enabled=compute.is_main)
        backbone = given.open_backbone(config.model, compute)
        transform = framing or Transform(config.data.resize, backbone.image_size)
        return cls(config, compute, source, backbone, transform, given)

    def open_source(self, data: DataConfig) -> ImageSource:
        """Open further images of the run's data, such as those that heads are fitted on."""
        return self.given.open_source(data, seed=self.config.seed)

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
