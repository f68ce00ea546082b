"""eval-class: what cannot be evaluated."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rtok.errors import UserError
from rtok.evaluation import evaluate_classification
from rtok.setup import Setup
from tests.evaluation.tasks.classification.helpers import config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": None}, "head: is missing"),
        ({"tokens": None}, "defense: is missing"),
        ({"head": {"type": "backbone"}}, "dinov2_vits14 has no classifier on its class token"),
        ({"head": {"type": "fit", "split": "val"}}, "has no folder 'val'"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    cfg = config(settings, **changes)
    with pytest.raises(UserError, match=message):
        evaluate_classification(cfg)
    assert not cfg.out.exists()


def test_heads_that_do_not_fit_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    def refused(message: str, **content: Tensor) -> None:
        torch.save(content, tmp_path / "head.pth")
        cfg = config(settings, head={"path": str(tmp_path / "head.pth")})
        with pytest.raises(UserError, match=message):
            evaluate_classification(cfg)
        assert not cfg.out.exists()

    refused("1000 classes, but the data has 3", weight=torch.zeros(1000, 128), bias=torch.zeros(1000))
    refused("width 100, but dinov2_vits14 gives 64 or 128", weight=torch.zeros(3, 100), bias=torch.zeros(3))
    refused("is a head without a bias", weight=torch.zeros(3, 128))


def test_data_that_cannot_be_classified(settings: dict[str, Any], labeled: Path, pictures: Path) -> None:
    def refused(message: str, **data: Any) -> None:
        cfg = config(settings, data={"name": "folder", "split": "test", "workers": 0, **data})
        with pytest.raises(UserError, match=message):
            evaluate_classification(cfg)
        assert not cfg.out.exists()

    refused("folder has no classes here", root=str(pictures))
    refused("9 images of train are also in test", root=str(labeled / "test"))  # no split folders: all one part


def test_splits_must_have_the_same_classes(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_any = Setup.open_source

    def with_other_names(setup: Setup, data: Any) -> Any:
        return dataclasses.replace(open_any(setup, data), class_names=["blue", "green", "violet"])

    monkeypatch.setattr(Setup, "open_source", with_other_names)
    with pytest.raises(UserError, match="both need the same class folders"):
        evaluate_classification(config(settings))
