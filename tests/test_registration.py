"""What plugins call: names that can be used at once, and messages for what cannot be registered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

import rtok
from rtok.config import AttackConfig, Config, DefenseConfig, TokensConfig, TrainConfig
from rtok.config.registry import ATTACKS, DEFENSES
from rtok.config.rules import check
from rtok.errors import UserError
from rtok.models.registry import find


class ShiftConfig(DefenseConfig):
    """A learned shift of every image.

    It has one option.
    """

    kind: str = "shift"
    width: int = 3


class NudgeConfig(AttackConfig):
    """One small step."""

    method: str = "nudge"  # type: ignore[assignment]


pytestmark = pytest.mark.usefixtures("forgotten")


def make(**sections: object) -> Config:
    return Config.model_validate({"model": {"name": "dinov2_vits14"}, "data": {"name": "photos"}, **sections})


def test_a_defense_gets_a_section_of_its_own() -> None:
    rtok.register_defense("shift", object, ShiftConfig)
    config = make(defense={"kind": "shift", "width": 5, "seeds": [1, 2]})
    assert config.defense == ShiftConfig(width=5, seeds=[1, 2])
    assert check(config, "train") == []
    assert make(**{k: v for k, v in config.to_dict().items() if k not in ("model", "data")}) == config
    assert make(tokens={"count": 3}).defense == TokensConfig(count=3)
    assert DEFENSES.find("shift").about == "A learned shift of every image"
    with pytest.raises(ValueError, match=r"defense\.<a mapping>\.<shift>\.count"):
        make(defense={"kind": "shift", "count": 5})
    DEFENSES.remove("shift")
    with pytest.raises(ValueError, match="kind"):
        make(defense={"kind": "shift"})


def test_a_data_set_says_what_it_needs_and_has() -> None:
    rtok.register_dataset("squares", "toys:open_squares", "squares", needs_root=False)
    rtok.register_dataset("maps", "toys:open_maps", "maps", has_masks=True)
    assert make(data={"name": "squares"}).data.root is None
    with pytest.raises(ValueError, match="data set 'maps' needs its folder"):
        make(data={"name": "maps"})
    eval_seg = {"defense": "t", "head": {"type": "fit"}, "model": {"name": "dinov2_vits14", "image_size": 518}}
    assert check(make(data={"name": "maps", "root": "m", "split": "val"}, **eval_seg), "eval-seg") == []
    [problem] = check(make(data={"name": "squares", "split": "val"}, **eval_seg), "eval-seg")
    assert problem == ("data.name", "squares has no masks: write ade20k or folder-seg or maps")


def test_an_attack_a_threat_and_a_backbone() -> None:
    rtok.register_attack("nudge", object, NudgeConfig)
    assert ATTACKS.find("nudge").section is NudgeConfig and ATTACKS.find("nudge").load() is object
    rtok.register_threat("stranger", "toys:stranger", "knows nothing")
    assert make(threats=["stranger"]).threats == ["stranger"]
    spec = dataclasses.replace(find("dinov2_vits14"), name="mine")
    for _ in range(2):  # the same again changes nothing
        rtok.register_backbone(spec)
    assert find("mine") is spec and make(model={"name": "mine"}).model.name == "mine"


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda: rtok.register_threat("query", print, "x"), "The threat 'query' is registered already"),
        (lambda: rtok.register_threat("Two words", print, "x"), "'Two words' cannot be registered: a name is"),
        (lambda: rtok.register_threat(3, print, "x"), "3 cannot be registered"),
        (lambda: rtok.register_threat("x", 3, "x"), "3 cannot be registered as 'x': give a class or function"),
        (lambda: rtok.register_threat("x", "no colon", "x"), "'no colon' cannot be registered as 'x'"),
        (lambda: rtok.register_dataset("photos", print, "x"), "The data set 'photos' is registered already"),
        (lambda: rtok.register_defense("x", object, TrainConfig), "give a subclass of DefenseConfig"),
        (lambda: rtok.register_defense("x", object, {}), "give a subclass of DefenseConfig"),
        (
            lambda: rtok.register_defense("x", object, ShiftConfig),
            "have kind 'shift' by default: write kind: str = 'x'",
        ),
        (lambda: rtok.register_attack("x", object, DefenseConfig), "give a subclass of AttackConfig"),
        (lambda: rtok.register_attack("x", object, NudgeConfig), "have method 'nudge' by default"),
        (lambda: rtok.register_backbone("vit"), "'vit' is not a backbone: give a ModelSpec"),
        (
            lambda: rtok.register_backbone(dataclasses.replace(find("dinov2_vits14"), name="dinov2_vitb14")),
            "The backbone 'dinov2_vitb14' exists already",
        ),
        (
            lambda: rtok.register_backbone(dataclasses.replace(find("dinov2_vits14"), name="timm:x")),
            "The backbone 'timm:x' exists already",
        ),
    ],
)
def test_what_cannot_be_registered(register: Callable[[], None], message: str) -> None:
    with pytest.raises(UserError, match=message):
        register()
