"""Robustness tokens: drawn, saved, and read again, whoever wrote them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rtok.checkpoints import Checkpoint, is_plain, read_checkpoint, to_safetensors
from rtok.errors import UserError
from rtok.files import write_atomic
from rtok.release import description
from rtok.seeding import image_seed
from rtok.version import __version__

if TYPE_CHECKING:
    from rtok.models.backbone import Backbone

FORMAT = "rtok-tokens-1"
_KEY = "rtokens"
INIT_STD = 0.01  # the paper's


@dataclass(frozen=True)
class RobustnessTokens:
    """Tokens and what they were made for.

    Attributes:
        values: (1, n, D) float32 on the CPU.
        backbone: the model name they were trained for; None when the file does not say (the original's
        files).
        image_size: (height, width) in pixels of their training; None when the file does not say.
        config: the resolved configuration of their training.
        version: the version of rtok that made them.
        fingerprint: that of the weights they were trained on (`Backbone.fingerprint`), when the file says.
    """

    values: Tensor
    backbone: str | None = None
    image_size: tuple[int, int] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    version: str | None = None
    fingerprint: str | None = None

    @property
    def count(self) -> int:
        """The number of tokens, n."""
        return self.values.shape[1]

    @property
    def dim(self) -> int:
        """The width of a token, D."""
        return self.values.shape[2]

    @property
    def init_std(self) -> float:
        """The standard deviation that they started from; the paper's where the file does not say."""
        settings = self.config.get("defense", self.config.get("tokens"))  # rtok 0.1 wrote `tokens`
        return float(settings.get("init_std", INIT_STD)) if isinstance(settings, Mapping) else INIT_STD

    @classmethod
    def initialise(
        cls,
        count: int,
        dim: int,
        *,
        std: float = INIT_STD,
        seed: int = 0,
        backbone: str | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> RobustnessTokens:
        """Draw untrained tokens, std * N(0, 1) (the paper: std 0.01): a function of seed, count and dim."""
        generator = torch.Generator().manual_seed(image_seed(seed, "tokens", count))
        values = std * torch.randn(1, count, dim, generator=generator)
        return cls(values, backbone, image_size, version=__version__)

    @property
    def metadata(self) -> dict[str, str]:
        """What the tokens were made for, as the metadata of a file."""
        return {
            "format": FORMAT,
            "backbone": self.backbone or "",
            "n": str(self.count),
            "dim": str(self.dim),
            "image_size": json.dumps(self.image_size),
            "config": json.dumps(self.config),
            "rtok_version": self.version or "",
            "fingerprint": self.fingerprint or "",
        }

    def save(self, path: Path) -> None:
        """Write a safetensors file: tensor `rtokens` (1, n, D), and as metadata what it was made for."""
        values = self.values.detach().to("cpu", torch.float32).contiguous()
        write_atomic(path, to_safetensors({_KEY: values}, self.metadata))

    @classmethod
    def load(cls, path: Path) -> RobustnessTokens:
        """Read a token file of ours, the original's `{"rtokens": tensor}`, or its whole-model checkpoint.

        In the latter the tokens lie beside the model's weights, possibly under `state_dict` and after
        `module.`.

        Raises:
            UserError: the file is unreadable, holds no tokens, or tokens that are not finite numbers (1, n,
            D).
        """
        return cls.parse(read_checkpoint(Path(path)), Path(path))

    @classmethod
    def parse(cls, content: Checkpoint, path: Path) -> RobustnessTokens:
        """Take the tokens out of a checkpoint that was read; `path` is for the message of the UserError."""
        values = _find(content, path)
        _check_values(values, path)
        about = _metadata(content, path)
        size, config = _parse_made_for(about, path)
        return cls(
            # a clone: a slice of a whole-model file would keep all of it in memory
            values.detach().float().clone(),
            about.get("backbone") or None,
            size,
            config,
            about.get("rtok_version") or None,
            about.get("fingerprint") or None,
        )

    def check(self, backbone: Backbone, file: Path | None = None) -> None:
        """Refuse tokens that were made for another backbone; `file` is where they came from.

        Raises:
            UserError: another name or another width; the message says what the tokens were made for.
        """
        name = backbone.spec.name
        if self.backbone not in (None, name) or self.dim != backbone.dim:
            made_for = f"'{self.backbone}'" if self.backbone else "a backbone that the file does not name"
            which = f"The {self.count} tokens in '{file}'" if file else f"These {self.count} tokens"
            raise UserError(
                f"{which} were made for {made_for} (width {self.dim}), not for '{name}' "
                f"(width {backbone.dim}). Set `model.name` to theirs, or give tokens trained for '{name}'."
            )


def token_files(path: Path) -> list[Path]:
    """Return the token files that a path stands for: a file itself, or those of a run folder.

    Raises:
        UserError: the path does not exist, or the folder holds no tokens.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(
            f"There is no token file or run folder '{path}'. Give one that `rtok train` has written."
        )
    # rtokens-5 comes before rtokens-10
    files = sorted(path.glob("rtokens*.safetensors"), key=lambda file: (len(file.name), file.name))
    if not files:
        raise UserError(
            f"The folder '{path}' holds no tokens (rtokens*.safetensors). "
            "Give the folder of a finished `rtok train`."
        )
    return files


def _parse_made_for(about: Mapping[str, str], path: Path) -> tuple[tuple[int, int] | None, Mapping[str, Any]]:
    """Return the image size and the training's config from a file's metadata."""
    try:
        size, config = json.loads(about.get("image_size", "null")), json.loads(about.get("config", "{}"))
        height, width = (1, 1) if size is None else size
        if not (isinstance(config, dict) and isinstance(height, int) and isinstance(width, int)):
            raise ValueError("of other types")
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"'{path}' has damaged metadata ({type(error).__name__}): its image size or its config. "
            "Copy it again, or train the tokens again."
        ) from error
    return None if size is None else (height, width), config


def _find(content: Checkpoint, path: Path) -> Tensor:
    """Return the one tensor `rtokens` of a checkpoint, at its top or under `state_dict`."""
    inner = content.get("state_dict")
    entries = inner if isinstance(inner, Mapping) else content
    found = [value for key, value in entries.items() if str(key).removeprefix("module.") == _KEY]
    if len(found) != 1 or not is_plain(found[0]):
        raise UserError(
            f"'{path}' holds no robustness tokens: there is no tensor '{_KEY}' in it. "
            "Give a token file of rtok, or the original's rtokens.pt or last.ckpt."
        )
    return found[0]


def _check_values(values: Tensor, path: Path) -> None:
    if values.dim() != 3 or values.shape[0] != 1 or 0 in values.shape or not values.is_floating_point():
        raise UserError(
            f"The tokens in '{path}' have the shape {tuple(values.shape)} ({values.dtype}); "
            "tokens are floating-point numbers of shape (1, count, width)."
        )
    if not values.isfinite().all():
        raise UserError(
            f"The tokens in '{path}' hold NaN or infinity: their training diverged. Train them again, "
            "with a lower learning rate."
        )


def _metadata(content: Checkpoint, path: Path) -> Mapping[str, str]:
    """Return what a file says of its tokens; a file that others wrote says nothing of ours."""
    robust = description(content.metadata)
    about: Mapping[str, str] = content.metadata if robust is None else robust["tokens"]
    if about.get("format", FORMAT) not in (FORMAT, "pt"):  # "pt" is what transformers writes
        raise UserError(
            f"'{path}' has the token format '{about['format']}'; this rtok reads '{FORMAT}'. Upgrade rtok."
        )
    return about
