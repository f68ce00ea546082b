"""The columns of each command's results: what they are called, how they come from the images, what counts most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal

from rtok.errors import UserError, nearest
from rtok.results.iou import Totals, mean_iou, pixel_accuracy


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: its name in `results.json`.
        heading: its name in tables; line breaks keep it narrow.
        keep: columns with the smallest value go first where the terminal is narrow; None never goes.
        identity: it says which row it is rather than what was measured; where the threat already tells it, it goes
            below the table, unless `keep` is None.
        main: the number that counts.
        interval: tables show the row's `ci95[key]`.
        digits: decimals in tables.
        meaning: a sentence for below the table.
        mean: how it comes from the images: a `mean` of a number, or a `share` of 0s and 1s.
        per_image: the per-image column that it comes from; its own key where nothing else is said.
        among: a per-image column of 0s and 1s; images where it is not 1 do not count.
        pooled: in place of a mean, the number (...) that totals (..., K, 3) of pixels give (`rtok.results.iou`).
        exact: the victims that it is known of, rather than estimated: it has no interval.
        limits: its range; intervals stay within.
        paired: victims are compared in it, image by image.
        clean: the column of the same measure on clean images.
        chance: the column of what guessing would give, which is said below the table.
        measure: for a column from outside, what computes it per image.
    """

    key: str
    heading: str
    keep: int | None = None
    identity: bool = False
    main: bool = False
    interval: bool = False
    digits: int = 3
    meaning: str = ""
    mean: Literal["mean", "share"] | None = None
    per_image: str = ""
    among: str = ""
    pooled: Callable[[Totals], Any] | None = None
    exact: tuple[str, ...] = ()
    limits: tuple[float, float] = (-inf, inf)
    paired: bool = False
    clean: str = ""
    chance: str = ""
    measure: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if not self.per_image:
            object.__setattr__(self, "per_image", self.key)

    @property
    def measured(self) -> bool:
        """Whether it comes from the images."""
        return self.mean is not None or self.pooled is not None

    @property
    def title(self) -> str:
        """The heading on one line."""
        return self.heading.replace("\n", " ")


_IDENTITY = (
    Column("threat", "threat", identity=True),
    Column("victim", "victim", identity=True),
    Column("head_features", "head", identity=True, keep=10),
    Column("defense", "defense", identity=True, keep=10),
    Column("kind", "kind", identity=True, keep=10),
    Column("n", "token\ncount", identity=True, keep=10),
    Column("surrogate", "surrogate", identity=True, keep=0),
    Column("queries", "queries", identity=True, keep=11),
    Column("start", "start", identity=True, keep=11),
)
_EVERYONE = ("plain", "random", "robust")
_COST = tuple(
    Column(key, f"{key}\nper image", keep=0, digits=0, mean="mean", limits=(0, inf), exact=_EVERYONE)
    for key in ("gradients", "forwards")
)
_LINF = Column("image_linf_255", "Linf\n(of 255)", keep=4, digits=1, mean="mean", limits=(0, inf))


def _cosine(key: str, heading: str, **more: Any) -> Column:
    return Column(key, heading, mean="mean", limits=(-1, 1), **more)


def _share(key: str, heading: str, **more: Any) -> Column:
    return Column(key, heading, mean="share", limits=(0, 1), **more)


def _pooled(key: str, heading: str, per_image: str, pooled: Callable[[Totals], Any], **more: Any) -> Column:
    about: dict[str, Any] = {"per_image": per_image, "pooled": pooled, "limits": (0, 1)}
    return Column(key, heading, paired=True, **about, **more)


COLUMNS: dict[str, tuple[Column, ...]] = {
    "eval-features": (
        *_IDENTITY,
        _cosine(
            "cosine_to_plain",
            "cosine\nto plain",
            main=True,
            interval=True,
            paired=True,
            clean="fidelity",
            meaning="the victim's features of the adversarial image to the plain model's of the clean one",
        ),
        _cosine("fidelity", "fidelity", keep=9, exact=("plain",)),
        _cosine("cosine", "cosine", keep=8),
        Column(
            "retrieval",
            "retrieval",
            keep=8,
            interval=True,
            mean="mean",
            limits=(0, 1),
            paired=True,
            clean="retrieval_clean",
            chance="retrieval_chance",
            meaning="share of an image's nearest clean images that it still finds when it is attacked",
        ),
        _cosine("cosine_cls", "cosine\nCLS", keep=6),
        replace(_LINF, keep=7),
        _cosine("cosine_cls_to_plain", "CLS\nto plain", keep=5),
        _cosine("cosine_to_plain_token", "to plain,\ntoken axis", keep=4),
        _cosine("fidelity_token", "fidelity,\ntoken axis", keep=3, exact=("plain",)),
        _cosine("cosine_token", "cosine,\ntoken axis", keep=2),
        Column(
            "retrieval_clean", "retrieval,\nclean", keep=3, mean="mean", limits=(0, 1), paired=True, exact=("plain",)
        ),
        Column("mse", "MSE", keep=1, mean="mean", limits=(0, inf)),
        Column("retrieval_chance", "chance", keep=0),
        *_COST,
    ),
    "eval-class": (
        *_IDENTITY,
        _share(
            "adversarial_accuracy",
            "adversarial\naccuracy",
            main=True,
            interval=True,
            per_image="adversarial_correct",
            paired=True,
            clean="clean_accuracy",
        ),
        _share("clean_accuracy", "clean\naccuracy", keep=8, per_image="clean_correct", paired=True),
        _share("flipped", "flipped", keep=7),
        _share(
            "surrogate_success",
            "fooled",
            keep=5,
            per_image="surrogate_fooled",
            meaning="share of the images the surrogate had right that made it err",
        ),
        _share(
            "accuracy_on_success",
            "right if\nfooled",
            keep=6,
            per_image="adversarial_correct",
            among="surrogate_fooled",
            meaning="the victim's accuracy on the images that fooled the surrogate",
        ),
        _LINF,
        *_COST,
    ),
    "eval-seg": (
        *_IDENTITY,
        _pooled(
            "adversarial_miou",
            "adversarial\nmIoU",
            "adversarial_areas",
            mean_iou,
            main=True,
            interval=True,
            clean="clean_miou",
            meaning="one confusion matrix over the data set",
        ),
        _pooled("clean_miou", "clean\nmIoU", "clean_areas", mean_iou, keep=8, interval=True),
        Column(
            "adversarial_image_miou",
            "adversarial\nimage mIoU",
            keep=7,
            mean="mean",
            limits=(0, 1),
            paired=True,
            clean="clean_image_miou",
            meaning="the mean over images of each image's own mIoU, which the original code reports",
        ),
        Column("clean_image_miou", "clean\nimage mIoU", keep=6, mean="mean", limits=(0, 1), paired=True),
        _pooled(
            "pixel_accuracy",
            "pixel\naccuracy",
            "adversarial_areas",
            pixel_accuracy,
            keep=5,
            meaning="of the adversarial images",
        ),
        _LINF,
        *_COST,
    ),
}


def main_column(command: str) -> Column:
    """Return the number of a command that counts."""
    return next(column for column in COLUMNS[command] if column.main)


def paired_columns(command: str) -> list[Column]:
    """Return the columns in which victims are compared image by image, the most important first."""
    return [column for column in COLUMNS[command] if column.paired]


def register_column(command: str, column: Column, measure: Callable[[Any], Any]) -> None:
    """Add a column to an evaluation: to `results.json` with its interval, to `per_image.csv` and to the table.

    Args:
        command: such as `eval-features`.
        measure: from the task's `View` of a batch of b images to a tensor (b,); NaN marks images that it does not
            apply to. The column is its mean over the others, with a 95 % interval clustered by group.

    Raises:
        UserError: there is no such command, or the command has such a column already.
    """
    if command not in COLUMNS:
        valid = ", ".join(COLUMNS)
        raise UserError(f"There is no evaluation '{command}'.{nearest(command, COLUMNS)} Valid: {valid}.")
    if column.key in {name for known in COLUMNS[command] for name in (known.key, known.per_image)}:
        raise UserError(f"{command} has a column '{column.key}' already: choose another name.")
    added = replace(column, mean="mean", per_image=column.key, measure=measure)
    COLUMNS[command] = (*COLUMNS[command], added)


def measure_added(command: str, view: Any) -> dict[str, Any]:
    """Return the per-image values of the columns from outside, for a task's `View` of a batch.

    Raises:
        UserError: a `measure` gives something other than one number per image.
    """
    found = {column.key: column.measure(view) for column in COLUMNS[command] if column.measure}
    for key, values in found.items():
        given, valid = list(getattr(values, "shape", [])), [len(view.batch.keys)]
        if given != valid:
            raise UserError(f"The measure of column '{key}' gives shape {given}; valid: {valid}, one number per image.")
    return found
