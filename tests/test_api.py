"""The Python API: what `rtok` exports, and the examples of its page."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rtok
from scripts.check_examples import PAGE, examples

ROOT = Path(rtok.__file__).parent.parent


def test_every_exported_name_is_there() -> None:
    assert set(rtok._HOME) == set(rtok.__all__) <= set(dir(rtok))
    for name in rtok.__all__:
        assert getattr(rtok, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'rtok' has no attribute 'load_model'"):
        _ = rtok.load_model  # type: ignore[attr-defined]


def test_type_checkers_are_told_the_same_names() -> None:
    block = next(node for node in ast.parse(Path(rtok.__file__).read_text()).body if isinstance(node, ast.If))
    told = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert told == rtok._HOME


def test_the_short_way_is_the_long_way() -> None:
    from rtok.attacks.pgd import PGD
    from rtok.inspection import inspect

    assert rtok.PGD is PGD and rtok.inspect is inspect


def test_names_are_imported_when_they_are_used() -> None:
    code = "import sys, rtok; rtok.UserError; rtok.Config; assert 'torch' not in sys.modules; rtok.PGD; import torch"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_the_examples_of_the_page_run(
    weights: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(pictures)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "dinov2_vits14.safetensors").symlink_to(weights)
    found = examples(PAGE)
    assert len(found) == 9
    names: dict[str, object] = {}
    for number, example in enumerate(found):
        exec(compile(example, f"{PAGE.name}, example {number}", "exec"), names)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [
        *("classifier.pth", "cosine.png", "evaluate.yaml", "photos", "results", "robust.safetensors", "weights")
    ]
