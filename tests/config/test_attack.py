from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from rtok.config import AttackConfig, Config
from rtok.config.attack import read_attack
from rtok.config.attack_methods import APGDConfig, AutoAttackConfig, PGDConfig, SquareConfig, StoredConfig
from rtok.config.registry import ATTACKS
from rtok.config.validation import validate

PAPER = {  # the original code's attack
    "method": "pgd",
    "norm": "linf",
    "eps": 8 / 255,
    "units": "normalized",
    "step": 1e-2,
    "steps": 30,
    "restarts": 1,
    "init": "gaussian",
    "momentum": 0.0,
    "mse_weight": 1.0,
    "max_mse": 1e-4,
    "quantize": "floor",
    "axis": "token",
    "features": "all",
    "draws": 1,
    "target": "plain",
    "loss": "cross-entropy",
    "diversity": 0.0,
    "layer": 1.0,
    "variants": None,
}
STANDARD = {
    "method": "pgd",
    "norm": "linf",
    "eps": 8 / 255,
    "units": "pixel",
    "step": None,
    "steps": 30,
    "restarts": 1,
    "init": "uniform",
    "momentum": 0.0,
    "mse_weight": 0.0,
    "max_mse": None,
    "quantize": "round",
    "axis": "channel",
    "features": "all",
    "draws": 1,
    "target": "plain",
    "loss": "cross-entropy",
    "diversity": 0.0,
    "layer": 1.0,
    "variants": None,
}


@pytest.mark.parametrize(
    ("written", "resolved"),
    [
        ({"preset": "paper"}, {"preset": "paper", **PAPER}),
        ({"preset": "paper", "steps": 5}, {"preset": "paper", **PAPER, "steps": 5}),
        ({"preset": "standard"}, {"preset": "standard", **STANDARD}),
        ({}, {"preset": None, **STANDARD}),
        ({"eps": "4/255", "step": None}, {"preset": None, **STANDARD, "eps": 4 / 255}),
        ({"preset": "standard-4"}, {"preset": "standard-4", **STANDARD, "eps": 4 / 255}),
        ({"preset": "l2"}, {"preset": "l2", **STANDARD, "norm": "l2", "eps": 3.0}),
        ({"from": "sets/a"}, {"from": "sets/a"}),
        (
            {"method": "autoattack", "eps": "4/255"},
            {
                "preset": None,
                "method": "autoattack",
                "norm": "linf",
                "eps": 4 / 255,
                "quantize": "none",
                "target": "plain",
                "version": "standard",
                "attacks": None,
            },
        ),
    ],
)
def test_every_option_is_filled_in(written: dict, resolved: dict) -> None:
    config = read_attack(written)
    assert config.model_dump(mode="json") == resolved
    assert read_attack(resolved) == config
    assert config.stored == (Path("sets/a") if "from" in written else None)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"from": "a", "steps": 3}, "'from' stands alone, without steps"),
        ({"method": "apgd", "momentum": 1}, "method apgd does not use momentum"),
        ({"method": "apgd", "variants": [{"momentum": 1}]}, "momentum"),
        ({"method": "autoattack", "steps": 3}, "method autoattack does not use steps"),
        ({"preset": "paper", "method": "autoattack"}, None),
        ({"preset": "paper", "version": "custom"}, "method pgd does not use version"),
        ({"preset": "autoattack", "version": "custom"}, "go together"),
        ({"preset": "autoattack", "attacks": ["square"]}, "go together"),
        ({"preset": ["paper"]}, "preset"),
        ({"preset": "papr"}, "preset"),
        ({"eps": 0}, "greater than 0"),
        ({"eps": -1}, "greater than 0"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"step": 0}, "greater than 0"),
    ],
)
def test_what_is_refused(written: dict, message: str | None) -> None:
    with pytest.raises(ValidationError, match=message):
        read_attack(written)


def test_label() -> None:
    assert read_attack({"preset": "paper"}).label == "paper"
    assert read_attack({"preset": "paper", "steps": 5}).label == "paper, steps 5"
    assert read_attack({"norm": "l2", "eps": 3}).label == "pgd, norm l2, eps 3"
    assert read_attack({"from": "sets/a"}).label == "sets/a"


def test_an_ensemble_is_its_variants_at_one_radius() -> None:
    attack = read_attack({"preset": "ensemble", "eps": "4/255", "steps": 7})
    assert attack.label == "ensemble, eps 4/255, steps 7"
    assert [(m.eps, m.variants) for m in attack.members] == [(4 / 255, None)] * 6
    assert [m.steps for m in attack.members] == [7, 7, 7, 10, 10, 7]  # MI-FGSM has its own
    changed = [(m.init, m.loss, m.momentum, m.diversity, m.layer) for m in attack.members]
    assert changed == [
        ("uniform", "cross-entropy", 0.0, 0.0, 1.0),
        ("transfer", "cross-entropy", 0.0, 0.0, 1.0),
        ("uniform", "margin", 0.0, 0.0, 1.0),
        ("none", "cross-entropy", 1.0, 0.0, 1.0),
        ("none", "cross-entropy", 1.0, 0.5, 1.0),
        ("uniform", "cross-entropy", 0.0, 0.0, 0.5),
    ]
    again = read_attack(attack.model_dump(mode="json"))
    assert again == attack
    own = read_attack({"variants": [{}, {"restarts": 3, "init": "none"}]})
    assert own.label == "pgd, 2 variants"
    assert own.long_label == "pgd, variants (unchanged | restarts 3, init none)"
    assert [m.restarts for m in own.members] == [1, 3]
    with pytest.raises(ValidationError, match="eps"):
        read_attack({"variants": [{"eps": 0.1}]})


def test_an_ensemble_of_apgd() -> None:
    attack = read_attack({"preset": "apgd-ensemble", "restarts": 2})
    assert attack.label == "apgd-ensemble, restarts 2"
    assert {(m.method, m.steps, m.restarts) for m in attack.members} == {("apgd", 100, 2)}
    assert [(m.init, m.loss, m.features, m.layer) for m in attack.members] == [
        ("uniform", "cross-entropy", "all", 1.0),
        ("transfer", "cross-entropy", "all", 1.0),
        ("uniform", "dlr", "all", 1.0),
        ("uniform", "cross-entropy", "cls", 1.0),
        ("uniform", "cross-entropy", "all", 0.5),
    ]


def test_square_is_for_linf() -> None:
    with pytest.raises(ValidationError, match="made for norm linf"):
        read_attack({"method": "square", "norm": "l2"})
    square = read_attack({"method": "square", "queries": 5})
    assert square.loss == "margin" and square.label == "square, queries 5"


def test_a_curve_changes_the_radius_and_all_that_bounds_it() -> None:
    paper = read_attack({"preset": "paper", "steps": 5}).at_radius(1 / 255)
    standard = read_attack({"eps": "1/255", "steps": 5, "quantize": "none", "axis": "token"})
    assert paper == standard.model_copy(update={"preset": "paper"})
    ensemble = read_attack({"preset": "ensemble"}).at_radius(0.5)
    assert {member.eps for member in ensemble.members} == {0.5} and len(ensemble.members) == 6


def test_queries_keep_the_radius() -> None:
    paper = read_attack({"preset": "paper"}).by_queries(10)
    assert (paper.method, paper.counts["queries"], paper.units, paper.eps) == ("square", 10, "normalized", 8 / 255)
    assert paper.loss == "margin" and paper.quantize == "floor"


@pytest.mark.parametrize(
    ("written", "section"),
    [
        ({}, PGDConfig),
        ({"preset": "paper"}, PGDConfig),
        ({"preset": "square"}, SquareConfig),
        ({"preset": "apgd"}, APGDConfig),
        ({"method": "autoattack"}, AutoAttackConfig),
        ({"from": "sets/a"}, StoredConfig),
    ],
)
def test_the_method_tells_the_section(written: dict, section: type[AttackConfig]) -> None:
    config = read_attack(written)
    assert type(config) is section
    assert "labels" in config.objectives and ("features" in config.objectives) == (section is not AutoAttackConfig)
    assert (config.members, config.depth, config.warm) == ([config], 1.0, False)


def test_what_is_asked_of_every_attack() -> None:
    assert read_attack({"preset": "intermediate"}).depth == 0.5
    assert read_attack({"init": "transfer"}).warm
    nothing = {"steps": None, "restarts": None, "queries": None}
    assert read_attack({"steps": 3, "restarts": 2}).counts == {**nothing, "steps": 3, "restarts": 2}
    mixed = {"steps": 3, "restarts": 2, "variants": [{}, {"steps": 4}]}
    assert read_attack(mixed).counts == {**nothing, "restarts": 2}
    assert [member.counts["steps"] for member in read_attack(mixed).members] == [3, 4]
    assert read_attack({"method": "square", "queries": 7}).counts == {**nothing, "queries": 7}
    assert read_attack({"preset": "autoattack"}).counts == read_attack({"from": "a"}).counts == nothing
    for preset in ("paper", "l2", "apgd", "apgd-ensemble", "ensemble", "square", "autoattack"):
        attack = read_attack({"preset": preset}).at_radius(1 / 255)
        assert (attack.norm, attack.units, attack.eps, attack.quantize) == ("linf", "pixel", 1 / 255, "none")
        assert attack.preset == preset and read_attack(attack.model_dump()) == attack


class NoiseConfig(AttackConfig):
    """An attack from outside of the package."""

    method: str = "noise"
    strength: int = 3


@pytest.fixture
def noise() -> Iterator[None]:
    ATTACKS.add("noise", "nowhere:Noise", section=NoiseConfig)
    yield
    ATTACKS.remove("noise")


def problems(attack: object) -> list[str]:
    raw = {"model": {"name": "dinov2_vits14"}, "data": {"name": "photos"}, "attack": attack}
    return [f"{problem.path}: {problem.text}" for problem in validate(raw)[1]]


@pytest.mark.usefixtures("noise")
def test_an_attack_from_outside_works_in_a_config() -> None:
    written = [{"method": "noise", "strength": 5, "eps": "4/255"}, {"preset": "paper"}, {"method": "noise"}]
    config = Config.model_validate({"model": {"name": "dinov2_vits14"}, "data": {"name": "photos"}, "attack": written})
    own, paper, usual = config.attacks
    assert isinstance(own, NoiseConfig) and own.strength == 5 and isinstance(paper, PGDConfig)
    assert [own.label, usual.label] == ["noise, eps 4/255, strength 5", "noise"]
    assert own.model_dump()["strength"] == 5 and Config.model_validate(config.to_dict()) == config
    assert problems({"strength": 5}) == [
        f"attack: method pgd does not use strength; it uses {', '.join(PGDConfig.keys())}"
    ]
    (problem,) = problems([{"method": "noise", "strenth": 5}])
    assert problem.startswith("attack.0.strenth: unknown key. Did you mean 'strength'? Valid here: preset, method")
    assert problems({"method": "noise", "steps": 5})[0].startswith("attack: method noise does not use steps")
    assert problems({"method": "noize"}) == [
        "attack.method: \"noize\" was given; valid: pgd, apgd, autoattack, square, noise. Did you mean 'noise'?"
    ]


def test_an_attack_from_outside_is_gone_once_removed() -> None:
    assert problems({"method": "noise"}) == ['attack.method: "noise" was given; valid: pgd, apgd, autoattack, square']


def test_a_preset_is_for_its_method() -> None:
    assert problems({"preset": "paper", "method": "square"}) == ["attack: preset paper is for method pgd"]


def test_a_radius_of_pixel_levels_is_a_slip() -> None:
    with pytest.raises(ValidationError, match=r"eps is 8, .*: did you mean 8/255\?"):
        read_attack({"eps": 8})
    assert read_attack({"eps": 8, "units": "normalized"}).eps == read_attack({"norm": "l2", "eps": 8}).eps == 8
