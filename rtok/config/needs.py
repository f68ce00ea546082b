"""What each command needs of a config beyond the schema: one function a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from rtok.config.problems import Problem
from rtok.config.schema import Config
from rtok.config.sections import ModelConfig, TokensConfig
from rtok.config.segmentation import SegmentationConfig
from rtok.config.threats import GuessedConfig
from rtok.models.registry import find


def check_train(config: Config) -> Iterator[Problem]:
    """`rtok train`: tokens to make, and one attack that is crafted on features."""
    if config.tokens is not None and not isinstance(config.tokens, TokensConfig):
        yield Problem("tokens", "train makes tokens: write a section such as {count: 10}")
    yield from _check_feature_attacks(config)
    if isinstance(config.attack, list):
        yield Problem("attack", "train takes one attack, not a list")
    yield from _check_one_model(config)
    for attack in config.attacks:
        if attack.stored:
            yield Problem("attack.from", "train crafts anew at every step: write options or a preset")
        if attack.target == "victim":
            yield Problem("attack.target", "train pulls away from the plain backbone's features: write plain")
        if attack.method == "square":
            yield Problem("attack.method", "train follows gradients, which square has none of: use pgd")
        if attack.depth < 1:
            yield Problem("attack.layer", "train attacks the features that it trains on: leave it out")
    if config.train.micro_batch is not None and config.train.micro_batch > config.train.batch_size:
        yield Problem("train.micro_batch", f"must be at most train.batch_size, {config.train.batch_size}")


def check_attack(config: Config) -> Iterator[Problem]:
    """`rtok attack`: one attack that is crafted, on features or (with a head) on labels."""
    yield from _check_measured(config)
    if config.head and config.head.type == "mmseg":
        yield from _check_segmentation(config)
    else:
        yield from _check_head(config) if config.head else _check_feature_attacks(config)
    yield from _check_one_model(config)
    if isinstance(config.attack, list):
        yield Problem("attack", "rtok attack writes one set: write one attack, not a list")
    elif config.attack.stored:
        yield Problem("attack.from", "rtok attack makes such a folder: write options or a preset")


def check_eval_features(config: Config) -> Iterator[Problem]:
    """`rtok eval-features`: token files, and attacks on features."""
    yield from _check_measured(config)
    yield from _check_feature_attacks(config)
    yield from _check_token_files(config)
    stored = any(attack.stored for attack in config.attacks)
    if config.analysis.activations and "transfer" not in config.threats and not stored:
        yield Problem("analysis.activations", "shows the images of the transfer threat: add it to threats")
    yield from _check_threats(config)


def check_eval_class(config: Config) -> Iterator[Problem]:
    """`rtok eval-class`: token files, a head, and attacks on labels."""
    yield from _check_measured(config)
    yield from _check_token_files(config)
    yield from _check_threats(config)
    if config.head is None:
        yield Problem("head", "is missing: write {type: fit}, {type: backbone} or {type: linear, path: FILE}")
    elif config.head.type == "mmseg":
        yield Problem("head.type", "mmseg heads segment: write fit, backbone or linear")
    else:
        yield from _check_head(config)


def check_eval_seg(config: Config) -> Iterator[Problem]:
    """`rtok eval-seg`: token files, a segmentation head, masks, and attacks on labels."""
    yield from _check_measured(config)
    yield from _check_token_files(config)
    yield from _check_threats(config)
    yield from _check_segmentation(config)


_WITH_MASKS = ("ade20k", "folder-seg")
CHECKS: dict[str, Callable[[Config], Iterator[Problem]]] = {
    "train": check_train,
    "attack": check_attack,
    "eval-features": check_eval_features,
    "eval-class": check_eval_class,
    "eval-seg": check_eval_seg,
}


def check_files(config: Config) -> Iterator[Problem]:
    """Every file and folder that the config names must be there."""
    named: list[tuple[str, Path | str | None]] = [
        ("model.weights", config.model.weights if config.model.weights != "pretrained" else None),
        ("data.root", config.data.root),
        ("data.extra", config.data.extra),
        ("surrogate.tokens", config.surrogate.tokens),
        ("surrogate.head", config.surrogate.head if config.surrogate.head != "same" else None),
        *(("tokens", path) for path in config.token_paths),
        *(("guessed", path) for path in config.guessed_paths),
        *(("attack.from", attack.stored) for attack in config.attacks),
    ]
    if isinstance(config.guessed, GuessedConfig) and config.guessed.data:
        named.append(("guessed.data.root", config.guessed.data.root))
    if config.head:
        named += [("head.path", path) for path in (config.head.plain_file, *config.head.robust_files)]
    if isinstance(config.surrogate.model, ModelConfig) and config.surrogate.model.weights != "pretrained":
        named.append(("surrogate.model.weights", config.surrogate.model.weights))
    for key, path in named:
        if path is not None and not Path(path).exists():
            yield Problem(key, f"{path} does not exist")


def _check_feature_attacks(config: Config) -> Iterator[Problem]:
    for attack in config.attacks:
        if "features" not in attack.objectives:
            yield Problem("attack.method", f"{attack.method} attacks labels, this command features: use pgd")


def _check_one_model(config: Config) -> Iterator[Problem]:
    """What crafts one image per image on one model: no ensemble, and nothing to start from."""
    for attack in config.attacks:
        if attack.members != [attack]:
            yield Problem("attack.variants", "one attack is wanted here, and an ensemble is several")
        if attack.warm:
            yield Problem("attack.init", "transfer is a start for eval-*: write uniform, gaussian or none")


def _check_threats(config: Config) -> Iterator[Problem]:
    """What the threats and the curve need of other sections."""
    if "guessed" in config.threats and config.guessed is None:
        yield Problem("guessed", "is missing: name the attacker's token files, or write {train: 2}")
    crafted = [attack for attack in config.attacks if not attack.stored]
    if "query" in config.threats and any(attack.norm != "linf" for attack in crafted):
        yield Problem("threats", "query is Square attack for norm linf: leave it out for other norms")
    if config.curve and config.attacks[0].stored:
        yield Problem("curve", "crafts the first attack at each radius, which a set from disk is not")


def _check_token_files(config: Config) -> Iterator[Problem]:
    if not config.token_paths and not isinstance(config.tokens, TokensConfig):
        yield Problem("tokens", "is missing: name a token file, a run folder, or a list of them")


def _check_head(config: Config) -> Iterator[Problem]:
    """What attacks on labels need: a head that never saw the images, and nothing that only features have."""
    if config.head and config.head.reads_split and config.head.split == config.data.split:
        yield Problem(
            "head.split", f"must differ from data.split, {config.data.split}: the head may not know its test"
        )
    for attack in config.attacks:
        if attack.target == "victim":
            yield Problem("attack.target", "attacks on labels pull away from the label: leave it out")


def _check_segmentation(config: Config) -> Iterator[Problem]:
    """What segmentation needs: masks, a head for them, and a backbone as large as the windows."""
    if config.data.name not in _WITH_MASKS:
        yield Problem("data.name", f"{config.data.name} has no masks: write {' or '.join(_WITH_MASKS)}")
    if config.data.resize != "squash":
        yield Problem("data.resize", "pictures are resized as `segmentation` says: leave it out")
    if config.head is None:
        yield Problem("head", "is missing: write {type: mmseg, path: FILE} or {type: fit}")
    elif config.head.type not in ("mmseg", "fit"):
        yield Problem("head.type", f"{config.head.type} heads do not segment: write mmseg or fit")
    else:
        yield from _check_head(config)
    for attack in config.attacks:
        if attack.method == "autoattack":
            yield Problem("attack.method", "autoattack attacks one label an image, masks have many: use pgd")
    framing = config.segmentation or SegmentationConfig()
    side = framing.model_size(find(config.model.name).patch_size)
    if config.model.size != (side, side):
        whole = f"windows of {framing.window} pixels, padded to whole patches"
        yield Problem("model.image_size", f"must be {side}: {whole}")


def _check_measured(config: Config) -> Iterator[Problem]:
    """What measuring needs: images that are the same each time, and a surrogate of the same input size."""
    if config.data.resize == "random-crop":
        yield Problem("data.resize", "random-crop is for training: write squash or crop")
    if isinstance(config.tokens, TokensConfig):
        yield Problem("tokens", "only train makes tokens: name a token file, a run folder, or a list of them")
    try:
        surrogate = config.surrogate_model
    except ValidationError as error:
        yield Problem("surrogate.model", error.errors()[0]["msg"])
    else:
        if surrogate.size != config.model.size:
            yield Problem(
                "surrogate.model.image_size",
                f"must be {list(config.model.size)}, as model.image_size",
            )
