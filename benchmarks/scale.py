"""Measure what many images cost beside the model, as their number grows: `python -m benchmarks.scale`.

The model and the images are tiny, so that nearly all of the time is the machinery's: listing, reading and identifying a
data set; `rtok attack`, its files and a report of them; what an evaluation does after its last image, with ten rows
for each; and the search for neighbors, for one row of all images. Every number of images has a process of its own.
Seconds are the processor's (all threads), which other programs on the machine change little; memory is the peak above
what the process had before.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from benchmarks.measure import written
from benchmarks.ours import save_random
from rtok.attacks.png import encode_png
from rtok.attacks.stored import AdversarialSet, SetWriter
from rtok.compute import Compute
from rtok.config.schema import Config
from rtok.data import open_source
from rtok.data.loader import evaluation_batches
from rtok.data.transforms import Transform
from rtok.evaluation import make_adversarial_set
from rtok.evaluation.retrieval import Gallery
from rtok.files import write_json
from rtok.reporting.report.write import write_report
from rtok.results.columns import COLUMNS, paired_columns
from rtok.results.differences import paired_differences
from rtok.results.rows import Identity
from rtok.results.summary import by_victim, flat_rows, numbers, summarize, write_csv
from rtok.runs.inputs import images_identity
from rtok.runs.journal import Journal

MODEL, SIZE, BATCH = "timm:test_vit", 32, 250
CLASSES, DISTINCT = 100, 64  # folders, and pictures that differ: the others are links to them
WIDTH = 384  # of the features of a ViT-S
COMMAND = "eval-features"
# Ten rows an image: who is attacked under which threat.
_DEFENDED = [("random", None, 0), ("random", None, 1), ("robust", "a", None), ("robust", "b", None)]
ROWS = [
    ("transfer", "plain", None, None),
    *((threat, *who) for threat in ("transfer", "adaptive") for who in _DEFENDED),
    ("informed", "robust", "a", None),
]


class Laps(dict[str, float]):
    """Seconds of the processor by what was done in them, and the peak of memory in MiB above the start."""

    def __init__(self) -> None:
        super().__init__()
        self._begin, self._memory = time.process_time(), _peak()

    def __call__(self, name: str) -> None:
        """End a lap."""
        now = time.process_time()
        self[name], self._begin = now - self._begin, now

    def finish(self) -> dict[str, float]:
        """Add the peak."""
        return {**self, "peak MiB": _peak() - self._memory}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def data(images: int, folder: Path) -> dict[str, float]:
    """List a folder of images, identify each, and read all of them once."""
    root, laps = pictures(images, folder), Laps()
    source = open_source(Config.model_validate(_settings(root, folder)).data, seed=0)
    laps("list")
    images_identity(source)
    laps("identify")
    for _ in evaluation_batches(source, Transform("squash", (SIZE, SIZE)), batch_size=BATCH, seed=0):
        pass
    laps("read")
    return laps.finish()


def attack(images: int, folder: Path) -> dict[str, float]:
    """Make an adversarial set by one gradient step, open it, and write a report of it."""
    root, spent = pictures(images, folder), 0.0
    save_random(MODEL, folder / "random.safetensors")
    write = SetWriter.write

    def timed(*arguments: Any) -> list[dict[str, Any]]:
        nonlocal spent
        begin = time.process_time()
        rows = write(*arguments)
        spent += time.process_time() - begin
        return rows

    laps = Laps()
    with patch.object(SetWriter, "write", timed):
        made = make_adversarial_set(Config.model_validate(_settings(root, folder)))
    laps("attack")
    laps["of it, write images"] = spent
    AdversarialSet.open(made.out)
    laps("open")
    write_report([made.out], folder / "report")
    laps("report")
    return laps.finish()


def results(images: int, folder: Path) -> dict[str, float]:
    """Turn an evaluation's journal into `results.json` and `per_image.csv`."""
    journal, keys = Journal(folder / "images.jsonl"), [f"{i % CLASSES:02}/{i:08}.JPEG" for i in range(images)]
    made = random.Random(0)
    for key in keys:
        journal.append([{"image": key, "group": key, "rows": list(measured_rows(made))}])
    laps = Laps()
    records = journal.ordered(keys)
    victims = by_victim(flat_rows(records))
    laps("read")
    rows = summarize(victims, lambda measured: numbers(COMMAND, measured))
    differences = paired_differences(victims, paired_columns(COMMAND))
    write_json(folder / "results.json", {"rows": rows, "differences": differences})
    laps("summarize")
    write_csv(folder / "per_image.csv", flat_rows(records))
    laps("per_image.csv")
    return laps.finish()


def retrieval(images: int, folder: Path) -> dict[str, float]:
    """Seek the neighbors of all images for one row, which has two columns of it: a few batches, times all there are."""
    made = torch.Generator().manual_seed(0)
    keys, queries = [str(number) for number in range(images)], 32
    gallery = Gallery(keys, F.normalize(torch.randn(images, WIDTH, generator=made), dim=-1))
    laps, batches = Laps(), 5
    for features in torch.randn(2 * batches, queries, WIDTH, generator=made):
        gallery.retrieval(keys[:queries], gallery.vectors[:queries], features)
    laps("one row")
    laps["one row"] *= images / (batches * queries)
    return laps.finish()


def measured_rows(made: random.Random) -> Iterator[dict[str, Any]]:
    """The rows of one image, of random numbers."""
    columns = [column.key for column in COLUMNS[COMMAND] if column.mean and column.key not in ("gradients", "forwards")]
    about: dict[str, Any] = {
        "attack": "standard",
        "norm": "linf",
        "eps": 8 / 255,
        "units": "pixel",
        "steps": 30,
        "restarts": 1,
        "seed": 0,
    }
    for threat, victim, file, draw in ROWS:
        kind, n = (None, None) if victim == "plain" else ("tokens", 10)
        who = Identity(**about, threat=threat, victim=victim, defense=file, kind=kind, n=n).columns()
        values = {key: made.random() for key in columns}
        more = {"worst_from": threat, "gradients": 30, "forwards": 30, "seen_in_training": None}
        yield {"part": "rows", **who, "draw": draw, **values, **more}


def pictures(images: int, folder: Path) -> Path:
    """Make a folder of small images in classes."""
    root, random_numbers = folder / "data", np.random.default_rng(0)
    for number in range(CLASSES):
        (root / f"{number:02}").mkdir(parents=True)
    for number in range(images):
        file = root / f"{number % CLASSES:02}" / f"{number:08}.png"
        if number < DISTINCT:
            Image.fromarray(random_numbers.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(file)
            first = file
        else:
            os.link(first.parent.parent / f"{number % DISTINCT:02}" / f"{number % DISTINCT:08}.png", file)
    return root


def _settings(root: Path, folder: Path) -> dict[str, Any]:
    return {
        "model": {"name": MODEL, "weights": str(folder / "random.safetensors"), "image_size": SIZE},
        "data": {"name": "folder", "root": str(root), "workers": 0},
        "attack": {"preset": "standard", "steps": 1},
        "batch_size": BATCH,
        "out": str(folder / "run"),
    }


def encoding(size: int = 224, count: int = 20) -> dict[str, float]:
    """Milliseconds and bytes of one adversarial image as a PNG, by Pillow and by `rtok`."""
    noise = np.random.default_rng(0)
    coarse = Image.fromarray(noise.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)).astype(np.int16)
    changed = [smooth + noise.integers(-8, 9, smooth.shape, dtype=np.int16) for _ in range(count)]
    images = [image.clip(0, 255).astype(np.uint8) for image in changed]

    def pillow(pixels: Any) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG")
        return file.getvalue()

    found = {}
    for name, encode in {"Pillow": pillow, "rtok": encode_png}.items():
        begin = time.process_time()
        found[f"{name}, bytes"] = float(np.mean([len(encode(image)) for image in images]))
        found[f"{name}, ms"] = 1000 * (time.process_time() - begin) / count
    return found


PARTS: dict[str, Callable[[int, Path], dict[str, float]]] = {
    "data": data,
    "attack": attack,
    "results": results,
    "retrieval": retrieval,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    parser.add_argument(
        "--out", type=Path, default=None, help="JSON file; default benchmarks/results/scale-DEVICE-DATE.json"
    )
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.alone:
        with tempfile.TemporaryDirectory() as name:
            found = PARTS[options.parts[0]](options.images[0], Path(name))
        print(f"\n{json.dumps(found)}")
        return
    rows = [{"part": part, "images": n, **_alone(part, n)} for part in options.parts for n in options.images]
    rows.append({"part": "encoding", **encoding()})
    out = written(rows, options, Compute.start(), "scale-")
    show(rows, options.images)
    print(f"written to {out}")


def _alone(part: str, images: int) -> dict[str, float]:
    """Measure in a process of its own, whose peak of memory is that of this part."""
    command = [sys.executable, "-m", "benchmarks.scale", "--alone", "--parts", part, "--images", str(images)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(rows: list[dict[str, Any]], counts: list[int]) -> None:
    """Print a Markdown table: a line per step of a part, a column per number of images."""
    print(f"| part | step | {' | '.join(f'{count:,} images' for count in counts)} |")
    print(f"| :--- | :--- |{' ---: |' * len(counts)}")
    for part in dict.fromkeys(row["part"] for row in rows if "images" in row):
        of_part = [row for row in rows if row["part"] == part]
        for name in (name for name in of_part[0] if name not in ("part", "images")):
            form = "{:.0f} MiB" if "MiB" in name else "{:.1f} s"
            cells = [form.format(row[name]) for row in of_part]
            print(f"| {part} | {name.removesuffix(' MiB')} | {' | '.join(cells)} |")
    last = rows[-1]
    print("\nA 224 px image as PNG: " + ", ".join(f"{last[name]:,.1f} ({name})" for name in last if name != "part"))


if __name__ == "__main__":
    main()
