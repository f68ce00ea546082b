"""Every command has one main column, and columns can be added from outside."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from rtok.errors import UserError
from rtok.results import columns
from rtok.results.columns import COLUMNS, Column, main_column, measure_added, paired_columns, register_column

NORM = Column("norm", "norm")


@pytest.fixture(autouse=True)
def _own_columns(monkeypatch):
    monkeypatch.setattr(columns, "COLUMNS", dict(COLUMNS))


@pytest.mark.parametrize(
    ("command", "main", "paired"),
    [
        ("eval-features", "cosine_to_plain", ["cosine_to_plain", "retrieval", "retrieval_clean"]),
        ("eval-class", "adversarial_accuracy", ["adversarial_accuracy", "clean_accuracy"]),
        (
            "eval-seg",
            "adversarial_miou",
            ["adversarial_miou", "clean_miou", "adversarial_image_miou", "clean_image_miou", "pixel_accuracy"],
        ),
    ],
)
def test_main_and_paired_columns(command, main, paired):
    assert main_column(command).key == main
    assert [column.key for column in paired_columns(command)] == paired
    assert [column.main for column in COLUMNS[command]].count(True) == 1
    keys = [column.key for column in COLUMNS[command]]
    assert len(set(keys)) == len(keys)
    assert {column.clean for column in COLUMNS[command] if column.clean} <= set(keys)


def test_a_column_is_added_once_to_a_command_that_exists():
    register_column("eval-class", NORM, lambda view: np.ones(2))
    assert columns.COLUMNS["eval-class"][-1].key == "norm"
    for command, column, said in (
        ("eval-class", NORM, "has a column 'norm' already"),
        ("eval-class", Column("adversarial_correct", "x"), "has a column 'adversarial_correct' already"),
        ("eval-classes", NORM, "Did you mean 'eval-class'"),
    ):
        with pytest.raises(UserError, match=said):
            register_column(command, column, lambda view: np.ones(2))


def test_a_measure_gives_a_number_per_image():
    register_column("eval-class", NORM, lambda view: np.ones(3))
    view = SimpleNamespace(batch=SimpleNamespace(keys=["a", "b"]))
    assert measure_added("eval-features", view) == {}
    with pytest.raises(UserError, match=r"column 'norm' gives shape \[3\]; valid: \[2\]"):
        measure_added("eval-class", view)
