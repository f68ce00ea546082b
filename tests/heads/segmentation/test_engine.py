"""Bringing mmsegmentation up on machines where something is missing."""

import fcntl
import importlib
import os
import sys
import tempfile
from pathlib import Path

import pytest

from rtok.errors import UserError
from rtok.heads.segmentation import engine


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmseg.utils", None)
    engine.start.cache_clear()
    with pytest.raises(UserError) as error:
        engine.start()
    message = str(error.value)
    assert message.startswith('eval-seg needs mmsegmentation: pip install "robustness-tokens[seg]" (')
    assert "\n" not in message


def test_a_missing_library_of_the_system_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_display() -> None:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(engine, "provide_operations", no_display)
    engine.start.cache_clear()
    with pytest.raises(UserError, match=r"install --force-reinstall opencv-python-headless \(libGL"):
        engine.start()


def test_processes_that_write_the_same_cache_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    def nobody_else(name: str) -> None:
        with (Path(tempfile.gettempdir()) / f"rtok-yapf-{os.getuid()}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(name)

    monkeypatch.setattr(importlib, "import_module", nobody_else)
    engine.import_yapf()
    assert held == ["yapf"]


def test_a_stand_in_takes_the_place_of_missing_operations() -> None:
    engine.start()
    import mmcv
    from mmcv.ops import RoIAlign

    if not isinstance(sys.modules["mmcv._ext"], engine.NoCompiledOperations):
        pytest.skip("this mmcv has compiled operations")
    import torch

    with pytest.raises(RuntimeError, match="roi_align_forward was called, but this mmcv has none"):
        RoIAlign((2, 2))(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5))
    assert mmcv.__spec__ is not None


def test_compiled_operations_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import mmcv

    (tmp_path / "_ext.py").write_text("compiled = True\n")
    monkeypatch.setattr(mmcv, "__path__", [*mmcv.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    monkeypatch.delattr(mmcv, "_ext", raising=False)
    engine.provide_operations()
    assert "mmcv._ext" not in sys.modules
    import mmcv._ext

    assert mmcv._ext.compiled
    monkeypatch.delattr(mmcv, "_ext")
    monkeypatch.delitem(sys.modules, "mmcv._ext")
