"""Training: its files, what it changes, and what changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import rtok
from rtok.config.registry import DEFENSES
from rtok.defenses import RobustnessTokens
from rtok.models import load_backbone
from rtok.training import train
from rtok.training.loop import make_trainees
from rtok.training.step import Trainer
from tests.training.runs import FILES, KINDS, SGD, assert_same, config, metrics, tokens, trained


def test_every_kind_is_here() -> None:
    assert set(KINDS) == set(DEFENSES)


def test_it_writes_these_files_and_no_others(settings: dict[str, Any]) -> None:
    cfg = config(settings)
    train(cfg)
    assert sorted(path.name for path in cfg.out.iterdir()) == FILES
    rows = metrics(cfg.out)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert list(rows[0]) == ["step", "loss", "invariance", "adversarial", "undefended", "image_mse", "lr", "seconds"]
    record = json.loads((cfg.out / "run.json").read_text())
    assert record["finished"] and torch.__version__.startswith(record["versions"]["torch"])
    loaded = RobustnessTokens.load(cfg.out / "rtokens.safetensors")
    assert loaded.backbone == "dinov2_vits14" and loaded.image_size == (28, 28) and loaded.count == 3
    assert loaded.config["train"]["steps"] == 4
    assert loaded.version == rtok.__version__
    assert loaded.fingerprint == load_backbone("dinov2_vits14", weights=cfg.model.weights).fingerprint()


def test_training_raises_the_objective(settings: dict[str, Any]) -> None:
    cfg = config(settings, train={"steps": 10, "batch_size": 7, "lr": 0.02})
    train(cfg)
    rows = metrics(cfg.out)
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_defense_changes(small: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    seen: list[Trainer] = []
    original = Trainer.__init__

    def spy(self: Trainer, *arguments: Any) -> None:
        original(self, *arguments)
        seen.append(self)

    monkeypatch.setattr(Trainer, "__init__", spy)
    cfg = config(small, tokens=KINDS[kind])
    train(cfg)
    before = load_backbone(cfg.model.name, weights=cfg.model.weights, image_size=32).state_dict()
    backbone = seen[0].backbone
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())
    start = make_trainees(cfg, backbone, torch.device("cpu"))[0].defense.parameters()
    for name, values in trained(cfg.out).items():
        # of a grid of positions that is resized only those change that are next to one of the new grid
        assert ((values - start[name]).abs() > 1e-6).float().mean() > (0.1 if name == "pos_embed" else 0.9)


def test_the_same_seed_gives_the_same_tokens(settings: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(config(settings, out=tmp_path / name))
    train(config(settings, out=tmp_path / "c", seed=1))
    assert torch.equal(tokens(tmp_path / "a"), tokens(tmp_path / "b"))
    assert not torch.allclose(tokens(tmp_path / "a"), tokens(tmp_path / "c"), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_change_nothing(
    small: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    steps = {"steps": 4, "batch_size": 4, **SGD}
    train(config(small, out=tmp_path / "whole", tokens=KINDS[kind], train=steps))
    assert "images at a time" not in "".join(capsys.readouterr())
    train(config(small, out=tmp_path / "parts", tokens=KINDS[kind], train={**steps, "micro_batch": 3}))
    assert "; 3 images at a time for less memory" in " ".join("".join(capsys.readouterr()).split())
    assert_same(tmp_path / "parts", tmp_path / "whole", atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_activation_checkpointing_changes_nothing(small: dict[str, Any], tmp_path: Path, kind: str) -> None:
    steps = {"steps": 3, "batch_size": 3}
    train(config(small, out=tmp_path / "kept", tokens=KINDS[kind], train=steps))
    again = {**steps, "activation_checkpointing": True}
    train(config(small, out=tmp_path / "again", tokens=KINDS[kind], train=again))
    assert_same(tmp_path / "again", tmp_path / "kept")


@pytest.mark.parametrize("threat", ["transfer", "adaptive", "mixed"])
def test_several_token_sets_equal_runs_of_their_own(settings: dict[str, Any], tmp_path: Path, threat: str) -> None:
    steps = {"steps": 3, "batch_size": 4, "threat": threat}
    train(config(settings, out=tmp_path / "many", tokens={"count": [2, 5], "seeds": [0, 7]}, train=steps))
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert files == [f"rtokens-{n}-seed{s}.safetensors" for n in (2, 5) for s in (0, 7)]
    for count, seed in ((2, 0), (5, 7)):
        out = tmp_path / f"{count}-{seed}"
        train(config(settings, out=out, tokens={"count": count, "seeds": [seed]}, train=steps))
        many = load_file(tmp_path / "many" / f"rtokens-{count}-seed{seed}.safetensors")["rtokens"]
        assert torch.equal(many, tokens(out))


def test_warm_up_is_linear(settings: dict[str, Any]) -> None:
    cfg = config(settings, train={"steps": 4, "batch_size": 2, "warmup_steps": 2, "lr": 0.01})
    train(cfg)
    assert [row["lr"] for row in metrics(cfg.out)] == pytest.approx([0.005, 0.01, 0.01, 0.01])


def test_curves_go_to_tensorboard_when_asked(settings: dict[str, Any]) -> None:
    cfg = config(settings, tracking="tensorboard", train={"steps": 2, "batch_size": 2})
    train(cfg)
    assert list(cfg.out.rglob("events.out.tfevents*"))
