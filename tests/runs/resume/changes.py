"""How runs end early, and how their inputs change meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rtok.defenses import RobustnessTokens


def killed(patch: pytest.MonkeyPatch, owner: Any, method: str, after: int) -> None:
    """Let a method end the run at its call number `after`, from 0."""
    original, calls = getattr(owner, method), []

    def stop(*arguments: Any, **options: Any) -> Any:
        calls.append(method)
        if len(calls) > after:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    patch.setattr(owner, method, stop)


def other_tokens(folder: Path) -> None:
    RobustnessTokens.draw(3, 384, std=0.5, seed=1, backbone="dinov2_vits14").save(folder / "tokens.safetensors")


def other_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "weights.safetensors")
    state["norm.weight"] = state["norm.weight"] * 2
    save_file(state, folder / "weights.safetensors")


def other_content(folder: Path) -> None:
    Image.new("RGB", (40, 40), "red").save(folder / "pictures" / "picture3.png")


def one_more(folder: Path) -> None:
    shutil.copy(folder / "pictures" / "picture0.png", folder / "pictures" / "picture9.png")


def one_less(folder: Path) -> None:
    (folder / "pictures" / "picture6.png").unlink()
