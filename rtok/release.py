"""The release format: how a model with tokens inside describes itself, whatever its file format.

It is one JSON text under the key `rtok`: in the metadata of a safetensors or ONNX file, or in the `_metadata` of a
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
    from rtok.tokens import RobustnessTokens

KEY = "rtok"
FORMAT = "rtok-model-1"


def describe(tokens: RobustnessTokens, target: str, **more: Any) -> dict[str, Any]:
    """Return the description of a model with these tokens inside; `more` has what its format adds."""
    about = {"format": FORMAT, "rtok_version": __version__, "target": target, "backbone": tokens.backbone}
    return {**about, **more, "tokens": tokens.metadata}


def to_metadata(description: Mapping[str, Any]) -> dict[str, str]:
    """Return a description as the metadata of a file."""
    return {KEY: json.dumps(description)}


def description(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the description in a file's metadata, or None if the file is not a model with tokens inside."""
    try:
        found = json.loads(metadata.get(KEY, "null"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return None
    tokens = found.get("tokens")
    whole = isinstance(tokens, dict) and {"n", "dim", "image_size", "config"} <= tokens.keys()
    return found if whole and {"target", "backbone", "rtok_version"} <= found.keys() else None


def refuse_robust(checkpoint: Checkpoint, path: Path) -> None:
    """Raise a UserError for a model with tokens inside, where a backbone's own weights are needed."""
    about = description(checkpoint.metadata)
    if about is not None:
        raise UserError(
            f"'{path}' is not a plain backbone: it has {about['tokens']['n']} robustness tokens inside "
            f"({about['target']}, made by rtok {about['rtok_version']}). Give the weights it was made from."
        )
