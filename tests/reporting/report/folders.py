"""Run folders as commands leave them, and what a browser would make of a page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from PIL import Image

from rtok.config import strict_yaml

HOSTILE = "<script>alert(1)</script>|`*[x](javascript:1)\"'&amp;\u202e"
MODEL = {"name": "dinov2_vits14", "image_size": 98}
Rows = list[dict[str, Any]]


def run_folder(path: Path, command: str, *, settings: dict[str, Any] | None = None, finished: bool = True) -> Path:
    path.mkdir(parents=True)
    config = {"model": MODEL, "data": {"name": "photos", "split": "test"}, **(settings or {})}
    (path / "config.yaml").write_text(strict_yaml.dump(config))
    record = {
        "command": ["rtok", command, "--config", "x.yaml"],
        "versions": {"rtok": "0.1.0", "torch": "2.15.0"},
        "device": {"type": "cpu", "name": "x86_64", "precision": "fp32"},
        "git": {"commit": "0123456789abcdef", "dirty": True},
        "seconds": 83.2,
        "finished": finished,
    }
    (path / "run.json").write_text(json.dumps(record))
    return path


def evaluation(path: Path, rows: Rows, **more: Any) -> Path:
    run_folder(path, "eval-features")
    results = {"command": "eval-features", "images": 30, "rows": rows, **more}
    (path / "results.json").write_text(json.dumps(results))
    Image.new("RGB", (3, 2), "red").save(path / "summary.png")
    return path


def training(path: Path, threat: str = "transfer") -> Path:
    run_folder(
        path, "train", settings={"tokens": {"count": 10, "seeds": [7]}, "train": {"threat": threat, "steps": 20}}
    )
    lines = [
        {"step": step, "invariance": 0.9, "adversarial": step / 20, "undefended": 0.4, "seconds": 1.5}
        for step in range(1, 21)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Image.new("RGB", (3, 2), "blue").save(path / "curves.png")
    return path


def examples(run: Path, title: str = "a.png", file: str | None = None) -> None:
    """Two examples of a run, each with two views; `file` takes the place of the first picture's name."""
    (run / "examples").mkdir(exist_ok=True)
    index = []
    for number in (1, 2):
        for view, color in ((1, "white"), (2, "gray")):
            Image.new("RGB", (4, 4), color).save(run / "examples" / f"{number}-{view}.png")
        views = [{"title": t, "file": f"{number}-{view}.png"} for view, t in ((1, "clean"), (2, "adversarial"))]
        index.append({"title": f"{title} {number}", "views": views})
    if file:
        index = [{"title": title, "views": [{"title": "clean", "file": file}]}]
    (run / "examples" / "examples.json").write_text(json.dumps({"examples": index}))


def adversarial_set(path: Path) -> Path:
    path.mkdir(parents=True)
    made = {"config": {"model": MODEL}, "name": "paper", "objective": "features", "surrogate": "dinov2_vits14"}
    (path / "attack.json").write_text(json.dumps({**made, "finished": True, "seconds": 3}))
    (path / "manifest.csv").write_text("image,linf_255\na.png,1.5\nb.png,2.5\n")
    return path


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data
