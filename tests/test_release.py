"""A file with tokens inside says what it is, and is not taken for a plain backbone."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rtok import release
from rtok.checkpoints import read_checkpoint
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError

TOKENS = RobustnessTokens(
    torch.randn(1, 3, 8),
    backbone="dinov2_vits14",
    image_size=(28, 28),
    config={"train": {"steps": 4}},
    version="0.1.0",
    fingerprint="f00",
)


def save_pickled(path: Path, metadata: dict[str, str], wrapper: str | None = None) -> None:
    state: Any = OrderedDict(rtokens=TOKENS.values)
    state._metadata = OrderedDict({"": {"version": 1}, "inner": {"version": 1, **metadata}})
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, path)


def test_a_description_survives_a_safetensors_file(tmp_path: Path) -> None:
    about = release.describe(TOKENS.metadata, "timm", registers=4)
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata=release.to_metadata(about))
    found = release.description(read_checkpoint(tmp_path / "x.safetensors").metadata)
    assert found == about
    assert found["registers"] == 4 and found["tokens"]["n"] == "3"


@pytest.mark.parametrize("wrapper", [None, "state_dict"])
def test_a_description_survives_a_pickled_state_dict(tmp_path: Path, wrapper: str | None) -> None:
    about = release.describe(TOKENS.metadata, "robustify")
    save_pickled(tmp_path / "x.pth", release.to_metadata(about), wrapper)
    assert release.description(read_checkpoint(tmp_path / "x.pth").metadata) == about
    loaded = RobustnessTokens.load(tmp_path / "x.pth")
    assert (loaded.backbone, loaded.image_size, loaded.config) == (TOKENS.backbone, TOKENS.image_size, TOKENS.config)
    assert (loaded.version, loaded.fingerprint) == ("0.1.0", "f00")


@pytest.mark.parametrize("metadata", [{}, {"rtok": "no JSON {"}, {"rtok": "[1]"}, {"format": "pt"}])
def test_what_others_write_has_no_description(metadata: dict[str, str]) -> None:
    assert release.description(metadata) is None


def test_a_robust_model_is_no_backbone(tiny: Any, tmp_path: Path) -> None:
    model = tiny("dinov2_vits14_reg")
    about = release.to_metadata(release.describe(TOKENS.metadata, "timm"))
    save_file({k: v.contiguous() for k, v in model.vit.state_dict().items()}, model.path, metadata=about)
    with pytest.raises(UserError, match=r"not a plain backbone: it has 3 robustness tokens inside \(timm"):
        model.load()
