"""`rtok.evaluate`: how a model holds under attack, with and without defenses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from rtok.api.request import (
    AttackLike,
    Data,
    DefenseLike,
    ModelLike,
    Request,
    Section,
    Size,
    attack_sections,
    defense_files,
    module_backbone,
)
from rtok.config.head import HeadConfig
from rtok.config.registry import DATASETS
from rtok.errors import UserError
from rtok.evaluation import evaluate_classification, evaluate_features, evaluate_segmentation
from rtok.models.backbone import Backbone
from rtok.reporting.results import Results

_EVALUATE = {
    "eval-features": evaluate_features,
    "eval-class": evaluate_classification,
    "eval-seg": evaluate_segmentation,
}


def evaluate(
    model: ModelLike,
    data: Data,
    *,
    defense: DefenseLike | Sequence[DefenseLike] | None = None,
    attacks: AttackLike | Sequence[AttackLike] = "standard",
    threats: Sequence[str] | None = None,
    head: Section | HeadConfig | None = None,
    train_data: Data | None = None,
    image_size: Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> Results:
    """Attack a model on images and measure what is left: `rtok.evaluate(backbone, "photos", defense=trained)`.

    Without a head it measures features; with one, or for a classifier and labeled images in memory, accuracy; with
    a head and masks, segmentation.

    Args:
        model: a name that `rtok models` lists, a `model` section, a `rtok.Backbone`, or any module that gives logits
            (B, K), embeddings (B, E) or features (B, 1+P, D) for images in [0, 1].
        data: a folder, a `data` section, a tensor (N, 3, H, W) of floats in [0, 1] or 8-bit values, a pair of such
            images and labels (N,), or a data loader, which is read once into memory.
        defense: what is measured beside the plain model: a file, a run folder, what `rtok.train` returned, a
            `rtok.Defense`, or a list of these.
        attacks: a preset's name, an `attack` section, an attack such as `rtok.PGD(steps=5)`, or a list of these.
        threats: what the attacker knows; None means transfer, informed and adaptive, without a defense transfer alone
            (for the plain model, that is a white-box attack).
        head: a `head` section, such as `{"type": "fit"}`.
        train_data: images of another split, where heads, copies or guesses are fitted; for `data` in memory.
        image_size: pixels, one number or (height, width): for a model's name (None: 224) or a module (None: the size
            of the tensors).
        mean, std: three numbers each, where a module wants normalized images.
        out: the run's folder; None makes a temporary one.
        resume, overwrite: continue or replace the run in `out`.
        settings: other top-level keys of a config, such as `control_draws`, `batch_size` or `seed`.

    Raises:
        UserError: an argument is wrong; nothing has been written then.
    """
    request = Request("rtok.evaluate", out)
    classes = None
    if isinstance(model, nn.Module) and not isinstance(model, Backbone):
        model, image_size = module_backbone(model, data, image_size, mean, std), None
        classes = model.dim if model.kind == "embedding" else None
    elif mean is not None or std is not None:
        raise UserError(
            "rtok.evaluate: mean and std are for modules: the backbones of rtok normalize images themselves."
        )
    request.take_model(model, image_size)
    if train_data is not None:
        request.take_data(train_data, "train", classes)
    source = request.take_data(data, "test", classes)
    if train_data is not None and len(request.given.sources) < 2:
        raise UserError("rtok.evaluate: train_data goes with `data` in memory; a `data` section has splits of its own.")
    if head is None and classes is not None and source is not None and source.labels is not None:
        head = {"type": "backbone"}
    files = defense_files(defense, request)
    if threats is None and not files:
        threats = ["transfer"]
    request.config |= {
        **{"attack": attack_sections(attacks), "defense": files, "head": head, **settings},
        **({} if threats is None else {"threats": list(threats)}),
    }
    command = _command(request, head)
    return _EVALUATE[command](request.read(command), request.given, resume=resume, overwrite=overwrite)


def _command(request: Request, head: Section | HeadConfig | None) -> str:
    if head is None:
        return "eval-features"
    data = request.config["data"]
    name = str(data.get("name") if isinstance(data, Mapping) else data.name)
    return "eval-seg" if name in DATASETS and "masks" in DATASETS.find(name).traits else "eval-class"
