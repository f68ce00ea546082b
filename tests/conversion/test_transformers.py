"""Every family in the format of transformers, loaded by transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open

from rtok.conversion import convert
from tests.conversion.readers import BAR, by_transformers


@pytest.mark.parametrize(
    ("name", "registers", "size"),
    [
        ("dinov2_vits14", 5, None),
        ("dinov2_vits14", 5, 112),
        ("dinov2_vits14_reg", 9, None),
        ("dinov2_vits14_reg", 9, 112),
        ("dinov2_vitg14_reg", 9, None),
        ("dinov3_vits16", 9, None),
        ("dinov3_vits16", 9, 64),
        ("dinov3_vith16plus", 9, None),
    ],
)
def test_transformers_computes_our_features(
    robust: Any, tmp_path: Path, name: str, registers: int, size: int | None
) -> None:
    made = robust(name)
    out = tmp_path / "robust"
    convert(made.path, out, to="transformers", backbone_weights=made.weights, image_size=size)
    images = made.images(size=size)
    found = by_transformers(out, made.normalized(images), registers)
    assert (found - made.features(images)).abs().max() < BAR
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


def test_transformers_prepares_images_as_the_model_takes_them(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14")
    done = convert(made.path, tmp_path / "r", to="transformers", backbone_weights=made.weights, image_size=56)
    pixels = torch.randint(0, 256, (3, 56, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "r")
    found = processor(images=[pixels.permute(1, 2, 0).numpy()], return_tensors="pt")["pixel_values"]
    assert torch.allclose(found, made.normalized(pixels[None] / 255), atol=1e-5)
    assert done.usage.endswith("AutoImageProcessor; patches from position 6 on")


def test_the_transformers_config_says_what_it_is(robust: Any, tmp_path: Path) -> None:
    made = robust("dinov2_vits14_reg")
    convert(made.path, tmp_path / "robust", to="transformers", backbone_weights=made.weights, dtype="bf16")
    config = json.loads((tmp_path / "robust" / "config.json").read_text())
    assert config["dtype"] == "bfloat16" and config["rtok"]["registers"] == 4
    assert config["rtok"]["tokens"] == made.tokens.metadata
    with safe_open(tmp_path / "robust" / "model.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == "pt"
        assert json.loads(file.metadata()["rtok"]) == config["rtok"]
    assert transformers.AutoConfig.from_pretrained(tmp_path / "robust").rtok == config["rtok"]
