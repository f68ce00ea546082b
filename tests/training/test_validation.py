"""What is held out, what is measured on it, and which state is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rtok.attacks.base import Context, craft
from rtok.attacks.criteria import FeatureCriterion, cosine
from rtok.attacks.objective import FixedSurrogate, Objective
from rtok.attacks.pgd import PGD
from rtok.compute import Compute
from rtok.config.schema import Config
from rtok.data.loader import Batch
from rtok.data.source import FileSource
from rtok.data.subset import hold_out_few
from rtok.data.transforms import floats
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.setup import Setup
from rtok.training import train
from rtok.training.loop import divided
from rtok.training.step import Trainer


def configured(settings: dict[str, Any], **changes: Any) -> Config:
    section = {"steps": 5, "batch_size": 3, "lr": 3.0, **changes}
    return Config.model_validate({**settings, "tokens": {"count": 2}, "train": section})


def test_the_best_state_is_kept_and_measured_white_box(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on: set[str] = set()
    step = Trainer.step

    def spy(self: Trainer, number: int, batch: Batch) -> list[dict[str, Any]]:
        trained_on.update(batch.keys)
        return step(self, number, batch)

    monkeypatch.setattr(Trainer, "step", spy)
    cfg = configured(settings, validate={"every": 2, "images": 2})
    train(cfg)
    rows = [json.loads(line) for line in (cfg.out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "cosine_to_plain" in row] == [2, 4, 5]
    best = max((row for row in rows if "fidelity" in row), key=lambda row: row["cosine_to_plain"])
    kept = RobustnessTokens.load(cfg.out / "rtokens.safetensors")
    assert kept.config["validated"] == {key: best[key] for key in ("step", "cosine_to_plain", "fidelity")}
    assert best["step"] < 5, "the rate is so high that the last state is not the best"

    setup = Setup.open(cfg, Compute.start())
    training, held = hold_out_few(setup.source, 2)
    assert trained_on == set(training.keys) and len(held) == 2 and not trained_on & set(held.keys)
    images = floats(torch.stack([setup.transform(held.read(i), 0) for i in range(2)]))
    plain, model = setup.backbone(images), kept.model(setup.backbone)
    objective = Objective(FixedSurrogate(model), FeatureCriterion(plain, "channel"))
    attack = PGD(eps=8 / 255, units="normalized", steps=10)
    attacked = craft(attack, images, objective, Context(held.keys, std=setup.backbone.std)).images
    for key, seen in (("cosine_to_plain", attacked), ("fidelity", images)):
        assert cosine(model(seen), plain, "channel").mean().item() == pytest.approx(best[key], abs=1e-5)


def test_groups_are_held_out_whole() -> None:
    keys = [f"photo{photo}#{tile}" for photo in range(8) for tile in range(5)]

    class Tiles(FileSource):
        @property
        def groups(self) -> list[str]:
            return [key.partition("#")[0] for key in self.keys]

    source = Tiles(Path("nowhere"), keys)
    training, held = hold_out_few(source, 6)
    assert len(held) == 6 and len(training) == 30  # of two photos, the others of which are in neither part
    assert not set(training.groups) & set(held.groups)
    assert [len(part) for part in hold_out_few(source, 5)] == [35, 5]
    with pytest.raises(UserError, match="nothing would be left"):
        hold_out_few(source, 36)


def test_epochs_are_steps_over_the_images_that_are_left(settings: dict[str, Any]) -> None:
    for changes, steps in (({}, 5), ({"validate": {"images": 2}}, 4)):  # of 7 pictures, 2 epochs, rounded up
        cfg = configured(settings, epochs=2, steps=None, **changes)
        setup, validator = divided(Setup.open(cfg, Compute.start()))
        assert setup.config.train.total_steps == steps
        assert (validator is not None) == bool(changes)
    with pytest.raises(UserError, match="only 5 steps"):
        divided(Setup.open(configured(settings, epochs=2, steps=None, warmup_steps=5), Compute.start()))


def test_more_epochs_go_on_where_fewer_ended(settings: dict[str, Any], tmp_path: Any) -> None:
    def epochs(count: int, name: str) -> Config:
        return configured({**settings, "out": str(tmp_path / name)}, epochs=count, steps=None, batch_size=7)

    train(epochs(1, "grown"))
    result = train(epochs(2, "grown"), resume=True)
    train(epochs(2, "whole"))
    assert result.last[0]["step"] == 2
    grown, whole = (RobustnessTokens.load(tmp_path / name / "rtokens.safetensors") for name in ("grown", "whole"))
    assert torch.equal(grown.values, whole.values)
    assert replace(grown, values=whole.values).config["train"]["steps"] == 2
