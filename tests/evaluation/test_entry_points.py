"""Every entry point of the Python API refuses what the rule book refuses, before it writes anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rtok
from rtok.config import Config
from rtok.config.rules import RULES
from rtok.errors import UserError
from rtok.evaluation import evaluate_classification, evaluate_features, evaluate_segmentation, make_adversarial_set

ENTRIES: dict[str, Callable[[Config], Any]] = {
    "train": rtok.train,
    "attack": make_adversarial_set,
    "eval-features": evaluate_features,
    "eval-class": evaluate_classification,
    "eval-seg": evaluate_segmentation,
}
GUESSED = {"defense": "t", "threats": ["guessed"]}
SMALLER = {"surrogate": {"model": {"name": "dinov2_vits14", "image_size": 112}}}


def test_every_command_is_here() -> None:
    assert set(ENTRIES) == set(RULES)


@pytest.mark.parametrize(
    ("command", "changes", "path"),
    [
        ("train", {}, "defense"),
        ("train", {"defense": "t"}, "defense"),
        ("train", {"defense": {}, "attack": {"method": "autoattack"}}, "attack.method"),
        ("attack", {"attack": [{}, {"steps": 3}]}, "attack"),
        ("attack", {"attack": {"from": "set"}}, "attack.from"),
        ("attack", {"attack": {"preset": "ensemble"}}, "attack.variants"),
        ("attack", {"attack": {"quantize": "none"}}, "attack.quantize"),
        ("attack", {"attack": {"method": "autoattack", "quantize": "round"}}, "attack.method"),
        ("attack", SMALLER, "surrogate.model.image_size"),
        ("eval-features", {}, "defense"),
        ("eval-features", {"defense": "t", "attack": {"method": "autoattack"}}, "attack.method"),
        ("eval-features", {"defense": "t", **SMALLER}, "surrogate.model.image_size"),
        ("eval-features", GUESSED, "guessed"),
        ("eval-class", {"head": {"type": "fit", "split": "val"}}, "defense"),
        ("eval-class", {"defense": "t"}, "head"),
        ("eval-class", {**GUESSED, "head": {"type": "fit", "split": "val"}}, "guessed"),
        ("eval-seg", {"head": {"type": "fit", "split": "val"}}, "defense"),
        ("eval-seg", {"defense": "t"}, "head"),
        ("eval-seg", {**GUESSED, "head": {"type": "fit", "split": "val"}}, "guessed"),
    ],
)
def test_a_broken_rule_is_refused(command: str, changes: dict, path: str, tmp_path: Path) -> None:
    raw: dict[str, Any] = {"model": {"name": "dinov2_vits14"}, "data": {"name": "photos"}}
    if command == "eval-seg":
        raw["model"]["image_size"] = 518
        raw["data"] = {"name": "ade20k", "root": "nowhere"}
    config = Config.model_validate({**raw, **changes, "out": str(tmp_path / "run")})
    with pytest.raises(UserError) as caught:
        ENTRIES[command](config)
    first, problem = str(caught.value).split("\n")
    assert first == f"config for {command}: 1 mistake" and problem.startswith(f"  {path}: ")
    assert not config.out.exists()
