"""A resumed run whose inputs have changed is refused by name; one whose inputs are the same goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rtok.config.schema import Config
from rtok.data import open_source
from rtok.data.imagenet_extra import ExtraFiles, open_extra, write_extra
from rtok.data.imagenet_layout import SPLITS, Classes
from rtok.data.masks import MaskedFiles
from rtok.defenses import RobustnessTokens
from rtok.errors import UserError
from rtok.evaluation import evaluate_classification, evaluate_features, make_adversarial_set
from rtok.evaluation.loop import Evaluator
from rtok.heads.files import save_head
from rtok.heads.linear import LinearHead
from rtok.runs.inputs import images_identity
from rtok.runs.resume import command_of
from rtok.training import train
from rtok.training.step import Trainer


@pytest.fixture
def inputs(settings: dict[str, Any], pictures: Path, tmp_path: Path) -> dict[str, Any]:
    """The settings of an evaluation whose images, weights and tokens are its own copies."""
    shutil.copytree(pictures, tmp_path / "pictures")
    weights = tmp_path / "weights.safetensors"
    shutil.copy(settings["model"]["weights"], weights)
    RobustnessTokens.draw(3, 384, std=0.5, backbone="dinov2_vits14").save(tmp_path / "tokens.safetensors")
    model, data = ({**settings[key]} for key in ("model", "data"))
    model["weights"], data["root"] = str(weights), str(tmp_path / "pictures")
    more = {"threats": ["transfer"], "control_draws": 1, "batch_size": 2}
    return {**settings, "model": model, "data": data, "defense": str(tmp_path / "tokens.safetensors"), **more}


def killed(patch: pytest.MonkeyPatch, owner: Any, method: str, after: int) -> None:
    """Let a method end the run at its call number `after`, from 0."""
    original, calls = getattr(owner, method), []

    def stop(*arguments: Any, **options: Any) -> Any:
        calls.append(method)
        if len(calls) > after:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    patch.setattr(owner, method, stop)


def other_tokens(folder: Path) -> None:
    RobustnessTokens.draw(3, 384, std=0.5, seed=1, backbone="dinov2_vits14").save(folder / "tokens.safetensors")


def other_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "weights.safetensors")
    state["norm.weight"] = state["norm.weight"] * 2
    save_file(state, folder / "weights.safetensors")


def other_content(folder: Path) -> None:
    Image.new("RGB", (40, 40), "red").save(folder / "pictures" / "picture3.png")


def one_more(folder: Path) -> None:
    shutil.copy(folder / "pictures" / "picture0.png", folder / "pictures" / "picture9.png")


def one_less(folder: Path) -> None:
    (folder / "pictures" / "picture6.png").unlink()


CHANGES = {
    other_tokens: r"defense .*tokens\.safetensors",
    other_weights: r"weights of dinov2_vits14",
    other_content: r"images \(7 images",
    one_more: r"images \(7 images, .* then, 8 images",
    one_less: r"images \(7 images, .* then, 6 images",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_evaluation_does_not_go_on_with_other_inputs(
    inputs: dict[str, Any], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    config = Config.model_validate(inputs)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config)
    before = {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()}
    change(tmp_path)
    with pytest.raises(UserError, match=f"have changed since it began: {CHANGES[change]}"):
        evaluate_features(config, resume=True)
    assert {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()} == before


def test_an_evaluation_goes_on_with_the_same_inputs(inputs: dict[str, Any], tmp_path: Path) -> None:
    config = Config.model_validate(inputs)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config)
    resumed = evaluate_features(config, resume=True)
    whole = evaluate_features(config.model_copy(update={"out": tmp_path / "whole"}))
    assert resumed["rows"] == whole["rows"]
    recorded = json.loads((config.out / "run.json").read_text())["inputs"]
    assert recorded == resumed["inputs"] and set(recorded) == {
        "rtok",
        "weights of dinov2_vits14",
        "images",
        f"defense {inputs['defense']}",
    }


def test_another_version_of_rtok_is_an_input(inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.model_validate(inputs)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config)
    monkeypatch.setattr("rtok.runs.inputs.__version__", "9.9")
    with pytest.raises(UserError, match=r"rtok \(.* then, 9\.9 now\)"):
        evaluate_features(config, resume=True)


def test_what_auto_decided_is_an_input(inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.model_validate({**inputs, "precision": "auto"})
    monkeypatch.setattr("rtok.compute.pays", lambda device: True)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config)
    monkeypatch.setattr("rtok.compute.pays", lambda device: False)
    with pytest.raises(UserError, match=r"gradients of attacks \(bf16 then, fp32 now\)"):
        evaluate_features(config, resume=True)


@pytest.mark.parametrize("change", [one_more, other_content, other_weights])
def test_an_attack_and_a_training_do_not_either(
    inputs: dict[str, Any], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    common = {key: inputs[key] for key in ("model", "data", "attack", "batch_size")}
    attack = Config.model_validate({**common, "out": str(tmp_path / "set")})
    training = {"defense": {"count": 3}, "train": {"steps": 3, "batch_size": 2, "checkpoint_every": 1}}
    training = Config.model_validate({**common, **training, "out": str(tmp_path / "training")})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "craft", 1)
        make_adversarial_set(attack)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Trainer, "step", 1)
        train(training)
    change(tmp_path)
    for go_on, config in ((make_adversarial_set, attack), (train, training)):
        with pytest.raises(UserError, match="have changed since it began"):
            go_on(config, resume=True)


def test_labels_and_bytes_are_part_of_the_identity(pictures: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / "train" / name).mkdir(parents=True)
        shutil.copy(pictures / "picture0.png", tmp_path / "set" / "train" / name / "0.png")

    def identity(**options: Any) -> str:
        data = {"name": "folder", "root": str(tmp_path / "set")}
        config = Config.model_validate({"model": {"name": "dinov2_vits14"}, "data": data})
        return images_identity(open_source(config.data, seed=0), **options)

    first, whole = identity(), identity(whole=True)
    (tmp_path / "set" / "train" / "a" / "0.png").touch()
    assert identity() != first and identity(whole=True) == whole
    (tmp_path / "set" / "train" / "b").rename(tmp_path / "set" / "train" / "c")
    assert identity(whole=True) != whole


def test_tokens_of_other_weights_are_refused_unless_it_is_meant(inputs: dict[str, Any]) -> None:
    tokens = RobustnessTokens.draw(3, 384, backbone="dinov2_vits14", fingerprint="0123456789abcdef")
    tokens.save(Path(inputs["defense"]))
    with pytest.raises(UserError, match=r"trained on other weights .*0123456789abcdef.*check_weights=false"):
        evaluate_features(Config.model_validate(inputs))
    assert not Path(inputs["out"]).exists()
    evaluate_features(Config.model_validate({**inputs, "check_weights": False}))


def test_more_steps_can_be_trained_on(inputs: dict[str, Any], tmp_path: Path) -> None:
    def config(name: str, steps: int) -> Config:
        common = {key: inputs[key] for key in ("model", "data", "attack")}
        defense, training = {"count": 3}, {"steps": steps, "batch_size": 2}
        return Config.model_validate({**common, "defense": defense, "train": training, "out": str(tmp_path / name)})

    train(config("long", 4))
    train(config("short", 2))
    longer = train(config("short", 4), resume=True)
    assert longer.last[0]["step"] == 4
    long, short = (RobustnessTokens.load(tmp_path / name / "rtokens.safetensors") for name in ("long", "short"))
    assert torch.equal(long.values, short.values)
    assert "steps: 4" in (tmp_path / "short" / "config.yaml").read_text()
    with pytest.raises(UserError, match=r"other settings: train\.steps \(4 then, 2 now\)"):
        train(config("short", 2), resume=True)


def test_a_folder_says_how_it_is_resumed(inputs: dict[str, Any], tmp_path: Path) -> None:
    common = {key: inputs[key] for key in ("model", "data", "attack")}
    make_adversarial_set(
        Config.model_validate({**common, "out": str(tmp_path / "set")}), command=("rtok", "attack", "--config", "a")
    )
    evaluate_features(Config.model_validate(inputs), command=("rtok", "eval-features", "--config", "b"))
    assert command_of(tmp_path / "set")[0] == "attack"
    command, config = command_of(Path(inputs["out"]))
    assert (command, config.to_dict()) == ("eval-features", Config.model_validate(inputs).to_dict())
    with pytest.raises(UserError, match="not the folder of a run"):
        command_of(tmp_path / "pictures")


def test_other_images_are_counted_and_named(inputs: dict[str, Any], tmp_path: Path) -> None:
    config = Config.model_validate(inputs)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config)
    one_more(tmp_path)
    one_less(tmp_path)
    told = r"other images: 1 new \(picture9\.png for one\), 1 gone now \(picture6\.png for one\)"
    with pytest.raises(UserError, match=told):
        evaluate_features(config, resume=True)


def test_plugins_are_inputs(inputs: dict[str, Any]) -> None:
    config = Config.model_validate(inputs)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config, plugins={"mine.py": "aa"})
    with pytest.raises(UserError, match=r"plugin mine\.py \(aa then, bb now\)"):
        evaluate_features(config, resume=True, plugins={"mine.py": "bb"})
    results = evaluate_features(config, resume=True, plugins={"mine.py": "aa"})
    assert results["inputs"]["plugin mine.py"] == "aa"


def test_the_surrogate_is_an_input(inputs: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(inputs["model"]["weights"], tmp_path / "surrogate.safetensors")
    surrogate = {"model": {**inputs["model"], "weights": str(tmp_path / "surrogate.safetensors")}}
    config = Config.model_validate({**inputs, "surrogate": surrogate})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config)
    other_weights(tmp_path)
    shutil.move(tmp_path / "weights.safetensors", tmp_path / "surrogate.safetensors")
    shutil.copy(tmp_path / "surrogate.safetensors", tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="weights of the surrogate"):
        evaluate_features(config, resume=True)


def by_class(inputs: dict[str, Any], folder: Path, classes: int) -> dict[str, Any]:
    """Settings of a classification of the pictures, in class folders, with a head from a file."""
    for number, picture in enumerate(sorted((folder / "pictures").iterdir())):
        (folder / "pictures" / str(number % classes)).mkdir(exist_ok=True)
        picture.rename(folder / "pictures" / str(number % classes) / picture.name)
    head(folder, classes, seed=0)
    return {**inputs, "head": {"type": "linear", "path": str(folder / "head.safetensors")}}


def head(folder: Path, classes: int, seed: int) -> None:
    weight = torch.randn(classes, 768, generator=torch.Generator().manual_seed(seed))
    save_head(folder / "head.safetensors", LinearHead(weight, torch.zeros(classes)), {})


def test_a_head_is_an_input(inputs: dict[str, Any], tmp_path: Path) -> None:
    config = Config.model_validate(by_class(inputs, tmp_path, 2))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_classification(config)
    head(tmp_path, 2, seed=1)
    with pytest.raises(UserError, match=r"have changed since it began: head.path .*head.safetensors"):
        evaluate_classification(config, resume=True)
    head(tmp_path, 2, seed=0)
    assert evaluate_classification(config, resume=True)["images"] == 7


def test_one_class_is_nothing_to_classify(inputs: dict[str, Any], tmp_path: Path) -> None:
    config = Config.model_validate(by_class(inputs, tmp_path, 1))
    with pytest.raises(UserError, match="folder has the class '0' alone here"):
        evaluate_classification(config)
    assert not config.out.exists()


def test_every_kind_of_source_with_files_names_them(pictures: Path, tmp_path: Path) -> None:
    files = ExtraFiles(tmp_path, SPLITS["val"])
    write_extra(files, Classes(["n01440764"], ["tench"]), [np.array([3], np.uint32)])
    source = open_extra(tmp_path, files)
    first = images_identity(source)
    target = tmp_path / source.keys[0]
    target.parent.mkdir(parents=True)
    shutil.copy(pictures / "picture0.png", target)
    assert images_identity(source) != first


def test_the_masks_of_a_part_are_its_own(pictures: Path, tmp_path: Path) -> None:
    names = ["picture0.png", "picture1.png"]
    for folder in ("images", "masks"):
        shutil.copytree(pictures, tmp_path / folder)
    keys, masks = ([f"{folder}/{name}" for name in names] for folder in ("images", "masks"))
    (one, other) = (MaskedFiles(tmp_path, keys, masks, ["sky"], [(0, 0, 0)]).part([i]) for i in (0, 1))
    before = images_identity(one), images_identity(other)
    (tmp_path / masks[1]).touch()
    assert images_identity(one) == before[0] and images_identity(other) != before[1]


def test_ctrl_c_promises_only_what_is_saved(inputs: dict[str, Any]) -> None:
    config = Config.model_validate(inputs)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt, match="nothing is saved yet"):
        killed(patch, Evaluator, "evaluate", 0)
        evaluate_features(config)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt, match="from the last saved state"):
        killed(patch, Evaluator, "evaluate", 1)
        evaluate_features(config, resume=True)
