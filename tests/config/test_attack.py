from pathlib import Path

import pytest
from pydantic import ValidationError

from rtok.config import AttackConfig

PAPER = {  # DESIGN section 2, restated
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
    config = AttackConfig.model_validate(written)
    assert config.model_dump(mode="json") == resolved
    assert AttackConfig.model_validate(resolved) == config
    if "from" in written:
        assert config.from_ == Path("sets/a")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"from": "a", "steps": 3}, "'from' stands alone, without steps"),
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
        AttackConfig.model_validate(written)


def test_label() -> None:
    assert AttackConfig.model_validate({"preset": "paper"}).label == "paper"
    assert AttackConfig.model_validate({"preset": "paper", "steps": 5}).label == "paper, steps 5"
    assert AttackConfig.model_validate({"norm": "l2", "eps": 3}).label == "pgd, norm l2, eps 3"
    assert AttackConfig.model_validate({"from": "sets/a"}).label == "sets/a"


def test_an_ensemble_is_its_variants_at_one_radius() -> None:
    attack = AttackConfig.model_validate({"preset": "ensemble", "eps": "4/255", "steps": 7})
    assert attack.label == "ensemble, eps 0.0156863, steps 7"
    assert [(m.eps, m.steps, m.variants) for m in attack.members] == [(4 / 255, 7, None)] * 6
    changed = [(m.init, m.loss, m.momentum, m.diversity, m.layer) for m in attack.members]
    assert changed == [
        ("uniform", "cross-entropy", 0.0, 0.0, 1.0),
        ("transfer", "cross-entropy", 0.0, 0.0, 1.0),
        ("uniform", "margin", 0.0, 0.0, 1.0),
        ("uniform", "cross-entropy", 1.0, 0.0, 1.0),
        ("uniform", "cross-entropy", 1.0, 0.5, 1.0),
        ("uniform", "cross-entropy", 0.0, 0.0, 0.5),
    ]
    again = AttackConfig.model_validate(attack.model_dump(mode="json"))
    assert again == attack
    own = AttackConfig.model_validate({"variants": [{}, {"restarts": 3}]})
    assert own.label == "pgd, 2 variants" and [m.restarts for m in own.members] == [1, 3]
    with pytest.raises(ValidationError, match="eps"):
        AttackConfig.model_validate({"variants": [{"eps": 0.1}]})


def test_square_is_for_linf() -> None:
    with pytest.raises(ValidationError, match="made for norm linf"):
        AttackConfig.model_validate({"method": "square", "norm": "l2"})
    square = AttackConfig.model_validate({"method": "square", "queries": 5})
    assert square.loss == "margin" and square.label == "square, queries 5"


def test_a_curve_changes_the_radius_and_all_that_bounds_it() -> None:
    paper = AttackConfig.model_validate({"preset": "paper", "steps": 5}).at_radius(1 / 255)
    standard = AttackConfig.model_validate({"eps": "1/255", "steps": 5, "quantize": "none", "axis": "token"})
    assert paper == standard.model_copy(update={"preset": "paper"})
    ensemble = AttackConfig.model_validate({"preset": "ensemble"}).at_radius(0.5)
    assert {member.eps for member in ensemble.members} == {0.5} and len(ensemble.members) == 6


def test_queries_keep_the_radius() -> None:
    paper = AttackConfig.model_validate({"preset": "paper"}).by_queries(10)
    assert (paper.method, paper.queries, paper.units, paper.eps) == ("square", 10, "normalized", 8 / 255)
    assert paper.loss == "margin" and paper.quantize == "floor"
