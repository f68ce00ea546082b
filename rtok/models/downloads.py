"""Check downloaded weights against the hash that the hub states.

The hub's client names a large file in its cache after the SHA-256 that the hub states, but compares only its size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtok.errors import UserError
from rtok.files import sha256_of

# The files that timm looks for in a repository of the hub, besides one that the model's own settings name.
NAMES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_download(pretrained_cfg: Mapping[str, Any], cache: Path | None = None) -> None:
    """Compare the downloaded weights of timm's model settings with their hash; files without one are accepted.

    Raises:
        UserError: a file does not have the hash that the hub states.
    """
    from huggingface_hub import try_to_load_from_cache

    repository = pretrained_cfg.get("hf_hub_id")
    if not repository:
        return
    for name in filter(None, (pretrained_cfg.get("hf_hub_filename"), *NAMES)):
        found = try_to_load_from_cache(repository, name, cache_dir=cache)
        if isinstance(found, str):
            check_file(Path(found), name, repository)


def check_file(found: Path, name: str, repository: str) -> None:
    """Compare a file in the client's cache with its hash; one without a hash is accepted.

    Raises:
        UserError: it does not have the hash that the hub states.
    """
    blob = found.resolve()
    if _SHA256.fullmatch(blob.name) and sha256_of(blob) != blob.name:
        raise UserError(
            f"'{blob}', downloaded as {name} of {repository}, does not have the SHA-256 that the hub states: it "
            "was damaged or changed. Delete it and run the command again."
        )
