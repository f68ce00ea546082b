"""Random numbers that belong to an image, not to its batch, process or device."""

from __future__ import annotations

import hashlib


def image_seed(seed: int, key: str, *parts: object) -> int:
    """Derive a 63-bit generator seed from the run's seed, the image's key and what the draw is for.

    The key is the image's path relative to the data set's root, so neither `limit`, skipped files, the batch
    nor the process count changes it. `parts` names the draw, for example `("pgd", restart, visit)`.
    """
    text = "\0".join([str(seed), key, *map(str, parts)])
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
