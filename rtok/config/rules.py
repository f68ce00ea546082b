"""The rule book: what a command requires of a config beyond the schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import get_args

from pydantic import ValidationError

from rtok.config.attack import LabelLoss, MaskLoss
from rtok.config.defenses import DefenseConfig
from rtok.config.problems import Problem, report
from rtok.config.registry import DATASETS
from rtok.config.schema import Config
from rtok.config.types import as_fraction
from rtok.errors import UserError
from rtok.models.registry import find
from rtok.version import install

_NAME_FILES = "name a file or run folder that `rtok train` wrote, hf:USER/REPO, or a list of them"


def check(config: Config, command: str) -> list[Problem]:
    """Return every rule of a command that the config breaks."""
    return [problem for rule in RULES[command] for problem in rule(config)]


def checked(config: Config, command: str) -> Config:
    """Return the config.

    Raises:
        UserError: it breaks rules of the command; the message lists all of them.
    """
    if not isinstance(config, Config):
        given = type(config).__name__
        raise UserError(f"{command} takes a Config, not a {given}: rtok.load_config({command!r}, FILE) returns one.")
    problems = check(config, command)
    if problems:
        raise report(f"config for {command}", problems)
    return config


def unused(config: Config, command: str) -> list[str]:
    """Return the top-level keys that the user wrote, with other values than the defaults, and the command ignores."""
    fields = type(config).model_fields.items()
    idle = [(key, field) for key, field in fields if key in config.model_fields_set and key not in USES[command]]
    return [key for key, field in idle if getattr(config, key) != field.default]


def _trackers(config: Config) -> Iterator[Problem]:
    if config.tracking != "none" and find_spec(config.tracking) is None:
        extra = "mlflow" if config.tracking == "mlflow" else "tracking"
        yield Problem("tracking", f"{config.tracking} is not installed: {install(extra)}")


def _trains_a_defense(config: Config) -> Iterator[Problem]:
    if not isinstance(config.defense, DefenseConfig):
        yield Problem("defense", "train makes a defense: write a section such as {kind: tokens, count: 10}")


def _measures_defenses(config: Config) -> Iterator[Problem]:
    if config.defense is None and config.threats != ["transfer"]:
        yield Problem("defense", f"is missing: {_NAME_FILES}; threats: [transfer] measures the plain model alone")


def _trains_nothing(config: Config) -> Iterator[Problem]:
    if isinstance(config.defense, DefenseConfig):
        yield Problem("defense", f"only train makes a defense: {_NAME_FILES}")


def _features_attacked(config: Config) -> Iterator[Problem]:
    yield from _no_masks(config)
    for attack in config.attacks:
        if "features" not in attack.objectives:
            yield Problem("attack.method", f"{attack.method} attacks labels, this command features: use pgd")


def _no_masks(config: Config) -> Iterator[Problem]:
    for attack in config.attacks:
        losses = {member.loss for member in attack.members} & set(get_args(MaskLoss))
        if losses:
            valid = ", ".join(get_args(LabelLoss))
            yield Problem("attack.loss", f"{min(losses)} is for masks: use it in eval-seg, or write one of {valid}")


def _one_attack(config: Config) -> Iterator[Problem]:
    """Adversarial images are crafted once per image, on one model, from scratch."""
    if isinstance(config.attack, list):
        yield Problem("attack", "this command takes one attack, not a list")
    for attack in config.attacks:
        if attack.stored:
            yield Problem("attack.from", "this command crafts new images: write options or a preset")
        if attack.members != [attack]:
            yield Problem("attack.variants", "this command takes one attack, and an ensemble is several")
        if attack.warm:
            yield Problem("attack.init", "transfer is a start for eval-*: write uniform, gaussian or none")


def _attack_of_training(config: Config) -> Iterator[Problem]:
    for attack in config.attacks:
        if attack.target == "victim":
            yield Problem("attack.target", "train pulls away from the plain backbone's features: write plain")
        if not attack.follows_gradients:
            yield Problem("attack.method", f"train follows gradients, and {attack.method} has none: use pgd")
        if attack.depth < 1:
            yield Problem("attack.layer", "train attacks the features that it trains on: leave it out")


def _attack_of_validation(config: Config) -> Iterator[Problem]:
    """It is like that of training."""
    chosen = config.train.validation and config.train.validation.attack
    if chosen:
        validating = config.model_copy(update={"attack": chosen})
        for rule in (_features_attacked, _one_attack, _attack_of_training):
            yield from (problem._replace(path=f"train.validate.{problem.path}") for problem in rule(validating))


def _radius_of_training(config: Config) -> Iterator[Problem]:
    schedule, eps = config.train.eps_schedule, config.attacks[0].eps
    if schedule and schedule.start > eps:
        yield Problem("train.eps_schedule.start", f"must be at most attack.eps, {as_fraction(eps)}: the radius rises")


def _micro_batch(config: Config) -> Iterator[Problem]:
    if config.train.micro_batch is not None and config.train.micro_batch > config.train.batch_size:
        yield Problem("train.micro_batch", f"must be at most train.batch_size, {config.train.batch_size}")


def _eight_bits(config: Config) -> Iterator[Problem]:
    for attack in config.attacks:
        if attack.quantize == "none" and not attack.stored:
            yield Problem("attack.quantize", "is none, but a set is stored as 8-bit files: write round or floor")


def _objective_of_a_set(config: Config) -> Iterator[Problem]:
    """A set is crafted on features, or (with a head) on labels."""
    if config.head is None:
        yield from _features_attacked(config)
    else:
        masks = config.head.type == "mmseg"
        yield from _segmentation(config) if masks else (*_no_masks(config), *_labels_attacked(config))


def _same_images(config: Config) -> Iterator[Problem]:
    """Measuring takes images that are the same each time, and a surrogate of the same input size."""
    if config.data.resize == "random-crop":
        yield Problem("data.resize", "random-crop is for training: write squash or crop")
    try:
        surrogate = config.surrogate_model
    except ValidationError as error:
        yield Problem("surrogate.model", error.errors()[0]["msg"])
    else:
        if surrogate.size != config.model.size:
            size = list(config.model.size)
            yield Problem("surrogate.model.image_size", f"must be {size}, as model.image_size")


def _one_quantization(config: Config) -> Iterator[Problem]:
    """Attacks of one evaluation are compared, and truncation instead of rounding alone weakens one."""
    labels: dict[str, str] = {}
    for attack in config.attacks:
        if not attack.stored:
            labels.setdefault(attack.quantize, attack.label)
    if len(labels) > 1:
        seen = ", ".join(f"{quantize} ({label})" for quantize, label in labels.items())
        yield Problem(
            "attack.quantize",
            f"differs, so that the results do not compare: {seen}. Give all attacks the same, such as quantize: round",
        )


def _threats(config: Config) -> Iterator[Problem]:
    if "guessed" in config.threats and config.guessed is None:
        yield Problem("guessed", "is missing: name the attacker's token files, or write {train: 2}")
    if "extracted" in config.threats and config.extracted is None:
        yield Problem("extracted", "is missing: write {queries: 12}, or {queries_per_image: 2}")
    crafted = [attack for attack in config.attacks if not attack.stored]
    if "query" in config.threats and any(attack.norm != "linf" for attack in crafted):
        yield Problem("threats", "query is Square attack for norm linf: leave it out for other norms")
    if config.curve and config.attacks[0].stored:
        yield Problem("curve", "crafts the first attack at each radius: a stored set has only one")


def _activations(config: Config) -> Iterator[Problem]:
    stored = any(attack.stored for attack in config.attacks)
    if config.analysis.activations and "transfer" not in config.threats and not stored:
        yield Problem("analysis.activations", "shows the images of the transfer threat: add it to threats")


def _labels_attacked(config: Config) -> Iterator[Problem]:
    """Attacks on labels go through a head that never saw the images."""
    if config.head and config.head.reads_split and config.head.split == config.data.split:
        yield Problem("head.split", f"must differ from data.split, {config.data.split}: a head must not see its test")
    for attack in config.attacks:
        if attack.target == "victim":
            yield Problem("attack.target", "attacks on labels pull away from the label: leave it out")


def _classification(config: Config) -> Iterator[Problem]:
    if config.head is None:
        yield Problem("head", "is missing: write {type: fit}, {type: backbone} or {type: linear, path: FILE}")
    elif config.head.type == "mmseg":
        yield Problem("head.type", "mmseg heads segment: write fit, backbone or linear")
    else:
        yield from _no_masks(config)
        yield from _labels_attacked(config)


def _segmentation(config: Config) -> Iterator[Problem]:
    """Segmentation takes masks, a head for them, and a backbone as large as the windows."""
    if "masks" not in DATASETS.find(config.data.name).traits:
        valid = " or ".join(entry.name for entry in DATASETS.entries() if "masks" in entry.traits)
        yield Problem("data.name", f"{config.data.name} has no masks: write {valid}")
    if config.data.resize != "squash":
        yield Problem("data.resize", "images are resized as `segmentation` says: leave it out")
    if config.head is None:
        yield Problem("head", "is missing: write {type: mmseg, path: FILE} or {type: fit}")
    elif config.head.type not in ("mmseg", "fit"):
        yield Problem("head.type", f"{config.head.type} heads do not segment: write mmseg or fit")
    else:
        yield from _labels_attacked(config)
    for attack in config.attacks:
        if "masks" not in attack.objectives:
            yield Problem("attack.method", f"{attack.method} attacks one label per image, masks have many: use pgd")
    if "extracted" in config.threats and config.segmentation.mode == "crop":
        yield Problem("threats", "extracted asks about whole pictures: use segmentation.mode slide, or leave it out")
    side = config.segmentation.model_size(find(config.model.name).patch_size)
    if config.model.size != (side, side):
        whole = f"windows of {config.segmentation.window} pixels, padded to whole patches"
        yield Problem("model.image_size", f"must be {side}: {whole}")


_EVALUATION = (_same_images, _trains_nothing, _measures_defenses, _one_quantization, _threats, _trackers)
RULES: dict[str, tuple[Callable[[Config], Iterator[Problem]], ...]] = {
    "train": (
        *(_trains_a_defense, _features_attacked, _one_attack, _attack_of_training),
        *(_attack_of_validation, _radius_of_training, _micro_batch, _trackers),
    ),
    "attack": (_same_images, _trains_nothing, _objective_of_a_set, _one_attack, _eight_bits),
    "eval-features": (*_EVALUATION, _features_attacked, _activations),
    "eval-class": (*_EVALUATION, _classification),
    "eval-seg": (*_EVALUATION, _segmentation),
}

_ALL = ("model", "data", "attack", "precision", "compile", "seed", "out")
_ATTACKERS = ("threats", "informed", "guessed", "extracted", "query", "curve", "sanity")
_MEASURING = (*_ALL, *_ATTACKERS, "defense", "check_weights", "surrogate", "control_draws", "batch_size", "tracking")
# The top-level keys that each command uses.
USES: dict[str, tuple[str, ...]] = {
    "train": (*_ALL, "defense", "train", "tracking"),
    "attack": (*_ALL, "surrogate", "check_weights", "head", "segmentation", "batch_size"),
    "eval-features": (*_MEASURING, "analysis", "protocol"),
    "eval-class": (*_MEASURING, "head"),
    "eval-seg": (*_MEASURING, "head", "segmentation"),
}
