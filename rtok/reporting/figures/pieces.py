"""The pictures of a few attacked images one by one, for the report's page to leaf through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from rtok.files import atomic_path, write_json
from rtok.reporting.figures.canvas import SEQUENCE, amplified, heat_bottom, pixels
from rtok.runs.folder import EXAMPLES


def write_pieces(
    clean: Any, adversarial: Any, out: Path, titles: Sequence[str], maps: Mapping[str, Any] | None = None
) -> None:
    """Write `out/examples/`: every image clean, adversarial and their difference, and an index that names them.

    Args:
        clean, adversarial: (n, 3, H, W) in [0, 1].
        titles: what each image is.
        maps: see `feature_movement`; every patch becomes one pixel.
    """
    clean, adversarial = pixels(clean), pixels(adversarial)
    heat = {victim: np.asarray(values, dtype=np.float32) for victim, values in (maps or {}).items()}
    change, factor = amplified(clean, adversarial)
    bottom, colors = heat_bottom(heat.values()), matplotlib.colormaps[SEQUENCE]
    folder = (out / EXAMPLES).parent
    folder.mkdir(exist_ok=True)
    index = []
    for i, title in enumerate(titles):
        largest = np.abs(adversarial[i] - clean[i]).max() * 255
        views = [
            ("clean", "", clean[i].transpose(1, 2, 0)),
            ("adversarial", f"at most {largest:.1f} of 255", adversarial[i].transpose(1, 2, 0)),
            ("change", f"\N{MULTIPLICATION SIGN} {factor}, gray: none", change[i].transpose(1, 2, 0)),
        ]
        for victim, values in heat.items():
            note = f"mean {values[i].mean():.2f}; dark {bottom:.1f}, yellow 1"
            views.append((f"features, {victim}", note, colors((values[i] - bottom) / (1 - bottom))[..., :3]))
        named = []
        for number, (view, note, array) in enumerate(views, start=1):
            file = f"{i + 1}-{number}.png"
            with atomic_path(folder / file) as temporary:
                Image.fromarray((np.clip(array, 0, 1) * 255).round().astype(np.uint8)).save(temporary, format="PNG")
            named.append({"title": view, "file": file, "note": note})
        index.append({"title": title, "views": named})
    write_json(out / EXAMPLES, {"examples": index})
