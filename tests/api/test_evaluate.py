"""`rtok.evaluate` and `rtok.train` on tensors: what commands do on the same images, without files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.utils import save_image

import rtok

QUICK: dict[str, Any] = {"attacks": {"steps": 2}, "control_draws": 1, "sanity": {"images": 0}}
TRAINING: dict[str, Any] = {"defense": {"count": 2}, "attack": rtok.PGD(steps=1), "steps": 2, "batch_size": 2}


def test_from_images_to_rows(backbone: rtok.Backbone, images: Tensor, tmp_path: Path) -> None:
    trained = rtok.train(backbone, images, out=tmp_path / "tokens", **TRAINING)
    threats = ["transfer", "adaptive"]
    found = rtok.evaluate(backbone, images, defense=trained, threats=threats, out=tmp_path / "run", **QUICK)
    assert [(row["threat"], row["victim"]) for row in found.rows] == [
        *(("transfer", victim) for victim in ("plain", "random", "robust")),
        *(("adaptive", victim) for victim in ("random", "robust")),
    ]
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == found
    again = rtok.evaluate(backbone, images, defense=trained.defenses, threats=threats, **QUICK)
    assert again.out.is_dir() and again.out != found.out
    strip = [{key: value for key, value in row.items() if key != "defense"} for row in again.rows]
    assert strip == [{key: value for key, value in row.items() if key != "defense"} for row in found.rows]


def test_tensors_give_the_rows_of_the_same_images_in_a_folder(
    backbone: rtok.Backbone, images: Tensor, tmp_path: Path
) -> None:
    """But for the noise of the start, which belongs to an image's key: here there is none."""
    for number, image in enumerate(images):
        save_image(image, tmp_path / f"{number}.png")
    options: dict[str, Any] = {"attacks": {"steps": 2, "init": "none"}, "sanity": {"images": 0}}
    folder = rtok.evaluate(backbone, tmp_path, **options)
    assert folder.rows == rtok.evaluate(backbone, images, **options).rows
    assert [row["victim"] for row in folder.rows] == ["plain"]


def test_the_config_says_what_it_can(backbone: rtok.Backbone, images: Tensor, tmp_path: Path) -> None:
    found = rtok.evaluate(backbone, images, out=tmp_path / "run", **QUICK)
    written = (found.out / "config.yaml").read_text()
    assert "name: given" in written and "name: module:dinov2_vits14" in written  # the test's own architecture


def test_a_classifier_needs_no_more_than_labels(
    classifier: nn.Module, images: Tensor, labels: Tensor, tmp_path: Path
) -> None:
    weight = classifier[3].weight  # type: ignore[index]
    (row,) = rtok.evaluate(classifier, (images, labels), **QUICK).rows
    assert (row["clean_accuracy"], row["surrogate"]) == (1.0, "module:Sequential")
    assert row["adversarial_accuracy"] < 1
    assert weight.requires_grad and classifier.training, "the model itself is left as it was"
    wrong = (labels + 1) % 5
    assert rtok.evaluate(classifier, (images, wrong), **QUICK).rows[0]["clean_accuracy"] == 0
    (features,) = rtok.evaluate(classifier, images, **QUICK).rows
    assert features["fidelity"] == pytest.approx(1)


def test_a_head_is_fitted_on_other_images(backbone: rtok.Backbone, images: Tensor) -> None:
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    others = (images.roll(1, dims=1), labels)
    head = {"type": "fit", "l2": [0.01]}
    (row,) = rtok.evaluate(backbone, (images, labels), head=head, train_data=others, **QUICK).rows
    assert row["head_features"] == "plain" and 0 <= row["clean_accuracy"] <= 1
    with pytest.raises(rtok.UserError, match="images of the split 'train', and those given are test"):
        rtok.evaluate(backbone, (images, labels), head=head, **QUICK)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attacks": "standart"}, "attack.preset.*Did you mean 'standard'"),
        ({"threats": ["adaptive"]}, "defense: is missing"),
        ({"controls": 3}, "controls: unknown key"),
        ({"image_size": 56}, "image_size is for a model's name"),
        ({"std": (1, 1, 1)}, "normalize images themselves"),
        ({"data": {"name": "folder", "root": "nowhere"}}, "data.root: nowhere does not exist"),
    ],
)
def test_what_is_refused(backbone: rtok.Backbone, images: Tensor, options: dict[str, Any], says: str) -> None:
    with pytest.raises(rtok.UserError, match=says):
        rtok.evaluate(backbone, **{"data": images, **options})


def test_train_says_what_is_wrong(backbone: rtok.Backbone, images: Tensor, classifier: nn.Module) -> None:
    with pytest.raises(rtok.UserError, match=r"train\.step: unknown key\. Did you mean 'steps'"):
        rtok.train(backbone, images, step=3)
    with pytest.raises(rtok.UserError, match=r"takes a model's name.*not a Sequential"):
        rtok.train(classifier, images)
    with pytest.raises(rtok.UserError, match=r"rtok\.train needs images"):
        rtok.train(backbone)  # type: ignore[call-overload]


def test_several_processes_need_a_common_folder(
    backbone: rtok.Backbone, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(rtok.UserError, match="give out=DIR"):
        rtok.evaluate(backbone, images)
