"""The segmentation heads of one run: read, or fitted by DINOv2's recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

from rtok.attacks.objective import Model
from rtok.console import progress
from rtok.data import ImageSource
from rtok.data.framing import Framing
from rtok.data.masks import MaskedFiles
from rtok.errors import UserError
from rtok.heads.segmentation.files import last_blocks, read_head, save_head
from rtok.heads.segmentation.fit import fit_head
from rtok.heads.segmentation.models import (
    BNHead,
    RtokBackbone,
    RtokSegmenter,
    build_head,
    build_segmenter,
    window_features,
)
from rtok.heads.store import HeadStore, Job
from rtok.models.defended import Features
from rtok.setup import Setup

QUICK = 1000  # masks that are checked in seconds, without a word
READERS = 8  # threads that check masks: decoding a PNG releases the interpreter


class SegmentationHeads(HeadStore[BNHead]):
    """The heads of a run on data with masks.

    Raises:
        UserError: a head that does not fit, or a training split that cannot be used.
    """

    suffix = ".pth"

    def __init__(self, setup: Setup, source: MaskedFiles, framing: Framing) -> None:
        self.framing = framing
        self.stride = setup.config.segmentation.stride
        self.class_names = tuple(source.class_names)
        super().__init__(setup)

    def model(self, name: str, features: Features) -> Model:
        """Put the model together when it first runs, since its head may still have to be fitted."""
        build = cache(lambda: self._segmenter(features, self.ready[name]))
        return lambda images: build().logits(images)

    def surrogate(self, features: Features) -> Model:
        """A surrogate with `surrogate.head`; only the backbone itself can go through the plain victim's head."""
        chosen, backbone = self.setup.config.surrogate.head, features.backbone
        if chosen == "same" and backbone is not self.setup.backbone:
            raise UserError(
                f"surrogate.head: the surrogate {backbone.spec.name} needs a head of its own, fitted on its "
                "features: give the file that mmsegmentation or `rtok eval-seg` trained."
            )
        return super().surrogate(features)

    def hidden(self, features: Features, depth: float) -> Model:
        """The features inside a backbone, of the windows that logits are averaged over; no head is needed."""
        encoder = RtokBackbone(features, [features.backbone.block_at(depth)])
        return partial(window_features, encoder, window=self.framing.window, stride=self.stride)

    def read(self, path: Path, features: Features) -> BNHead:
        """Read a file in mmseg's format."""
        head = read_head(path, features.backbone, len(self.class_names))
        return head.to(self.setup.compute.device).requires_grad_(False)

    reload = read

    def save(self, path: Path, head: BNHead, about: Mapping[str, Any]) -> None:
        """Write mmseg's format."""
        save_head(path, head, about)

    def make(self, jobs: Mapping[str, Job[BNHead]], state: Path) -> Iterator[tuple[str, BNHead, Mapping[str, Any]]]:
        """Fit the heads one after the other, in every process."""
        for name, job in jobs.items():
            head = self._fitted(name, job.features, state / "heads" / name)
            about = {"features": name, "backbone": job.features.backbone.spec.name}
            yield name, head, {**about, "steps": self.settings.steps, "CLASSES": list(self.class_names)}

    def check_split(self, split: ImageSource) -> None:
        """Look at every mask."""
        assert isinstance(split, MaskedFiles)
        check_masks(split, self.settings.split, enabled=self.setup.compute.is_main)

    def _fitted(self, name: str, features: Features, state: Path) -> BNHead:
        assert isinstance(self.split, MaskedFiles)
        setup, settings = self.setup, self.settings
        head = build_head(features.backbone.dim, 1, len(self.class_names))
        fit_head(
            self._segmenter(features, head),
            self.split,
            steps=settings.steps,
            batch_size=settings.batch_size,
            short_side=self.framing.short_side,
            window=self.framing.window,
            seed=setup.config.seed,
            state=state,
            workers=setup.config.data.worker_count,
            on_error=setup.config.data.on_error,
            label=f"fit head on {name} features",
            enabled=setup.compute.is_main,
        )
        return head

    def _segmenter(self, features: Features, head: BNHead) -> RtokSegmenter:
        blocks = last_blocks(features.backbone, head)
        return build_segmenter(features, head, blocks, self.framing.window, self.stride)


def check_masks(source: MaskedFiles, what: str, *, enabled: bool) -> None:
    """Look at every mask: its size, and that it holds nothing but classes.

    Raises:
        UserError: some cannot be used; the message counts them and shows the first.
    """
    problems = []
    with (
        ThreadPoolExecutor(READERS) as readers,
        progress(f"check {what} masks", len(source), "mask", enabled=enabled and len(source) > QUICK) as bar,
    ):
        for problem in readers.map(source.problem, range(len(source))):
            problems += [problem] if problem else []
            bar.advance()
    if problems:
        count = f"{len(problems)} of {len(source)} masks" if len(problems) > 1 else "a mask"
        raise UserError(
            f"data.root: {count} cannot be used: {'; '.join(problems[:3])}{'; ...' * (len(problems) > 3)}. "
            "Fix the files, or name another data set."
        )
