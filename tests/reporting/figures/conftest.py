"""Images and a way to look at a figure before it becomes pixels."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

FIGURES = ("activations", "curves", "examples", "features", "segmentation", "summary", "tradeoff")


@pytest.fixture
def images():
    """Clean and adversarial images (3, 3, 28, 42) of 8 bits, the largest change 4 of 255."""
    generator = np.random.default_rng(0)
    clean = generator.integers(10, 246, (3, 3, 28, 42))
    change = generator.integers(-4, 5, clean.shape)
    change[:, 0, 0, 0], change[:, 0, 0, 1] = 4, -4
    return (clean / 255).astype(np.float32), ((clean + change) / 255).astype(np.float32)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, in order; they are written as well."""
    found = []
    for name in FIGURES:
        module = importlib.import_module(f"rtok.reporting.figures.{name}")

        def save(figure, path, write=module.save):
            write(figure, path)
            found.append(figure)

        monkeypatch.setattr(module, "save", save)
    return found
