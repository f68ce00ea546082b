from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from rtok.config import Config, ModelConfig
from rtok.config.attack_methods import PGDConfig

MODEL = {"name": "dinov2_vits14"}
DATA = {"name": "photos"}


def make(**sections: object) -> Config:
    return Config.model_validate({"model": MODEL, "data": DATA, **sections})


def test_defaults_are_those_of_the_contract() -> None:
    config = make().to_dict()
    assert config["model"] == {**MODEL, "weights": "pretrained", "image_size": 224, "normalization": "auto"}
    assert config["surrogate"] == {"model": "same", "defense": None, "head": "same"}
    assert config["attack"]["preset"] == "paper"
    assert config["train"] == {
        "steps": 50,
        "epochs": None,
        "batch_size": 8,
        "lr": 1e-3,
        "optimizer": "adam",
        "weight_decay": None,
        "ema": None,
        "objective": "cosine",
        "axis": "token",
        "flip": False,
        "threat": "transfer",
        "invariance_weight": 1.0,
        "eps_schedule": None,
        "warmup_steps": 0,
        "lr_schedule": "constant",
        "validate": None,
        "checkpoint_every": 10,
        "micro_batch": None,
        "activation_checkpointing": False,
    }
    tokens = {"kind": "tokens", "count": 10, "init_std": 0.01, "seeds": [0]}
    assert make(defense={}).to_dict()["defense"] == tokens
    head = make(head={"path": "h"}).to_dict()["head"]
    assert head.items() >= {"type": "linear", "path": "h", "features": "both"}.items()
    rest = {key: config[key] for key in list(config)[list(config).index("threats") :]}
    assert rest == {
        "protocol": None,
        "threats": ["transfer", "informed", "adaptive"],
        "informed": {"draws": 1, "plain_weight": 0.5},
        "guessed": None,
        "extracted": None,
        "query": {"queries": [1000, 5000], "starts": ["cold", "transfer"]},
        "curve": None,
        "sanity": {"images": 4, "queries": 1000},
        "control_draws": 5,
        "check_weights": True,
        "analysis": {"activations": False, "images": 64},
        "tracking": "none",
        "precision": "fp32",
        "compile": False,
        "batch_size": 32,
        "seed": 0,
        "out": "results/dinov2_vits14",
    }


@pytest.mark.parametrize(
    ("written", "mode"),
    [(True, "default"), ("true", "default"), (False, False), ("False", False), ("max-autotune", "max-autotune")],
)
def test_compile_is_a_mode_and_was_a_switch(written: object, mode: object) -> None:
    config = make(compile=written)
    assert config.compile == mode and yaml.safe_load(config.to_yaml(["compile"])) == {"compile": mode}


def test_one_or_many() -> None:
    assert make(defense="a").defense_paths == [Path("a")]
    assert make(defense=["a", "b"]).defense_paths == [Path("a"), Path("b")]
    assert make().defense_paths == make(defense={"count": 3}).defense_paths == []
    assert [a.preset for a in make(attack=[{"preset": "l2"}, {"preset": "paper"}]).attacks] == ["l2", "paper"]
    assert make(attack="ensemble").attack == PGDConfig(preset="ensemble")
    assert make(attack=["l2", {"preset": "paper"}]).attacks[0] == PGDConfig(preset="l2")
    tokens = [make(defense={"count": count}).defense for count in (3, [1, 3])]
    assert [t.counts for t in tokens] == [[3], [1, 3]]  # type: ignore[union-attr]


def test_image_size() -> None:
    assert ModelConfig(name="dinov2_vits14").size == (224, 224)
    model = ModelConfig.model_validate({**MODEL, "image_size": [112, "224"]})
    assert model.size == (112, 224)


@pytest.mark.parametrize("size", [0, -14, 100, [224, 100], [224], [224, 224, 224], [], "x", None, True, 14.5, {}])
def test_image_sizes_that_are_refused(size: object) -> None:
    with pytest.raises(ValidationError, match="image_size"):
        ModelConfig.model_validate({**MODEL, "image_size": size})


def test_the_surrogate() -> None:
    assert make().surrogate_model == make().model
    named = make(model={**MODEL, "image_size": 112}, surrogate={"model": "dinov2_vitb14"}).surrogate_model
    assert (named.name, named.weights, named.size) == ("dinov2_vitb14", "pretrained", (112, 112))
    section = {"name": "dinov2_vitl14", "weights": "w.pth"}
    assert make(surrogate={"model": section}).surrogate_model == ModelConfig.model_validate(section)


@pytest.mark.parametrize(
    "sections",
    [
        {"tokens": {"count": 0}},
        {"tokens": {"count": []}},
        {"tokens": {"count": [1, 1]}},
        {"defense": {"seeds": []}},
        {"tokens": {"seeds": [0, 0]}},
        {"tokens": {"seeds": [-1]}},
        {"defense": {"init_std": 0}},
        {"defense": {"kind": "token"}},
        {"defense": {"kind": 3}},
        {"defense": {}, "tokens": {}},
        {"surrogate": {"defense": "a", "tokens": "a"}},
        {"threats": ["transfers"]},
        {"threats": [["transfer"]]},
        {"data": {"name": "photo"}},
        {"tokens": []},
        {"tokens": ["a", "a"]},
        {"tokens": 3},
        {"train": {"lr": 0}},
        {"train": {"steps": 0}},
        {"train": {"batch_size": 0}},
        {"train": {"steps": 5, "warmup_steps": 5}},
        {"train": {"eps_schedule": {"hold": 0.6, "ramp": 0.5}}},
        {"train": {"eps_schedule": {"ramp": 1.5}}},
        {"train": {"steps": 5, "epochs": 5}},
        {"train": {"steps": None}},
        {"train": {"validate": {"attack": {"steps": 0}}}},
        {"train": None},
        {"train": 3},
        {"attack": []},
        {"attack": "papers"},
        {"attack": ["papers"]},
        {"attack": [{}, {}]},
        {"threats": []},
        {"threats": ["transfer", "transfer"]},
        {"control_draws": 0},
        {"batch_size": 0},
        {"seed": -1},
        {"precision": "fp16"},
        {"out": ""},
        {"out": None},
        {"compile": "maybe"},
        {"data": {"name": "folder"}},
        {"data": {"name": "imagenet"}},
        {"data": {**DATA, "limit": 0}},
        {"data": {}},
        {"data": {**DATA, "workers": -1}},
        {"model": {"name": "dinov2"}},
        {"model": "dinov2_vits14"},
        {"model": None},
        {"head": {}},
        {"surrogate": {"model": ["same"]}},
        {"unknown": 1},
    ],
)
def test_what_is_refused(sections: dict) -> None:
    with pytest.raises(ValidationError):
        make(**sections)


def test_nothing_changes_once_it_is_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make().seed = 1  # type: ignore[misc]
