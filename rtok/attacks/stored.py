"""Adversarial sets on disk: lossless 8-bit PNGs, a manifest and the settings, made once and evaluated many times."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, StrictInt
from torch import Tensor

from rtok.attacks.base import Context, Crafted, Perturbed
from rtok.attacks.objective import Objective
from rtok.attacks.png import encode_png
from rtok.config.attack_methods import StoredConfig
from rtok.errors import UserError
from rtok.files import write_atomic

if TYPE_CHECKING:
    from rtok.config.schema import Config
    from rtok.models.backbone import Backbone

COST = ("gradients", "forwards")
PER_FOLDER = 1000  # images; folders with many more are slow to list and to copy
_FILE = re.compile(r"images/(\d+/)?(?!\.\.?$)[^/]+")
MOST_WRITERS = 8  # threads: they encode faster than a card attacks
MANIFEST = ("image", "group", "file", "clean_sha256", "linf_255", "mse", *COST)


def file_name(key: str) -> str:
    """A flat, readable PNG name for an image's key; the hash keeps `a/b.png` and `a_b.png` apart."""
    slug = re.sub(r"[^A-Za-z0-9.-]+", "_", key.rsplit(".", 1)[0])[-80:]
    return f"{slug}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.png"


def clean_hash(pixels: NDArray[np.uint8]) -> str:
    """A short hash of a clean image (H, W, 3): ties an adversarial image to the pixels it was made from."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


def load_image(path: Path) -> Tensor:
    """Read an 8-bit PNG as float32 (3, H, W) in [0, 1].

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): make the set again with `rtok attack`.") from error
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div_(255)


class SetWriter(ExitStack):
    """Writes a set's images as 8-bit PNGs into its folder, several at a time.

    Args:
        keys: all images of the set. Where they are many, folders hold `PER_FOLDER` of them each, in their order.
    """

    def __init__(self, folder: Path, keys: Sequence[str]) -> None:
        super().__init__()
        self._folder = folder
        self._place = {key: number for number, key in enumerate(keys)}
        self._pool = self.enter_context(ThreadPoolExecutor(min(MOST_WRITERS, os.cpu_count() or 1)))

    def write(self, keys: Sequence[str], groups: Sequence[str], clean: Tensor, made: Crafted) -> list[dict[str, Any]]:
        """Write a batch's images and return their lines of `manifest.csv`; `clean` is (B, 3, H, W) in [0, 1]."""
        clean, found = clean.cpu(), made.images.cpu()
        files = [self._file(key) for key in keys]
        # Threads get NumPy's arrays: each would start torch's own threads beside it.
        hashes = self._pool.map(self._save, files, [_to_uint8(one) for one in found], [_to_uint8(one) for one in clean])
        costs = {name: getattr(made, name).tolist() for name in COST}
        rows = []
        for b, (key, group, file, digest) in enumerate(zip(keys, groups, files, hashes, strict=True)):
            delta = (found[b] - clean[b]).abs()
            moved = {"linf_255": round(float(delta.amax()) * 255, 4), "mse": float(delta.square().mean())}
            about = {"image": key, "group": group, "file": file, "clean_sha256": digest}
            rows.append(about | moved | {name: costs[name][b] for name in COST})
        return rows

    def _file(self, key: str) -> str:
        many = len(self._place) > PER_FOLDER
        return "/".join(["images", *([f"{self._place[key] // PER_FOLDER:05}"] if many else []), file_name(key)])

    def _save(self, file: str, pixels: NDArray[np.uint8], clean: NDArray[np.uint8]) -> str:
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, encode_png(pixels))
        return clean_hash(clean)


class MadeConfig(BaseModel):
    """What is read of the config that a set was made with."""

    surrogate: Any
    head: Any
    seed: Any


class Made(BaseModel):
    """How a set was made: what is read of its `attack.json`."""

    finished: Literal[True]
    image_size: tuple[StrictInt, StrictInt]
    backbone: str
    fingerprint: str
    surrogate: str
    attack: dict[str, Any]
    config: MadeConfig
    objective: Literal["features", "labels"] = "features"


class AdversarialSet:
    """A set written by `rtok attack`, used like an attack: it hands out the stored image of each clean image.

    Raises:
        UserError: the folder holds no finished set.
    """

    def __init__(self, settings: StoredConfig) -> None:
        self.settings = settings
        self.folder = settings.stored
        try:
            self.made = Made.model_validate(json.loads((self.folder / "attack.json").read_text()))
            rows = list(csv.DictReader(io.StringIO((self.folder / "manifest.csv").read_text())))
            self.rows: Mapping[str, dict[str, str]] = {row["image"]: row for row in rows}
            _check_rows(rows)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
            raise UserError(
                f"attack.from: {self.folder} holds no finished adversarial set ({error}): make one with "
                "`rtok attack --out DIR`, or finish it with --resume."
            ) from error

    @classmethod
    def open(cls, folder: Path) -> AdversarialSet:
        """Read the set in a folder."""
        return cls(StoredConfig.model_validate({"from": folder}))

    def surrogate_is_plain(self, config: Config) -> bool:
        """Whether the set was crafted on what an evaluation with this config takes for its plain victim.

        `check` compares the weights; an attack on labels went through a head, and a fitted head has a seed.
        """
        made, now = self.made.config.model_dump(), config.to_dict()
        keys = ("head", "seed") if self.made.objective == "labels" else ()
        same_head = all(_fitted(made[key]) == _fitted(now[key]) for key in keys)
        written = ({"model": "same", name: None, "head": "same"} for name in ("defense", "tokens"))  # tokens: rtok 0.1
        return same_head and made["surrogate"] in written

    def check(self, backbone: Backbone, keys: Sequence[str]) -> None:
        """Refuse a set that was made for other images, another size or another backbone.

        Raises:
            UserError: naming what the set was made for.
        """
        made, size = self.made, backbone.image_size
        if made.image_size != tuple(size):
            raise self._error(
                f"at {made.image_size[0]} x {made.image_size[1]} px, but model.image_size is {size[0]} x {size[1]}: "
                "use the same size, or make a set for this one."
            )
        if made.backbone != backbone.spec.name or made.fingerprint != backbone.fingerprint():
            raise self._error(
                f"for {made.backbone} (weights {made.fingerprint}), not for {backbone.spec.name} (weights "
                f"{backbone.fingerprint()}): use that one, or make a set for this one."
            )
        missing = [key for key in keys if key not in self.rows]
        if missing:
            raise self._error(
                f"for other images: {len(missing)} of {len(keys)} are missing, for example {missing[0]}. Use the data "
                "it was made from, or make a set for this data."
            )

    def _error(self, made: str) -> UserError:
        return UserError(f"attack.from: {self.folder} was made {made}")

    def run(self, images: Tensor, objective: Objective, context: Context) -> Perturbed:
        """Return the stored adversarial images (B, 3, H, W); nothing is crafted, but counted as the set says.

        Raises:
            UserError: a clean image's pixels are not those that the set was made from.
        """
        found = []
        for image, key in zip(images, context.keys, strict=True):
            row = self.rows[key]
            if row["clean_sha256"] != clean_hash(_to_uint8(image)):
                raise self._error(
                    f"from another image named {key}, or with another data.resize: use the data it was made from, or "
                    "make a set for this data."
                )
            found.append(load_image(self.folder / row["file"]))
        if objective.passes is not None:
            for name in COST:
                told = [_cost(self.rows[key], name) for key in context.keys]
                getattr(objective.passes, name).add_(torch.tensor(told, device=images.device))
        return Perturbed(torch.stack(found).to(images), images.new_full((len(images),), float("nan")))


def _check_rows(rows: Sequence[Mapping[str, str | None]]) -> None:
    """Raise ValueError unless every row is whole and names a file in the set's own folder."""
    for row in rows:
        file = row.get("file")
        if None in row.values() or not row.get("clean_sha256") or file is None:
            raise ValueError("manifest.csv is damaged")
        for name in COST:
            _cost(row, name)
        if not _FILE.fullmatch(file):
            raise ValueError(f"manifest.csv names {file}, which lies outside the set")


def _cost(row: Mapping[str, str | None], name: str) -> int:
    """What a set says that an image cost; sets of version 0.1 say nothing, which is 0 here."""
    return int(row.get(name) or 0)


def _fitted(section: object) -> object:
    """A section of a config without what says only which victims are measured."""
    return {k: v for k, v in section.items() if k != "features"} if isinstance(section, dict) else section


def _to_uint8(image: Tensor) -> NDArray[np.uint8]:
    return (image.detach().cpu() * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
