"""The heads of one run: which head a model goes through, and fitting or choosing those that no file names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rtok.console import say
from rtok.data import ImageSource, open_source
from rtok.errors import UserError
from rtok.evaluation.bench import Bench, resolve_tokens
from rtok.heads.features import Reading, extract_features
from rtok.heads.files import choose_head, read_heads, save_head
from rtok.heads.linear import PROBE, WIDEST, LinearHead, check_classes
from rtok.heads.own import own_classifier
from rtok.heads.probe import accuracy, fit_probe
from rtok.seeding import image_seed

if TYPE_CHECKING:
    from rtok.config.head import HeadConfig
    from rtok.evaluation.victims import Victim
    from rtok.models.backbone import Backbone
    from rtok.runs.folder import RunFolder

PLAIN, ROBUST, SURROGATE = "plain", "robust", "surrogate"
HELD_OUT = 5  # one image in so many chooses the strength of the penalty


@dataclass(frozen=True)
class Classifier:
    """A backbone, tokens and a head as one function from images (B, 3, H, W) to logits (B, K)."""

    heads: Mapping[str, LinearHead]
    name: str
    backbone: Backbone
    tokens: Tensor | None

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits; the head must be ready."""
        return self.heads[self.name](self.backbone, images, self.tokens)


@dataclass(frozen=True)
class Job:
    """A head that needs images to be made: `candidates` to choose from, or None to fit one."""

    backbone: Backbone
    tokens: Tensor | None
    candidates: Mapping[str, LinearHead] | None
    source: str = ""

    @property
    def reading(self) -> Reading:
        """The features that it needs."""
        return Reading(self.backbone, self.tokens, PROBE if self.candidates is None else WIDEST)


@dataclass
class Heads:
    """Heads by name: `plain`, `surrogate`, and `robust` (several token files: `robust-1`, `robust-2`, ...).

    Files are read and checked when a head is first asked for; what needs images waits for `prepare`.
    """

    bench: Bench
    settings: HeadConfig
    class_names: Sequence[str]
    split: ImageSource | None
    ready: dict[str, LinearHead] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)

    @classmethod
    def open(cls, bench: Bench) -> Heads:
        """Check the data and the plain head.

        Raises:
            UserError: data without classes, a head that does not fit, a split that cannot be used.
        """
        settings = bench.config.head
        assert settings is not None
        names = bench.source.class_names
        if names is None or bench.source.labels is None:
            raise UserError(
                f"data: {bench.config.data.name} has no classes here, so there is nothing to classify: give "
                "labelled data, such as a folder with one sub-folder a class."
            )
        heads = cls(bench, settings, names, _open_split(bench) if settings.reads_split else None)
        heads.require(PLAIN, bench.backbone, None, settings.plain_file, bench.config.model.weights)
        return heads

    def of_victim(self, victim: Victim) -> Classifier:
        """The victim with its head."""
        name = PLAIN
        if victim.head == ROBUST:
            name, path = robust_head(self.bench, victim)
            self.require(name, self.bench.backbone, victim.tokens, path)
        return Classifier(self.ready, name, self.bench.backbone, victim.tokens)

    def of_surrogate(self, backbone: Backbone, tokens: Tensor | None) -> Classifier:
        """A surrogate of the user's choice with `surrogate.head`, else a head like the plain victim's."""
        chosen = self.bench.config.surrogate.head
        if chosen == "same" and backbone is self.bench.backbone:
            return Classifier(self.ready, PLAIN, backbone, tokens)
        path = self.settings.plain_file if chosen == "same" else Path(chosen)
        self.require(SURROGATE, backbone, None, path, self.bench.config.surrogate_model.weights)
        return Classifier(self.ready, SURROGATE, backbone, tokens)

    def require(
        self,
        name: str,
        backbone: Backbone,
        tokens: Tensor | None,
        path: Path | None,
        weights: str | Path = "pretrained",
    ) -> None:
        """Read a head, or note what has to be done to get it; nothing happens when that was done before."""
        if name in self.ready or name in self.jobs:
            return
        if path is not None:
            candidates = read_heads(path, backbone)
            for candidate in candidates.values():
                check_classes(candidate, len(self.class_names), str(path))
            chosen = choose_head(candidates, self.settings.classifier, path)
            if chosen is None:
                self.jobs[name] = Job(backbone, tokens, candidates, str(path))
            else:
                self.ready[name] = chosen.to(self.bench.compute.device)
        elif self.settings.type == "backbone":
            own = own_classifier(backbone, weights)
            check_classes(own, len(self.class_names), f"{backbone.spec.name}'s own classifier")
            self.ready[name] = own.to(self.bench.compute.device)
        else:
            self.jobs[name] = Job(backbone, tokens, None)

    def prepare(self, folder: RunFolder) -> None:
        """Fit or choose the heads that are still missing and keep them in the run's `heads`."""
        files = {name: folder.path / "heads" / f"{name}.safetensors" for name in self.jobs}
        missing = {name: job for name, job in self.jobs.items() if not files[name].exists()}
        self.bench.compute.wait()
        if missing:
            features = self._features(missing, folder.state)
            if self.bench.compute.is_main:
                (folder.path / "heads").mkdir(exist_ok=True)
                for name, job in missing.items():
                    head, about = self._make(name, job, features[name])
                    save_head(files[name], head, about)
            self.bench.compute.wait()
        for name, job in self.jobs.items():
            (head,) = read_heads(files[name], job.backbone).values()
            self.ready[name] = head.to(self.bench.compute.device)

    def _features(self, jobs: Mapping[str, Job], folder: Path) -> dict[str, Tensor]:
        assert self.split is not None
        readings = {name: job.reading for name, job in jobs.items()}
        split = self.split
        return extract_features(
            readings,
            split.keys,
            lambda done: self.bench.batches(split, done=done),
            folder,
            self.bench.compute,
        )

    def _make(self, name: str, job: Job, features: Tensor) -> tuple[LinearHead, dict[str, str]]:
        """Fit or choose one head on the split's features (N, width), and say how."""
        assert self.split is not None and self.split.labels is not None
        seen = ~features.isnan().any(dim=1)  # images that could not be decoded have no features
        device = self.bench.compute.device
        features, labels = features[seen].to(device), torch.tensor(self.split.labels)[seen].to(device)
        about = {"features": name, "backbone": job.backbone.spec.name, "images": str(len(features))}
        if job.candidates is not None:
            scores = {
                candidate: accuracy(head.to(device), head.layout.select(features), labels)
                for candidate, head in job.candidates.items()
            }
            best = max(scores, key=lambda candidate: scores[candidate])
            say(
                f"head {name}: {best} is the best of {len(scores)} in {job.source}, "
                f"accuracy {scores[best]:.3f}"
            )
            return job.candidates[best], {**about, "classifier": best, "accuracy": f"{scores[best]:.6f}"}
        held_out = _held_out(self.split, self.bench.config.seed)[seen.cpu()].to(device)
        probe = fit_probe(features, labels, held_out, len(self.class_names), self.settings.l2)
        say(
            f"head {name}: fitted on {len(features)} images, l2 {probe.l2:g}, "
            f"held-out accuracy {probe.accuracy:.3f}"
        )
        return probe.head, {**about, "l2": f"{probe.l2:g}", "held_out_accuracy": f"{probe.accuracy:.6f}"}


def robust_head(bench: Bench, victim: Victim) -> tuple[str, Path | None]:
    """The name of the head fitted on a robust victim's features, and its file; None where there is no file.

    Raises:
        UserError: there are files, but not one a token file.
    """
    assert bench.config.head is not None
    tokens = [str(file) for file in resolve_tokens(bench.config.defense_paths)]
    heads = bench.config.head.robust_files
    if heads and len(heads) != len(tokens):
        raise UserError(
            f"head.path.robust names {len(heads)} heads for {len(tokens)} token files: a robust head "
            "belongs to the tokens it was fitted with, so list one for each, in their order."
        )
    index = tokens.index(str(victim.file))
    name = ROBUST if len(tokens) == 1 else f"{ROBUST}-{index + 1}"
    return name, heads[index] if heads else None


def _open_split(bench: Bench) -> ImageSource:
    """Open `head.split` of the same data, which must have the same classes and other images."""
    data, head = bench.config.data, bench.config.head
    assert head is not None
    split = open_source(
        data.model_copy(update={"split": head.split, "limit": head.limit}), seed=bench.config.seed
    )
    if split.labels is None or list(split.class_names or ()) != list(bench.source.class_names or ()):
        raise UserError(
            f"head.split: {head.split} has {len(split.class_names or ())} classes and {data.split} has "
            f"{len(bench.source.class_names or ())}, or their names differ: both need the same class folders."
        )
    shared = set(split.keys) & set(bench.source.keys)
    if shared:
        raise UserError(
            f"head.split: {len(shared)} images of {head.split} are also in {data.split}, for example "
            f"{min(shared)}, but the head may not know its test: divide the data into train and test folders."
        )
    return split


def _held_out(split: ImageSource, seed: int) -> Tensor:
    """Of each class one image in `HELD_OUT` (rounded down), by the hash of (seed, key): (N,) bool."""
    assert split.labels is not None
    members: dict[int, list[int]] = {}
    for index, label in enumerate(split.labels):
        members.setdefault(label, []).append(index)
    chosen = torch.zeros(len(split), dtype=torch.bool)
    for indices in members.values():
        indices.sort(key=lambda index: image_seed(seed, split.keys[index], "held-out"))
        chosen[indices[: len(indices) // HELD_OUT]] = True
    return chosen
