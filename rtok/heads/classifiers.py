"""Linear classifiers of one run: read, the model's own, or fitted on clean features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtok.attacks.objective import Model
from rtok.console import say
from rtok.data import ImageSource
from rtok.errors import UserError
from rtok.heads.features import Reading, extract_features
from rtok.heads.files import choose_head, read_heads, save_head
from rtok.heads.linear import PROBE, WIDEST, LinearHead, check_classes
from rtok.heads.own import own_classifier
from rtok.heads.probe import accuracy, fit_probe
from rtok.heads.store import SURROGATE, HeadStore, Job
from rtok.models.defended import Features
from rtok.seeding import image_seed
from rtok.setup import Setup

HELD_OUT = 5  # one image in so many chooses the strength of the penalty


class Classifiers(HeadStore[LinearHead]):
    """The linear heads of a run on data with classes.

    Raises:
        UserError: data without classes, a head that does not fit, a split that cannot be used.
    """

    suffix = ".safetensors"

    def __init__(self, setup: Setup) -> None:
        names = setup.source.class_names
        if names is None or setup.source.labels is None:
            raise UserError(
                f"data: {setup.config.data.name} has no classes here, so there is nothing to classify: give "
                "labeled data, such as a folder with one sub-folder per class."
            )
        if len(names) < 2:
            only = f"the class '{names[0]}' alone" if names else "no class"
            raise UserError(
                f"data: {setup.config.data.name} has {only} here, so every prediction is right: give labeled data "
                "with at least two classes, or use eval-features."
            )
        self.class_names = names
        super().__init__(setup)

    def model(self, name: str, features: Features) -> Model:
        """The features with a head: images (B, 3, H, W) to logits (B, K)."""
        return lambda images: self.ready[name](features, images)

    def require(self, name: str, features: Features, path: Path | None) -> None:
        """Read a head, take the model's own classifier, or note what has to be done to get one."""
        if path is None and self.settings.type == "backbone" and name not in self.ready:
            config = self.setup.config
            model = config.surrogate_model if name == SURROGATE else config.model
            own = own_classifier(features.backbone, model.weights)
            self.ready[name] = self._placed(own, f"{features.backbone.spec.name}'s own classifier")
        super().require(name, features, path)

    def read(self, path: Path, features: Features) -> LinearHead | Job[LinearHead]:
        """Read a file of one head, or of several classifiers to choose from."""
        candidates = read_heads(path, features.backbone)
        for candidate in candidates.values():
            check_classes(candidate, len(self.class_names), str(path))
        chosen = choose_head(candidates, self.settings.classifier, path)
        return Job(features, candidates, str(path)) if chosen is None else self._placed(chosen, str(path))

    def reload(self, path: Path, features: Features) -> LinearHead:
        """Read the one head of a file."""
        (head,) = read_heads(path, features.backbone).values()
        return self._placed(head, str(path))

    def save(self, path: Path, head: LinearHead, about: Mapping[str, Any]) -> None:
        """Write safetensors."""
        save_head(path, head, about)

    def make(
        self, jobs: Mapping[str, Job[LinearHead]], state: Path
    ) -> Iterator[tuple[str, LinearHead, Mapping[str, Any]]]:
        """Compute the features that all heads read in one pass; the main process then makes the heads."""
        split, compute = self.split, self.setup.compute
        assert split is not None
        readings = {
            name: Reading(job.features, PROBE if job.candidates is None else WIDEST) for name, job in jobs.items()
        }
        batches = partial(self._batches, split)
        features = extract_features(readings, split.keys, batches, state, compute)
        if compute.is_main:
            for name, job in jobs.items():
                yield name, *self._made(name, job, features[name])

    def check_split(self, split: ImageSource) -> None:
        """Refuse a split of other classes."""
        data = self.setup.config.data
        if split.labels is None or list(split.class_names or ()) != list(self.class_names):
            raise UserError(
                f"head.split: {self.settings.split} has {len(split.class_names or ())} classes and {data.split} has "
                f"{len(self.class_names)}, or their names differ: both need the same class folders."
            )

    def _batches(self, split: ImageSource, done: set[str]) -> Any:
        return self.setup.batches(split, done=done)

    def _placed(self, head: LinearHead, where: str) -> LinearHead:
        check_classes(head, len(self.class_names), where)
        return head.to(self.setup.compute.device)

    def _made(self, name: str, job: Job[LinearHead], features: Tensor) -> tuple[LinearHead, dict[str, str]]:
        """Fit or choose one head on the split's features (N, width), and say how."""
        assert self.split is not None and self.split.labels is not None
        seen = ~features.isnan().any(dim=1)  # images that could not be decoded have no features
        device = self.setup.compute.device
        features, labels = features[seen].to(device), torch.tensor(self.split.labels)[seen].to(device)
        backbone = job.features.backbone.spec.name
        about = {"features": name, "backbone": backbone, "images": str(len(features))}
        if job.candidates is not None:
            scores = {
                candidate: accuracy(head.to(device), head.layout.select(features), labels)
                for candidate, head in job.candidates.items()
            }
            best = max(scores, key=lambda candidate: scores[candidate])
            say(f"head {name}: {best} is the best of {len(scores)} in {job.source}, accuracy {scores[best]:.3f}")
            return job.candidates[best], {**about, "classifier": best, "accuracy": f"{scores[best]:.6f}"}
        held_out = _held_out(self.split, self.setup.config.seed)[seen.cpu()].to(device)
        probe = fit_probe(features, labels, held_out, len(self.class_names), self.settings.l2)
        say(f"head {name}: fitted on {len(features)} images, l2 {probe.l2:g}, held-out accuracy {probe.accuracy:.3f}")
        return probe.head, {**about, "l2": f"{probe.l2:g}", "held_out_accuracy": f"{probe.accuracy:.6f}"}


def _held_out(split: ImageSource, seed: int) -> Tensor:
    """Of each class one image in `HELD_OUT` (rounded down), by the hash of (seed, key): (N,) bool."""
    assert split.labels is not None
    classes: dict[int, list[int]] = {}
    for index, label in enumerate(split.labels):
        classes.setdefault(label, []).append(index)
    chosen = torch.zeros(len(split), dtype=torch.bool)
    for indices in classes.values():
        indices.sort(key=lambda index: image_seed(seed, split.keys[index], "held-out"))
        chosen[indices[: len(indices) // HELD_OUT]] = True
    return chosen
