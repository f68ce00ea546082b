"""Time what a run does with an indexed ImageNet before its first batch: open it, identify every image, keep their list.

The images are empty files, since nothing reads them. With ImageNet's size (1,281,167 training images in 1,000 classes)
the files take about five minutes to make and to remove.

    python scripts/startup_time.py [IMAGES]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from rtok.config.schema import Config
from rtok.data import open_source
from rtok.data.imagenet_extra import ExtraFiles, write_extra
from rtok.data.imagenet_layout import SPLITS, Classes
from rtok.files import write_json
from rtok.runs.inputs import images_identity
from rtok.runs.run import KEYS

CLASSES = 1000


def main(images: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        root, split = Path(name), SPLITS["train"]
        wnids = [f"n{number:08d}" for number in range(1, CLASSES + 1)]
        numbers = [np.arange(part[0], part[-1] + 1, dtype=np.uint32) for part in np.array_split(range(images), CLASSES)]
        write_extra(ExtraFiles(root / "extra", split), Classes(wnids, wnids), numbers)
        for wnid, own in zip(wnids, numbers, strict=True):
            (root / "train" / wnid).mkdir(parents=True)
            for number in own:
                (root / "train" / wnid / f"{wnid}_{number}.JPEG").touch()
        data = {"name": "imagenet", "root": root, "extra": root / "extra", "split": "train"}
        config = Config.model_validate({"model": {"name": "dinov2_vits14"}, "data": data})
        begin, processor = time.perf_counter(), time.process_time()
        source = open_source(config.data, seed=0)
        opened = time.perf_counter()
        images_identity(source)
        identified = time.perf_counter()
        write_json(root / KEYS, {"keys": list(source.keys)})
        listed, processor = time.perf_counter(), time.process_time() - processor
        seconds = f"opened in {opened - begin:.2f} s, identified in {identified - opened:.2f} s"
        print(f"{len(source):,} images: {seconds}, listed in {listed - identified:.2f} s; processor {processor:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_281_167)
