"""`data.limit`, `data.limit_per_group` and `data.holdout`: a part of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from rtok.data.masks import MaskedFiles
from rtok.data.source import ImageSource, found
from rtok.errors import UserError
from rtok.seeding import image_seed


@dataclass(frozen=True)
class Subset:
    """The pictures of `source` at `indices`, in that order."""

    source: ImageSource
    indices: Sequence[int]

    @cached_property
    def keys(self) -> Sequence[str]:
        """The chosen pictures' keys."""
        return [self.source.keys[index] for index in self.indices]

    @cached_property
    def labels(self) -> Sequence[int] | None:
        """Their class indices; None for data without classes."""
        labels = self.source.labels
        return None if labels is None else [labels[index] for index in self.indices]

    @property
    def class_names(self) -> Sequence[str] | None:
        """The names of all classes; None for data without classes."""
        return self.source.class_names

    @cached_property
    def groups(self) -> Sequence[str]:
        """Their groups in `source`."""
        return [self.source.groups[index] for index in self.indices]

    @property
    def found(self) -> str:
        """How many pictures, of which."""
        return f"{len(self)} of {found(self.source)}"

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def containers(self) -> Sequence[str]:
        """The files that all pictures are read from, where not each has its own."""
        return getattr(self.source, "containers", ())

    @property
    def fingerprint(self) -> str:
        """Of all pictures, where they are in no files; "" elsewhere."""
        return getattr(self.source, "fingerprint", "")

    def paths(self, key: str) -> list[str]:
        """Return the files that a picture is read from; none where the data has no files."""
        paths = getattr(self.source, "paths", None)
        return paths(key) if paths else []

    def read(self, index: int) -> Image.Image:
        """Return one picture, 8-bit RGB."""
        return self.source.read(self.indices[index])


def take(source: ImageSource, limit: int | None, *, seed: int, per_group: int | None = None) -> ImageSource:
    """Choose `limit` pictures (or all, if there are fewer), evenly over the classes; without classes, over the groups.

    Of no class (group) more than `per_group` are chosen; None sets no limit.

    A hash of (seed, key) orders the pictures of each class. The first picture of every class is chosen, then the second
    of every class, and so on. Where each picture is its own group, as in a plain folder, its rank therefore does not
    depend on other files. The chosen pictures keep their order in `source`.
    """
    if per_group is None and (limit is None or limit >= len(source)):
        return source
    strata: Sequence[object] = source.groups if source.labels is None else source.labels
    # NumPy, because ImageNet has more than a million keys. The sorts are stable, so ties keep their order.
    number: dict[object, int] = {}
    stratum = np.fromiter((number.setdefault(each, len(number)) for each in strata), np.int64, len(source))
    turn = np.fromiter((image_seed(seed, key, "limit") for key in source.keys), np.int64, len(source))
    by_stratum = np.lexsort((turn, stratum))
    first = np.searchsorted(stratum[by_stratum], stratum[by_stratum])
    rounds = np.empty_like(turn)
    rounds[by_stratum] = np.arange(len(source)) - first
    order = np.lexsort((turn, rounds))
    allowed = order if per_group is None else order[rounds[order] < per_group]
    chosen = np.sort(allowed[:limit]).tolist()
    return _part(source, chosen)


def hold_out(source: ImageSource, share: float, split: str) -> ImageSource:
    """Return about a `share` of the pictures, or for `split` "train" the rest, with all of a group on one side.

    A hash of the group alone decides. Neither the run's seed nor other files move a picture to the other side (unless
    one side were empty), so what one run trains on, no other run takes for held out.

    Raises:
        UserError: all pictures are of one group.
    """
    draws = {group: image_seed(0, group, "holdout") / 2**63 for group in source.groups}
    if len(draws) < 2:
        raise UserError("data.holdout: there is nothing to divide: the data has one image, or one group of images.")
    most, least = max(draws, key=draws.__getitem__), min(draws, key=draws.__getitem__)
    held = {group for group, draw in draws.items() if draw < share and group != most} | {least}
    return _part(source, [i for i, group in enumerate(source.groups) if (group in held) == (split != "train")])


def hold_out_few(source: ImageSource, images: int) -> tuple[ImageSource, ImageSource]:
    """Hold out so many pictures, from as few groups as possible: those of the other groups, and the held-out ones.

    A hash of the group alone orders the groups. Of the groups that are held out, further pictures are in neither part.

    Raises:
        UserError: nothing would be left.
    """
    groups = list(source.groups)  # at once: a listing of a million images is slow to ask for one
    sizes = Counter(groups)
    turn = {group: image_seed(0, group, "validate") for group in sizes}
    held: set[str] = set()
    there = 0
    for group in sorted(turn, key=turn.__getitem__):
        if there >= images:
            break
        held.add(group)
        there += sizes[group]
    if len(held) == len(turn):
        raise UserError(
            f"train.validate.images: {images} images cannot be held out of {len(source)} (from {len(turn)} groups): "
            "nothing would be left to train on. Hold out fewer."
        )
    kept, out = (
        _part(source, [i for i, group in enumerate(groups) if (group in held) == wanted]) for wanted in (False, True)
    )
    return kept, take(out, images, seed=0)


def _part(source: ImageSource, indices: Sequence[int]) -> ImageSource:
    return source.part(indices) if isinstance(source, MaskedFiles) else Subset(source, indices)
