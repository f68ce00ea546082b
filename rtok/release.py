"""The release format: how a model with tokens inside says what it is, whatever file it lies in.

One JSON text under the key `rtok`: in the metadata of a safetensors or ONNX file, in the `_metadata` of a
pickled state dict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtok.errors import UserError
from rtok.version import __version__

if TYPE_CHECKING:
    from rtok.checkpoints import Checkpoint

KEY = "rtok"
FORMAT = "rtok-model-1"
TOKENS_KEY, TOKENS_FORMAT = "rtokens", "rtok-tokens-1"  # the one tensor of a token file, and what its metadata says
DEFENSE_FORMAT = "rtok-defense-1"  # what the metadata of every other defense's file says


def describe(defense: Mapping[str, str], target: str, **more: Any) -> dict[str, Any]:
    """Return what a model with a defense inside says of itself.

    Args:
        defense: the metadata of the defense's own file.
        more: what the format adds.
    """
    backbone = defense["backbone"] or None
    about = {"format": FORMAT, "rtok_version": __version__, "target": target, "backbone": backbone}
    # `tokens` whatever the kind: the name that version 0.1 reads
    return {**about, **more, "tokens": dict(defense)}


def to_metadata(description: Mapping[str, Any]) -> dict[str, str]:
    """Return a description as the metadata of a file."""
    return {KEY: json.dumps(description)}


def description(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the description in a file's metadata, or None when it holds no model with a defense inside."""
    try:
        found = json.loads(metadata.get(KEY, "null"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return None
    defense = found.get("tokens")
    whole = isinstance(defense, dict) and {"image_size", "config"} <= defense.keys()
    return found if whole and {"target", "backbone", "rtok_version"} <= found.keys() else None


def made_with(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """Return what a file's metadata says of its defense, alone in the file or inside a model."""
    about = description(metadata)
    return metadata if about is None else about["tokens"]


def in_words(defense: Mapping[str, str]) -> str:
    """Say what defense has this metadata, such as `5 robustness tokens` or `a defense of the kind 'x'`."""
    if "n" in defense and defense.get("format") == TOKENS_FORMAT:
        return f"{defense['n']} robustness tokens"
    return f"a defense of the kind '{defense.get('kind', 'unknown')}'"


def refuse_robust(checkpoint: Checkpoint, path: Path) -> None:
    """Refuse a model with a defense inside where a backbone's own weights are wanted, as a UserError."""
    about = description(checkpoint.metadata)
    if about is not None:
        raise UserError(
            f"'{path}' is not a plain backbone: it has {in_words(about['tokens'])} inside "
            f"({about['target']}, made by rtok {about['rtok_version']}). Give the weights it was made from."
        )


def refuse_converted(checkpoint: Checkpoint, path: Path, instead: str) -> None:
    """Refuse a model that `rtok convert` wrote, whose defense cannot be taken out again, as a UserError.

    Args:
        instead: what to do, as a sentence.
    """
    about = description(checkpoint.metadata)
    if about is not None and about["target"] != "robustify":
        raise UserError(
            f"'{path}' is already a converted model ({about['target']}, {in_words(about['tokens'])}). {instead}"
        )


def check_format(about: Mapping[str, str], path: Path, known: str) -> None:
    """Refuse the file of a defense whose metadata names another format than `known`, as a UserError."""
    if about.get("format", known) not in (known, "pt"):  # "pt" is what transformers writes
        raise UserError(f"'{path}' has the format '{about['format']}'; this rtok reads '{known}'. Upgrade rtok.")


def parse_made_for(about: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Return what the metadata of a defense's file says of its training, as keyword arguments of a `Defense`.

    Raises:
        UserError: the metadata is damaged.
    """
    try:
        size, config = json.loads(about.get("image_size", "null")), json.loads(about.get("config", "{}"))
        height, width = (1, 1) if size is None else size
        if not (isinstance(config, dict) and isinstance(height, int) and isinstance(width, int)):
            raise ValueError("of other types")
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"'{path}' has damaged metadata ({type(error).__name__}): its image size or its config. "
            "Copy it again, or train it again."
        ) from error
    return {
        "backbone": about.get("backbone") or None,
        "image_size": None if size is None else (height, width),
        "config": config,
        "version": about.get("rtok_version") or None,
        "fingerprint": about.get("fingerprint") or None,
        "seen": frozenset(about.get("images_seen", "").split()),
    }
