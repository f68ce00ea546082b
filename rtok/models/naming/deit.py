"""DeiT-III's own names."""

from __future__ import annotations

from rtok.models.naming.rules import Naming, rename

OFFICIAL = Naming(
    "DeiT",
    tuple(rename(f"blocks.{{i}}.gamma_{n}", f"blocks.{{i}}.ls{n}.gamma") for n in (1, 2)),
    extras={"head.*": "the classifier, which is not part of the features"},
)
