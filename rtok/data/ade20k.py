"""`ade20k`: ADE20K's scene parsing benchmark, 150 classes, in the layout of ADEChallengeData2016."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rtok.data.folder import check_split, existing_root
from rtok.data.masks import MaskedFiles, pair_up, read_classes

if TYPE_CHECKING:
    from rtok.config.sections import DataConfig

SPLITS = {"train": "training", "val": "validation"}
# Names and colors of the 150 classes, in the benchmark's order and spelled as in mmsegmentation.
CLASSES = Path(__file__).with_name("ade20k.txt")


def open_ade20k(config: DataConfig) -> MaskedFiles:
    """Open `images/{training,validation}` with `annotations/{training,validation}`.

    The benchmark's value 0 ("other") is ignored, so its classes 1 to 150 become 0 to 149.

    Raises:
        UserError: no root, a split or layout that is not ADE20K's, or an image or mask without its partner.
    """
    root = existing_root(config)
    check_split(config, SPLITS, " with masks")
    folder = SPLITS[config.split]
    keys, masks, found = pair_up(root, root / "images" / folder, root / "annotations" / folder)
    names, palette = read_classes(CLASSES)
    return MaskedFiles(root, keys, masks, names, palette, first_value=1, found=found)
