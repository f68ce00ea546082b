"""Make a small segmentation set for the demo out of the sample photos of installed packages.

Nobody labeled these photos: the classes are clusters of colors, found on the training photos by k-means in
the CIELAB space. A head that predicts them shows what attacks and tokens do to a segmentation; it says
nothing about ADE20K. The result is a `folder-seg`:

    python scripts/demo_segmentation.py --out build/demo-seg
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.color import lab2rgb, rgb2lab
from skimage.filters import gaussian
from sklearn.cluster import KMeans

from rtok.config.sections import DataConfig
from rtok.data.decoding import read_image
from rtok.data.photos import open_photos
from rtok.errors import UserError

CLASSES = 5
SHORT_SIDE = 224  # of the images: sixteen patches of DINOv2
BLUR = 4.0  # pixels: regions of color, not its grain
SPLITS = ("train", "test")


def main() -> int:
    """Write the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    options = parser.parse_args()
    try:
        count = write_set(options.out)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Wrote {options.out}: {count} sample photos, their colors in {CLASSES} clusters as masks.")
    return 0


def write_set(out: Path) -> int:
    """Write images, masks and class names, and return how many photos there are."""
    photos = {
        split: {path.stem: _resized(read_image(path)) for path in open_photos(_photos(split)).photos}
        for split in SPLITS
    }
    pixels = np.concatenate([_colors(photo).reshape(-1, 3)[::7] for photo in photos["train"].values()])
    clusters = KMeans(CLASSES, n_init=4, random_state=0).fit(pixels)
    # From dark to light, whatever order k-means found them in.
    order = np.argsort(clusters.cluster_centers_[:, 0])
    number = np.argsort(order).astype(np.uint8)
    for split, images in photos.items():
        for folder in ("images", "masks"):
            (out / folder / split).mkdir(parents=True, exist_ok=True)
        for name, photo in images.items():
            colors = _colors(photo)
            mask = number[clusters.predict(colors.reshape(-1, 3))].reshape(colors.shape[:2])
            photo.save(out / "images" / split / f"{name}.png")
            Image.fromarray(mask).save(out / "masks" / split / f"{name}.png")
    centers = (255 * lab2rgb(clusters.cluster_centers_[order])).round().astype(int).tolist()
    lines = [f"color {i + 1} #{r:02x}{g:02x}{b:02x}\n" for i, (r, g, b) in enumerate(centers)]
    (out / "classes.txt").write_text("".join(lines))
    return sum(map(len, photos.values()))


def _photos(split: str) -> DataConfig:
    return DataConfig.model_validate({"name": "photos", "split": split})


def _resized(photo: Image.Image) -> Image.Image:
    scale = SHORT_SIDE / min(photo.size)
    return photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BICUBIC)


def _colors(photo: Image.Image) -> NDArray[np.float64]:
    """The smoothed color of every pixel in CIELAB, (H, W, 3)."""
    return gaussian(rgb2lab(np.asarray(photo)), BLUR, channel_axis=-1)


if __name__ == "__main__":
    sys.exit(main())
