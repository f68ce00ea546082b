"""The segmentation heads of one run: which one a model goes through, and fitting those without a file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from rtok.attacks.objective import Model
from rtok.console import progress
from rtok.data import open_source
from rtok.data.framing import Framing
from rtok.data.masks import MaskedFiles
from rtok.errors import UserError
from rtok.evaluation.bench import Bench
from rtok.evaluation.heads import PLAIN, ROBUST, SURROGATE, robust_head
from rtok.evaluation.segmentation.files import last_blocks, read_head, save_head
from rtok.evaluation.segmentation.fit import fit_head
from rtok.evaluation.segmentation.models import (
    BNHead,
    RtokBackbone,
    RtokSegmenter,
    build_head,
    build_segmenter,
    window_features,
)

if TYPE_CHECKING:
    from rtok.config.head import HeadConfig
    from rtok.evaluation.victims import Victim
    from rtok.models.backbone import Backbone
    from rtok.runs.folder import RunFolder

QUICK = 1000  # masks that are checked in seconds, without a word
READERS = 8  # threads that check masks: decoding PNG gives the interpreter free


@dataclass
class SegmentationHeads:
    """Heads by name: `plain`, `surrogate`, and `robust` (several token files: `robust-1`, `robust-2`, ...).

    Files are read and checked when a head is first asked for; fitting waits for `prepare`.

    Attributes:
        training: what `type: fit` trains on, its masks checked.
        jobs: the heads to fit, with the tokens whose features they get.
    """

    bench: Bench
    settings: HeadConfig
    framing: Framing
    stride: int
    class_names: tuple[str, ...]
    training: MaskedFiles | None
    ready: dict[str, BNHead] = field(default_factory=dict)
    jobs: dict[str, Tensor | None] = field(default_factory=dict)

    @classmethod
    def open(cls, bench: Bench, source: MaskedFiles, framing: Framing, stride: int) -> SegmentationHeads:
        """Check the plain head, or the pictures that it will be fitted on.

        Raises:
            UserError: a head that does not fit, or a training split that cannot be used.
        """
        settings = bench.config.head
        assert settings is not None
        training = _open_training(bench, settings, source) if settings.type == "fit" else None
        heads = cls(bench, settings, framing, stride, tuple(source.class_names), training)
        heads.require(PLAIN, None, settings.plain_file)
        return heads

    def of_victim(self, victim: Victim) -> Model:
        """The victim with its head, as a function from images to logits; it may not run before `prepare`."""
        name = PLAIN
        if victim.head == ROBUST:
            name, path = robust_head(self.bench, victim)
            self.require(name, victim.tokens, path)
        return self._model(self.bench.backbone, victim.tokens, name)

    def of_surrogate(self, backbone: Backbone, tokens: Tensor | None) -> Model:
        """A surrogate of the user's choice with `surrogate.head`, else with the plain victim's head."""
        chosen = self.bench.config.surrogate.head
        if chosen != "same":
            self.ready[SURROGATE] = self._placed(read_head(chosen, backbone, len(self.class_names)))
            return self._model(backbone, tokens, SURROGATE)
        if backbone is not self.bench.backbone:
            raise UserError(
                f"surrogate.head: the surrogate {backbone.spec.name} needs a head of its own, fitted on its "
                "features: give the file that mmsegmentation or `rtok eval-seg` trained."
            )
        return self._model(backbone, tokens, PLAIN)

    def hidden(self, backbone: Backbone, tokens: Tensor | None, depth: float) -> Model:
        """The features inside a backbone, of the windows that logits are averaged over; no head is needed."""
        encoder = RtokBackbone(backbone, [backbone.block_at(depth)], tokens)
        return partial(window_features, encoder, window=self.framing.window, stride=self.stride)

    def require(self, name: str, tokens: Tensor | None, path: Path | None) -> None:
        """Read a head, or note that it has to be fitted; nothing happens when that was done before."""
        if name in self.ready or name in self.jobs:
            return
        if path is None:
            self.jobs[name] = tokens
        else:
            self.ready[name] = self._placed(read_head(path, self.bench.backbone, len(self.class_names)))

    def prepare(self, folder: RunFolder) -> None:
        """Fit the heads that are still missing and keep them in the run's `heads`, in mmseg's format."""
        compute = self.bench.compute
        for name, tokens in self.jobs.items():
            file = folder.path / "heads" / f"{name}.pth"
            fitted_before = file.exists()
            compute.wait()  # every process has looked before one writes
            if not fitted_before:
                head = self._fit(name, tokens, folder.state / "heads" / name)
                if compute.is_main:
                    save_head(file, head, self._about(name))
                compute.wait()
            self.ready[name] = self._placed(read_head(file, self.bench.backbone, len(self.class_names)))

    def _fit(self, name: str, tokens: Tensor | None, state: Path) -> BNHead:
        assert self.training is not None
        bench, settings = self.bench, self.settings
        head = build_head(bench.backbone.dim, 1, len(self.class_names))
        fit_head(
            self._segmenter(bench.backbone, tokens, head),
            self.training,
            steps=settings.steps,
            batch_size=settings.batch_size,
            short_side=self.framing.short_side,
            window=self.framing.window,
            seed=bench.config.seed,
            state=state,
            workers=bench.config.data.workers,
            on_error=bench.config.data.on_error,
            label=f"fit head on {name} features",
            speaks=bench.compute.is_main,
        )
        return head

    def _about(self, name: str) -> dict[str, object]:
        about = {"features": name, "backbone": self.bench.backbone.spec.name, "steps": self.settings.steps}
        return {**about, "CLASSES": list(self.class_names)}

    def _model(self, backbone: Backbone, tokens: Tensor | None, name: str) -> Model:
        """Put the model together when it first runs, since its head may still have to be fitted."""
        build = cache(lambda: self._segmenter(backbone, tokens, self.ready[name]))
        return lambda images: build().logits(images)

    def _segmenter(self, backbone: Backbone, tokens: Tensor | None, head: BNHead) -> RtokSegmenter:
        return build_segmenter(
            backbone, tokens, head, last_blocks(backbone, head), self.framing.window, self.stride
        )

    def _placed(self, head: BNHead) -> BNHead:
        return head.to(self.bench.compute.device).requires_grad_(False)


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
            "Mend the files, or name another data set."
        )


def _open_training(bench: Bench, settings: HeadConfig, source: MaskedFiles) -> MaskedFiles:
    """Open `head.split` of the same data, which must hold other images."""
    data = bench.config.data.model_copy(update={"split": settings.split, "limit": settings.limit})
    training = open_source(data, seed=bench.config.seed)
    assert isinstance(training, MaskedFiles)
    shared = set(training.keys) & set(source.keys)
    if shared:
        raise UserError(
            f"head.split: {len(shared)} images of {settings.split} are also in {bench.config.data.split}, "
            f"for example {min(shared)}, but the head may not know its test: divide the data into splits."
        )
    check_masks(training, settings.split, enabled=bench.compute.is_main)
    return training
