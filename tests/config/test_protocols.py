"""A protocol fixes its settings, whatever the defaults are, and names what a run changes."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from rtok.config import load_config
from rtok.config.protocols import deviations, fixed
from rtok.config.ready import protocols
from rtok.config.schema import Config
from rtok.errors import UserError
from rtok.runs.folder import ENTRIES

GIVEN = ["model.name=dinov2_vits14", "defense=results/x", "data.root=/data/imagenet"]


def loaded(*overrides: str) -> Config:
    return load_config("eval-features", "protocol-v1", [*GIVEN, *overrides])


@pytest.mark.parametrize(
    "free",
    [
        [],
        ["model.name=deit3_small_patch16_224", "model.weights=/weights.safetensors", "batch_size=7", "data.workers=0"],
        ["data.name=folder", "data.root=/photos", "data.holdout=0.5", "compile=true", "curve=[1/255]", "out=/results"],
    ],
)
def test_what_the_user_chooses_is_no_deviation(free: list[str]) -> None:
    config = loaded(*free)
    assert deviations(config) == {}
    assert fixed(config) == fixed(loaded())


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.image_size=98", {"model.image_size": 98}),
        ("attack.1.steps=2", {"attack.1.steps": 2}),
        ("attack.4.variants=[{axis: token}]", {"attack.4.variants": [{"axis": "token"}]}),
        ("threats=[transfer]", {"threats": ["transfer"]}),
        ("extracted.steps=1", {"extracted.steps": 1}),
        ("data.limit=10", {"data.limit": 10}),
        ("data.split=train", {"data.split": "train"}),
        ("seed=1", {"seed": 1}),
        ("control_draws=1", {"control_draws": 1}),
        ("informed.draws=4", {"informed.draws": 4}),
        ("check_weights=false", {"check_weights": False}),
        ("precision=bf16", {"precision": "bf16"}),
        ("surrogate.model=dinov2_vitb14", {"surrogate.model": "dinov2_vitb14"}),
        ("sanity.images=0", {"sanity.images": 0}),
    ],
)
def test_every_other_change_is_named(override: str, expected: dict[str, Any]) -> None:
    found = deviations(loaded(override))
    assert {key: found[key] for key in expected} == expected
    assert {key.partition(".")[0] for key in found} == {key.partition(".")[0] for key in expected}


def test_protocol_v1_does_not_change() -> None:
    """Its results would be comparable no more: another protocol is another file."""
    config = loaded()
    assert [(attack.units, round(attack.eps * 255, 6)) for attack in config.attacks] == [
        ("normalized", 8),
        *(("pixel", radius) for radius in (1, 2, 4, 8)),
    ]
    assert {attack.quantize for attack in config.attacks} == {"round"}
    assert {(attack.method, attack.counts["steps"]) for attack in config.attacks} == {("apgd", 100)}
    changes = [{"restarts": 5}, {"init": "transfer"}, {"features": "cls"}, {"layer": 0.5}]
    assert all(attack.model_dump()["variants"] == changes for attack in config.attacks)
    assert [member.counts["restarts"] for member in config.attacks[0].members] == [5, 1, 1, 1]
    assert config.threats == ["transfer", "informed", "extracted", "adaptive"]
    assert config.extracted and config.extracted.model_dump() == {
        **{"queries": None, "queries_per_image": 2, "steps": 100, "lr": None}
    }
    about = (config.data.limit, config.data.limit_per_group, config.data.resize, config.data.split)
    assert about == (200, 20, "squash", "val") and config.model.size == (224, 224)
    assert (config.control_draws, config.seed, config.precision) == (3, 0, "fp32")


def test_without_a_protocol_nothing_is_fixed() -> None:
    config = loaded().model_copy(update={"protocol": None})
    assert fixed(config) == {} and deviations(config) == {}


@pytest.mark.parametrize("name", protocols())
def test_a_protocol_names_itself_and_its_entries_are_found(name: str) -> None:
    text = protocols()[name]
    assert yaml.safe_load(text)["protocol"] == name and text.startswith("# ")
    assert fnmatch(f"{name}-tokens.json", ENTRIES)


def test_what_is_missing_and_what_is_unknown(folder: Path) -> None:
    with pytest.raises(UserError, match=r"model\.name: is missing"):
        load_config("eval-features", "protocol-v1", ["defense=results/x", "data.root=/data"])
    with pytest.raises(UserError, match=r'protocol: "protocol-v0" was given; valid: a protocol: protocol-v1'):
        loaded("protocol=protocol-v0")
