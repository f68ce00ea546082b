"""Defenses that the attacker has or trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from rtok.attacks import PGD, Context, FeatureCriterion, FixedSurrogate, Objective, craft
from rtok.config.schema import Config
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.evaluation import evaluate_features
from tests.evaluation.helpers import column, opened, run


def test_guessed_tokens_are_attacked_through(
    small: dict[str, Any], tmp_path: Path, make_tokens: Callable[[str, int], str]
) -> None:
    """An attacker who guessed right crafts on the victim itself, away from plain(clean)."""
    own = make_tokens("guess", 0)
    run(small, tmp_path / "run", threats=["guessed"], guessed=own)
    backbone, batch = opened(small)
    r, target = RobustnessTokens.load(Path(own)).values, backbone(batch.images)
    objective = Objective(FixedSurrogate(lambda x: backbone(x, r)), FeatureCriterion(target, "channel"))
    adversarial = craft(PGD(steps=3), batch.images, objective, Context(batch.keys)).images
    expected = F.cosine_similarity(backbone(adversarial, r), target, dim=-1).mean(1)
    wanted = {"threat": "guessed", "victim": "robust"}
    found = column(tmp_path / "run", "cosine_to_plain_alone", **wanted)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    other = make_tokens("other", 5)
    run(small, tmp_path / "two", threats=["guessed"], guessed=[own, other])
    assert not torch.allclose(column(tmp_path / "two", "cosine_to_plain_alone", **wanted), found, atol=1e-4)


def test_the_attacker_trains_their_own_tokens(small: dict[str, Any], tmp_path: Path) -> None:
    """As the victim's file says it was trained, but from other seeds; a resumed run finds them again."""
    recipe = {
        "tokens": {"init_std": 0.02},
        "attack": {"preset": "paper", "steps": 1},
        "train": {"steps": 2, "batch_size": 2},
        "data": {"resize": "random-crop"},
    }
    tokens = RobustnessTokens.draw(4, 64, backbone="dinov2_vits14", image_size=(28, 28))
    tokens = replace(tokens, config=recipe)
    tokens.save(tmp_path / "known.safetensors")
    changes = {
        "tokens": str(tmp_path / "known.safetensors"),
        "threats": ["guessed"],
        "guessed": {"train": 2},
        "seed": 3,
    }
    results = run(small, tmp_path / "run", **changes)
    assert [(row["threat"], row["victim"]) for row in results["rows"]] == [("guessed", "random"), ("guessed", "robust")]
    files = sorted((tmp_path / "run" / "guessed").glob("rtokens*.safetensors"))
    made = [RobustnessTokens.load(file) for file in files]
    assert [one.values.shape for one in made] == [(1, 4, 64)] * 2
    assert not torch.equal(made[0].values, made[1].values)
    config = made[0].config
    assert config["data"]["resize"] == "random-crop" and config["data"]["split"] == "train"
    assert (config["train"]["steps"], config["attack"]["steps"], config["defense"]["init_std"]) == (2, 1, 0.02)
    assert 0 not in config["defense"]["seeds"] and config["seed"] not in (0, 3)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "finished": False}))
    times = [file.stat().st_mtime_ns for file in files]
    run_again = Config.model_validate({**small, "batch_size": 7, "out": str(tmp_path / "run"), **changes})
    again = evaluate_features(run_again, resume=True)
    assert again["rows"] == results["rows"] and [file.stat().st_mtime_ns for file in files] == times


def test_guessed_without_tokens_is_refused(small: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the attacker's token files"):
        run(small, tmp_path / "run", threats=["guessed"])
    assert not (tmp_path / "run").exists()
