import pytest

from rtok.config import Config
from rtok.config.rules import RULES, check, checked
from rtok.errors import UserError

GOOD: dict[str, dict[str, object]] = {
    "train": {"defense": {}},
    "attack": {},
    "eval-features": {"defense": "t.safetensors"},
    "eval-class": {"defense": "t.safetensors", "head": {"path": "h"}, "data": {"name": "digits", "split": "test"}},
    "eval-seg": {
        "model": {"name": "dinov2_vits14", "image_size": 518},
        "defense": "t.safetensors",
        "head": {"type": "mmseg", "path": "h"},
        "data": {"name": "ade20k", "root": "r", "split": "val"},
    },
}


def problems(command: str, **sections: object) -> list[str]:
    raw = {"model": {"name": "dinov2_vits14"}, "data": {"name": "photos"}, **GOOD[command], **sections}
    return [problem.path for problem in check(Config.model_validate(raw), command)]


@pytest.mark.parametrize("command", RULES)
def test_a_good_config_has_no_problem(command: str) -> None:
    assert problems(command) == []


@pytest.mark.parametrize(
    ("command", "sections", "path"),
    [
        ("train", {"defense": "t"}, "defense"),
        ("train", {"attack": [{}]}, "attack"),
        ("train", {"attack": {"from": "x"}}, "attack.from"),
        ("train", {"attack": {"method": "autoattack"}}, "attack.method"),
        ("train", {"attack": {"target": "victim"}}, "attack.target"),
        ("train", {"train": {"batch_size": 4, "micro_batch": 5}}, "train.micro_batch"),
        ("train", {"train": {"eps_schedule": {"start": "9/255"}}}, "train.eps_schedule.start"),
        ("train", {"train": {"validate": {"attack": {"preset": "square"}}}}, "train.validate.attack.method"),
        ("train", {"train": {"validate": {"attack": {"from": "x"}}}}, "train.validate.attack.from"),
        ("train", {"attack": {"preset": "ensemble"}}, "attack.variants"),
        ("train", {"attack": {"init": "transfer"}}, "attack.init"),
        ("train", {"attack": {"preset": "square"}}, "attack.method"),
        ("train", {"attack": {"preset": "intermediate"}}, "attack.layer"),
        ("attack", {"attack": {"preset": "ensemble"}}, "attack.variants"),
        ("attack", {"attack": {"init": "transfer"}}, "attack.init"),
        ("eval-features", {"attack": ["paper", "standard"]}, "attack.quantize"),
        ("eval-class", {"attack": ["standard", "autoattack"]}, "attack.quantize"),
        ("eval-class", {"attack": "sea"}, "attack.loss"),
        ("eval-features", {"attack": "sea"}, "attack.loss"),
        ("train", {"attack": {"loss": "jensen-shannon"}}, "attack.loss"),
        ("attack", {"attack": {"loss": "jensen-shannon"}}, "attack.loss"),
        ("attack", {"head": {"path": "h"}, "attack": {"loss": "masked-cross-entropy"}}, "attack.loss"),
        ("eval-seg", {"attack": ["paper", "standard"]}, "attack.quantize"),
        ("eval-features", {"threats": ["guessed"]}, "guessed"),
        ("eval-features", {"threats": ["extracted"]}, "extracted"),
        ("eval-features", {"threats": ["query"], "attack": {"preset": "l2"}}, "threats"),
        ("eval-class", {"threats": ["guessed"]}, "guessed"),
        ("eval-seg", {"threats": ["guessed"]}, "guessed"),
        ("eval-features", {"curve": [0.1], "attack": {"from": "x"}}, "curve"),
        ("attack", {"attack": [{}]}, "attack"),
        ("attack", {"attack": {"from": "x"}}, "attack.from"),
        ("attack", {"attack": {"method": "autoattack", "quantize": "round"}}, "attack.method"),
        ("attack", {"attack": {"quantize": "none"}}, "attack.quantize"),
        ("attack", {"head": {"path": "h"}, "attack": {"preset": "autoattack"}}, "attack.quantize"),
        ("attack", {"defense": {}}, "defense"),
        ("attack", {"head": {"path": "h"}, "attack": {"target": "victim"}}, "attack.target"),
        ("attack", {"head": {"type": "fit"}}, "head.split"),
        ("eval-class", {"defense": None}, "defense"),
        ("eval-class", {"head": None}, "head"),
        ("eval-class", {"head": {"type": "fit", "split": "test"}}, "head.split"),
        ("eval-class", {"head": {"path": "h", "classifier": "best", "split": "test"}}, "head.split"),
        ("eval-class", {"attack": {"target": "victim"}}, "attack.target"),
        ("eval-class", {"data": {"name": "photos", "resize": "random-crop"}}, "data.resize"),
        ("eval-class", {"head": {"type": "mmseg", "path": "h"}}, "head.type"),
        ("eval-seg", {"defense": None}, "defense"),
        ("eval-seg", {"head": None}, "head"),
        ("eval-seg", {"head": {"path": "h"}}, "head.type"),
        ("eval-seg", {"head": {"type": "fit", "split": "val"}}, "head.split"),
        ("eval-seg", {"data": {"name": "photos"}}, "data.name"),
        ("eval-seg", {"data": {"name": "ade20k", "root": "r", "split": "val", "resize": "crop"}}, "data.resize"),
        ("eval-seg", {"attack": {"method": "autoattack"}}, "attack.method"),
        ("eval-seg", {"model": {"name": "dinov2_vits14"}}, "model.image_size"),
        ("eval-seg", {"segmentation": {"window": 504}}, "model.image_size"),
        ("train", {"defense": None}, "defense"),
        (
            "attack",
            {"head": {"type": "mmseg", "path": "h"}, "model": {"name": "dinov2_vits14", "image_size": 518}},
            "data.name",
        ),
        ("eval-features", {"defense": None}, "defense"),
        ("eval-features", {"defense": {}}, "defense"),
        ("eval-features", {"attack": [{}, {"method": "autoattack", "quantize": "round"}]}, "attack.method"),
        ("eval-features", {"data": {"name": "photos", "resize": "random-crop"}}, "data.resize"),
        ("attack", {"data": {"name": "photos", "resize": "random-crop"}}, "data.resize"),
        (
            "eval-features",
            {"surrogate": {"model": {"name": "dinov2_vitb14", "image_size": 112}}},
            "surrogate.model.image_size",
        ),
    ],
)
def test_what_a_command_cannot_use(command: str, sections: dict, path: str) -> None:
    assert problems(command, **sections) == [path]


def test_sea_is_for_masks() -> None:
    assert problems("eval-seg", attack="sea") == []


def test_autoattack_is_for_labels() -> None:
    assert problems("eval-class", attack={"preset": "autoattack"}) == []
    attack = {"preset": "autoattack", "quantize": "round"}
    assert problems("attack", attack=attack, head={"path": "h"}) == []


def test_training_may_crop_at_random() -> None:
    assert problems("train", data={"name": "photos", "resize": "random-crop"}) == []


def test_all_broken_rules_are_reported_at_once() -> None:
    raw = {"model": {"name": "dinov2_vits14"}, "data": {"name": "photos"}}
    config = Config.model_validate({**raw, "attack": [{"quantize": "none"}]})
    with pytest.raises(UserError) as caught:
        checked(config, "attack")
    first, *rest = str(caught.value).split("\n")
    assert first == "config for attack: 2 mistakes"
    assert [line.split(":")[0].strip() for line in rest] == ["attack", "attack.quantize"]
    good = Config.model_validate(raw)
    assert checked(good, "attack") is good


@pytest.mark.parametrize("given", [{"model": {}}, "x.yaml"])
def test_what_is_no_config_is_refused(given: object) -> None:
    with pytest.raises(UserError, match=r"train takes a Config, not a \w+: rtok.load_config\('train', FILE\)"):
        checked(given, "train")  # type: ignore[arg-type]
