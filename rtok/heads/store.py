"""The heads of one run: which head a model goes through, and the one place that fits, keeps and reloads them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from rtok.attacks.objective import Model
from rtok.data import ImageSource
from rtok.defenses import resolve_defenses
from rtok.errors import UserError
from rtok.models.defended import Features
from rtok.setup import Setup

if TYPE_CHECKING:
    from rtok.config.head import HeadConfig
    from rtok.runs.run import Run

PLAIN, ROBUST, CONTROL, SURROGATE = "plain", "robust", "control", "surrogate"
Head = TypeVar("Head")


@dataclass(frozen=True)
class Job(Generic[Head]):
    """A head that needs images to be made: on whose features, and `candidates` to choose from, or None to fit one."""

    features: Features
    candidates: Mapping[str, Head] | None = None
    source: str = ""


class HeadStore(ABC, Generic[Head]):
    """Heads by name: `plain`, `surrogate`, `robust` (several defenses: `robust-1`, `robust-2`, ...), `control-1-0`, ...

    Files are read and checked when a head is first asked for; what needs images waits for `prepare`.

    Attributes:
        split: the images that heads are fitted or chosen on; None where none are needed.
        ready: the heads that can be used.
        jobs: the heads that need images.
    """

    suffix: ClassVar[str]

    def __init__(self, setup: Setup) -> None:
        assert setup.config.head is not None
        self.setup = setup
        self.settings: HeadConfig = setup.config.head
        self.split = self.open_split() if self.settings.reads_split else None
        self.ready: dict[str, Head] = {}
        self.jobs: dict[str, Job[Head]] = {}
        self.require(PLAIN, setup.backbone, self.settings.plain_file)

    def plain(self, features: Features) -> Model:
        """The model with the head that was fitted on plain features."""
        return self.model(PLAIN, features)

    def robust(self, file: str, features: Features) -> Model:
        """The model with the head that was fitted on its own features; `file` is its defense's.

        Raises:
            UserError: the config names files of robust heads, but not one for each defense.
        """
        files = [str(path) for path in resolve_defenses(self.setup.config.defense_places)]
        heads = self.settings.robust_files
        if heads and len(heads) != len(files):
            raise UserError(
                f"head.path.robust names {len(heads)} heads for {len(files)} token files: a robust head "
                "belongs to the defense it was fitted with, so list one for each, in their order."
            )
        index = files.index(file)
        name = ROBUST if len(files) == 1 else f"{ROBUST}-{index + 1}"
        self.require(name, features, heads[index] if heads else None)
        return self.model(name, features)

    def control(self, draw: str, features: Features) -> Model:
        """A draw of the control with a head that was fitted on its own features; `draw` tells it from the others."""
        name = f"{CONTROL}-{draw}"
        self.require(name, features, None)
        return self.model(name, features)

    def surrogate(self, features: Features) -> Model:
        """A surrogate of the user's choice with `surrogate.head`, else with a head like the plain victim's."""
        chosen = self.setup.config.surrogate.head
        if chosen == "same" and features.backbone is self.setup.backbone:
            return self.plain(features)
        path = self.settings.plain_file if chosen == "same" else Path(chosen)
        self.require(SURROGATE, features.backbone, path)
        return self.model(SURROGATE, features)

    def require(self, name: str, features: Features, path: Path | None) -> None:
        """Read a head, or note what has to be done to get it; nothing happens when that was done before."""
        if name in self.ready or name in self.jobs:
            return
        found = Job[Head](features) if path is None else self.read(path, features)
        if isinstance(found, Job):
            self.jobs[name] = found
        else:
            self.ready[name] = found

    def prepare(self, run: Run) -> None:
        """Fit or choose the heads that are still missing and keep them in the run's `heads`."""
        compute = self.setup.compute
        files = {name: run.path / "heads" / f"{name}{self.suffix}" for name in self.jobs}
        missing = {name: job for name, job in self.jobs.items() if not files[name].exists()}
        compute.wait()  # every process has looked before one writes
        for name, head, about in self.make(missing, run.state) if missing else ():
            if compute.is_main:
                files[name].parent.mkdir(exist_ok=True)
                self.save(files[name], head, about)
        compute.wait()
        for name, job in self.jobs.items():
            self.ready[name] = self.reload(files[name], job.features)

    def open_split(self) -> ImageSource:
        """Open `head.split` of the same data, which must hold other images.

        Raises:
            UserError: some images are in both.
        """
        data = self.setup.config.data
        split = self.setup.open_source(self.settings.images(data))
        self.check_split(split)
        shared = set(split.keys) & set(self.setup.source.keys)
        if shared:
            raise UserError(
                f"head.split: {len(shared)} images of {self.settings.split} are also in {data.split}, for example "
                f"{min(shared)}, but the head may not know its test: divide the data into train and test folders."
            )
        return split

    def check_split(self, split: ImageSource) -> None:
        """Refuse a split that a head cannot be fitted on, as a UserError."""

    @abstractmethod
    def model(self, name: str, features: Features) -> Model:
        """Features with a head, as a function from images to logits; it may not run before `prepare`."""

    @abstractmethod
    def read(self, path: Path, features: Features) -> Head | Job[Head]:
        """Read a head's file, on the device; a `Job` where images have to decide between several heads."""

    @abstractmethod
    def reload(self, path: Path, features: Features) -> Head:
        """Read a head that `save` wrote, on the device."""

    @abstractmethod
    def make(self, jobs: Mapping[str, Job[Head]], state: Path) -> Iterator[tuple[str, Head, Mapping[str, Any]]]:
        """Fit or choose heads; yield each with what is to be said of it. `state` keeps what a resumed run needs."""

    @abstractmethod
    def save(self, path: Path, head: Head, about: Mapping[str, Any]) -> None:
        """Write a head's file."""
