"""Every kind of defense is trained, attacked under every threat, and checked like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from rtok.config.registry import DEFENSES
from rtok.config.schema import Config
from rtok.evaluation import evaluate_features
from rtok.training import train
from tests.tiny import save_test_vit

SMALLEST: dict[str, dict[str, Any]] = {
    "tokens": {"count": 2},
    "deep-tokens": {"count": 2},
    "lora": {"rank": 2, "blocks": [0]},
    "weights": {},
}


@pytest.fixture
def small(settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    save_test_vit(tmp_path / "vit.safetensors")
    model = {"name": "timm:test_vit", "weights": str(tmp_path / "vit.safetensors"), "image_size": 32}
    return {**settings, "model": model, "attack": {"preset": "standard", "steps": 3}}


def test_every_kind_is_here() -> None:
    assert set(SMALLEST) == set(DEFENSES)


def test_every_kind_under_every_threat(small: dict[str, Any], tmp_path: Path) -> None:
    """And a file that others made, under a name of their own, and a stack of two."""
    files = []
    for kind, form in SMALLEST.items():
        steps = {"steps": 2, "batch_size": 2, "lr": 1e-2, "threat": "adaptive"}
        defense = {"kind": kind, **form}
        files += train(
            Config.model_validate({**small, "defense": defense, "train": steps, "out": tmp_path / kind})
        ).files
    others = tmp_path / "fare_eps_2.pt"
    tuned = timm.create_model("test_vit", num_classes=0).state_dict()
    torch.save({"model": {name: tensor + 0.2 * torch.randn(tensor.shape) for name, tensor in tuned.items()}}, others)
    threats = {
        "threats": ["transfer", "informed", "extracted", "adaptive"],
        "extracted": {"queries_per_image": 1, "steps": 2},
    }
    checks = {"sanity": {"images": 1, "queries": 20}, "control_draws": 1}
    config = Config.model_validate(
        {
            **small,
            **threats,
            **checks,
            "defense": [*map(str, files), str(others), {"stack": [str(files[2]), str(tmp_path / "tokens")]}],
            "out": tmp_path / "eval",
        }
    )
    results = evaluate_features(config)
    assert json.loads((tmp_path / "eval" / "results.json").read_text())["rows"] == results["rows"]
    robust = {(row["threat"], row["defense"]): row for row in results["rows"] if row["victim"] == "robust"}
    stack = f"{files[2]} + {files[0]}"
    for kind, file in zip([*SMALLEST, "weights", "stack"], [*files, others, stack], strict=True):
        rows = {threat: row for (threat, name), row in robust.items() if name == str(file)}
        controlled = kind == "stack" or DEFENSES.find(kind).load().has_control
        assert set(rows) == {"transfer", "extracted", "adaptive"} | ({"informed"} if controlled else set())
        assert {row["kind"] for row in rows.values()} == {kind}
        assert all(-1 <= row["cosine_to_plain"] < 1 for row in rows.values())
        assert results["defenses"][str(file)]["kind"] == kind
    controls = {row["kind"] for row in results["rows"] if row["victim"] == "random"}
    assert controls == {"tokens", "deep-tokens", "stack"}
    assert results["sanity"] is not None
