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
