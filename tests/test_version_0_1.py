"""What rtok 0.1.0 wrote is read, or refused in one line that says what changed. `v0_1` holds its own files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rtok
from rtok.attacks.stored import AdversarialSet
from rtok.config import TokensConfig
from rtok.defenses import defense_files
from rtok.reporting.results import Results
from rtok.runs.folder import RunFolder
from rtok.runs.resume import command_of

SAMPLES = Path(__file__).parent / "v0_1"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runs, in the folder that their relative paths start from."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "vits14.safetensors").touch()
    shutil.copytree(SAMPLES, tmp_path / "results")
    return tmp_path / "results"


def test_configs(runs: Path) -> None:
    train = rtok.load_config("train", runs / "train" / "config.yaml")
    assert isinstance(train.defense, TokensConfig)
    assert (train.defense.count, train.defense.seeds, train.train.steps) == (2, [0], 2)
    assert train.attacks[0].label == "paper, steps 2"
    measured = rtok.load_config("eval-features", runs / "eval" / "config.yaml")
    assert measured.defense_paths == [Path("results/train")]
    assert measured.threats == ["transfer", "adaptive"] and measured.sanity.images == 1
    assert rtok.load_config("train", runs / "train" / "config.yaml", ["tokens.count=3"]).defense.count == 3  # type: ignore[union-attr]


def test_tokens(runs: Path, tiny: Callable[..., Any]) -> None:
    (file,) = defense_files(runs / "train")
    tokens = rtok.load_defense(file)
    assert isinstance(tokens, rtok.RobustnessTokens)
    assert (tokens.values.shape, tokens.backbone, tokens.image_size) == ((1, 2, 384), "dinov2_vits14", (28, 28))
    assert (tokens.version, tokens.seen) == ("0.1.0", None) or not tokens.seen
    assert tokens.settings() == {"kind": "tokens", "count": 2, "init_std": 0.01}
    assert tokens.method is not None and tokens.training_seed == (0, 0)
    control = tokens.untrained(0, "control", 0)
    assert control.values.std().item() == pytest.approx(0.01, rel=0.1)  # type: ignore[attr-defined]
    backbone = tiny("dinov2_vits14", embed_dim=384, num_heads=6).load(image_size=28)
    with pytest.raises(rtok.UserError, match="were trained on other weights"):
        tokens.check(backbone, file)
    model = tokens.model(backbone)
    assert model(torch.rand(1, 3, 28, 28)).shape == (1, 5, 384)
    (found,) = rtok.inspect(file)
    assert found.facts["made by"] == "rtok 0.1.0" and found.facts["tokens"] == "2 of width 384"


def test_results_and_a_report(runs: Path, tmp_path: Path) -> None:
    results = Results.load(runs / "eval")
    assert [(row["threat"], row["victim"], row["defense"], row["kind"]) for row in results.rows] == [
        ("transfer", "plain", None, None),
        ("transfer", "random", None, "tokens"),
        ("transfer", "robust", "results/train/rtokens.safetensors", "tokens"),
        ("adaptive", "robust", "results/train/rtokens.safetensors", "tokens"),
    ]
    assert "cosine to plain" in results._repr_html_() and results.plot().axes
    written = rtok.report(runs / "train", runs / "eval", out=tmp_path / "report")
    assert "0.1.0" in written.markdown.read_text()


def test_adversarial_sets(runs: Path) -> None:
    stored = AdversarialSet.open(runs / "attack")
    assert sorted(stored.rows) == ["test/a/picture2.png", "test/b/picture3.png"]
    measured = rtok.load_config("eval-features", runs / "eval" / "config.yaml")
    assert stored.surrogate_is_plain(measured)


@pytest.mark.parametrize(("command", "folder"), [("train", "train"), ("eval-features", "eval"), ("attack", "attack")])
def test_a_run_cannot_be_resumed_and_says_why(runs: Path, command: str, folder: str) -> None:
    found, config = command_of(runs / folder)
    assert found == command
    record = "attack.json" if command == "attack" else "config.yaml"
    with pytest.raises(rtok.UserError, match=r"holds a run of rtok 0\.1\.0, which recorded neither") as caught:
        RunFolder(runs / folder, config.to_dict(), record=record, resume=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(rtok.UserError, match="already holds a run"):
        RunFolder(runs / folder, config.to_dict(), record=record)
    assert not RunFolder(runs / folder, config.to_dict(), record=record, overwrite=True).resuming
