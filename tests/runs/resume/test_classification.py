"""The inputs of a classification: its head, and its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rtok.config.schema import Config
from rtok.errors import UserError
from rtok.evaluation import evaluate_classification
from rtok.evaluation.loop import Evaluator
from rtok.heads.files import save_head
from rtok.heads.linear import LinearHead
from tests.runs.resume.changes import killed


def by_class(inputs: dict[str, Any], folder: Path, classes: int) -> dict[str, Any]:
    """Settings of a classification of the pictures, in class folders, with a head from a file."""
    for number, picture in enumerate(sorted((folder / "pictures").iterdir())):
        (folder / "pictures" / str(number % classes)).mkdir(exist_ok=True)
        picture.rename(folder / "pictures" / str(number % classes) / picture.name)
    head(folder, classes, seed=0)
    return {**inputs, "head": {"type": "linear", "path": str(folder / "head.safetensors")}}


def head(folder: Path, classes: int, seed: int) -> None:
    weight = torch.randn(classes, 768, generator=torch.Generator().manual_seed(seed))
    save_head(folder / "head.safetensors", LinearHead(weight, torch.zeros(classes)), {})


def test_a_head_is_an_input(inputs: dict[str, Any], tmp_path: Path) -> None:
    config = Config.model_validate(by_class(inputs, tmp_path, 2))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_classification(config)
    head(tmp_path, 2, seed=1)
    with pytest.raises(UserError, match=r"have changed since it began: head.path .*head.safetensors"):
        evaluate_classification(config, resume=True)
    head(tmp_path, 2, seed=0)
    assert evaluate_classification(config, resume=True)["images"] == 7


def test_one_class_is_nothing_to_classify(inputs: dict[str, Any], tmp_path: Path) -> None:
    config = Config.model_validate(by_class(inputs, tmp_path, 1))
    with pytest.raises(UserError, match="folder has the class '0' alone here"):
        evaluate_classification(config)
    assert not config.out.exists()
