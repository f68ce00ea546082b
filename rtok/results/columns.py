"""The columns of each command's results: what they are called, how they come from the images, what counts most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from rtok.errors import UserError, nearest


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
        mean: how it comes from a column of `per_image.csv`: a `mean` with an interval clustered by group, a `share` of
            the images with Wilson's interval, or None where the task computes it otherwise.
        per_image: that column; its own key where nothing else is said.
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
    paired: bool = False
    clean: str = ""
    chance: str = ""
    measure: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if not self.per_image:
            object.__setattr__(self, "per_image", self.key)

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
_LINF = Column("image_linf_255", "Linf\n(of 255)", keep=4, digits=1, mean="mean")

COLUMNS: dict[str, tuple[Column, ...]] = {
    "eval-features": (
        *_IDENTITY,
        Column(
            "cosine_to_plain",
            "cosine\nto plain",
            main=True,
            interval=True,
            mean="mean",
            paired=True,
            clean="fidelity",
            meaning="the victim's features of the adversarial image to the plain model's of the clean one",
        ),
        Column("fidelity", "fidelity", keep=9, mean="mean"),
        Column("cosine", "cosine", keep=8, mean="mean"),
        Column(
            "retrieval",
            "retrieval",
            keep=8,
            interval=True,
            mean="mean",
            paired=True,
            clean="retrieval_clean",
            chance="retrieval_chance",
            meaning="share of an image's nearest clean images that it still finds when it is attacked",
        ),
        Column("cosine_cls", "cosine\nCLS", keep=6, mean="mean"),
        replace(_LINF, keep=7),
        Column("cosine_cls_to_plain", "CLS\nto plain", keep=5, mean="mean"),
        Column("cosine_to_plain_token", "to plain,\ntoken axis", keep=4, mean="mean"),
        Column("fidelity_token", "fidelity,\ntoken axis", keep=3, mean="mean"),
        Column("cosine_token", "cosine,\ntoken axis", keep=2, mean="mean"),
        Column("retrieval_clean", "retrieval,\nclean", keep=3, mean="mean", paired=True),
        Column("mse", "MSE", keep=1, mean="mean"),
        Column("retrieval_chance", "chance", keep=0),
    ),
    "eval-class": (
        *_IDENTITY,
        Column(
            "adversarial_accuracy",
            "adversarial\naccuracy",
            main=True,
            interval=True,
            mean="share",
            per_image="adversarial_correct",
            paired=True,
            clean="clean_accuracy",
        ),
        Column("clean_accuracy", "clean\naccuracy", keep=8, mean="share", per_image="clean_correct", paired=True),
        Column("flipped", "flipped", keep=7, mean="share"),
        Column(
            "surrogate_success",
            "fooled",
            keep=5,
            mean="share",
            per_image="surrogate_fooled",
            meaning="share of the images the surrogate had right that made it err",
        ),
        Column(
            "accuracy_on_success",
            "right if\nfooled",
            keep=6,
            meaning="the victim's accuracy on the images that fooled the surrogate",
        ),
        _LINF,
    ),
    "eval-seg": (
        *_IDENTITY,
        Column(
            "adversarial_miou",
            "adversarial\nmIoU",
            main=True,
            interval=True,
            clean="clean_miou",
            meaning="one confusion matrix over the data set",
        ),
        Column("clean_miou", "clean\nmIoU", keep=8, interval=True),
        Column(
            "adversarial_image_miou",
            "adversarial\nimage mIoU",
            keep=7,
            mean="mean",
            paired=True,
            clean="clean_image_miou",
            meaning="the mean over images of each image's own mIoU, which the original code reports",
        ),
        Column("clean_image_miou", "clean\nimage mIoU", keep=6, mean="mean", paired=True),
        Column("pixel_accuracy", "pixel\naccuracy", keep=5, meaning="of the adversarial images"),
        _LINF,
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
