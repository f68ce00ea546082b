"""Random numbers that depend on the image, and not on its batch, process or device."""

from __future__ import annotations

import hashlib


def image_seed(seed: int, key: str, *parts: object) -> int:
    """Derive a 63-bit generator seed from the run's seed, the image's key and the purpose.

    The key is the image's path relative to the data set's root, so `limit`, skipped files, the batch and the number of
    processes do not change it. `parts` names the purpose, for example `("pgd", restart, visit)`.
    """
    text = "\0".join([str(seed), key, *map(str, parts)])
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
