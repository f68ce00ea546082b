"""What a row of results is about: stated once, for the files, the tables, the figures and the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import Field, Strict
from pydantic.dataclasses import dataclass as checked_dataclass

from rtok.results.words import counted, detailed, of_255, short_names

Row = dict[str, Any]  # flat, as in `results.json` and `per_image.csv`: an identity's columns, then numbers
Number = Annotated[float, Strict(), Field(gt=-1e300, lt=1e300)]  # one that can be calculated with
Whole = Annotated[int, Strict()]
SEEN = "seen_in_training"  # per image whether, in a summary how often the training of the victim's defense saw it

# Mean of ImageNet's per-channel standard deviations: a radius in normalized space is about this much in pixels.
IMAGENET_STD = (0.229 + 0.224 + 0.225) / 3


@checked_dataclass(frozen=True)
class Identity:
    """What tells one row of `results.json` from another; null is what does not apply.

    The control's draws share an identity: it is their mean.

    Attributes:
        surrogate: what the attack was crafted on, in words.
        victim: `plain`, `random` or `robust`.
        defense: the file of a robust victim's defense, as the user named it.
        kind: the defense's kind, such as `tokens`.
        n: the number of tokens.
        head_features: which features the head was fitted on: `plain`, or `robust` for those of the victim itself.
        eps_pixel: the radius in pixels of [0, 1]; for normalized units the mean over the model's channels.
        queries: what the attacker asks of the deployed model: an image's search, or in all for a copy of the defense.
        start: what a `query` attack starts from; for a copy, whether it was asked about `own images`, or about
            `each image` as often as `queries` says.
    """

    attack: str | None = None
    threat: str = ""
    surrogate: str | None = None
    victim: str = ""
    defense: str | None = None
    kind: str | None = None
    n: Whole | None = None
    head_features: str | None = None
    norm: str | None = None
    eps: Number | None = None
    units: str | None = None
    eps_pixel: Number | None = None
    steps: Whole | None = None
    restarts: Whole | None = None
    queries: Whole | None = None
    start: str | None = None
    seed: Whole | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Identity:
        """Read the identity of a flat row; columns that it lacks are null."""
        return cls(**{key: row[key] for key in KEYS if key in row})

    def columns(self) -> Row:
        """Return the columns of a flat row."""
        return asdict(self)

    @property
    def attack_key(self) -> tuple[object, ...]:
        """What tells one attack from another."""
        return self.attack, self.norm, self.eps, self.units

    @property
    def setting_key(self) -> tuple[object, ...]:
        """What tells one attack under one threat from another."""
        return *self.attack_key, self.threat, self.queries, self.start

    @property
    def radius(self) -> str:
        """The radius, and in pixels too where it holds in normalized space.

        There the radius of a channel in pixels is eps times the channel's standard deviation. Rows of other programs
        may lack `eps_pixel`, its mean over the model's channels; then ImageNet's is taken, and the text says so.
        """
        norm = {"linf": "Linf", "l2": "L2"}.get(self.norm or "", "")
        show = "{:.3g}".format if norm == "L2" else of_255
        eps = self.eps or 0.0
        if self.units != "normalized":
            return f"{norm} radius {show(eps)} in pixels".strip()
        pixel, source = self.eps_pixel, ""
        if pixel is None:
            pixel, source = eps * IMAGENET_STD, " with ImageNet's statistics"
        return f"{norm} radius {show(eps)} in normalized space, about {show(pixel)} in pixels{source}".strip()

    @property
    def budget(self) -> list[str]:
        """What an attacker may ask, in words: `1000 queries`, `cold`; nothing where they ask nothing."""
        return [] if self.queries is None else [f"{self.queries} queries", *filter(None, [self.start])]

    @property
    def threat_label(self) -> str:
        """The threat with its budget: `query (1000 queries, cold)`."""
        return detailed(self.threat, self.budget)

    def details(self, naming: Naming) -> list[str]:
        """Say which victim of its kind this is, as far as `naming` asks for it: `10`, `robust head`."""
        found = []
        if naming.defenses and self.defense is not None:
            found.append(naming.files.get(self.defense, self.defense))
        elif naming.defenses and self.n is not None:  # the control has no file: its form tells whose control it is
            found.append(f"{self.kind} {self.n}" if naming.kinds else counted(self.n, "token"))
        if naming.heads and self.defense is not None and self.head_features is not None:
            found.append(f"{self.head_features} head")
        return found

    def victim_label(self, naming: Naming) -> str:
        """The victim in words: `robust (10, plain head)`."""
        return detailed(self.victim, self.details(naming))


KEYS = tuple(field.name for field in fields(Identity))
ATTACK_KEYS = ("attack", "norm", "eps", "units", "eps_pixel", "steps", "restarts")  # those that tell attacks apart


@dataclass(frozen=True)
class Naming:
    """How the victims of some rows are told apart.

    Attributes:
        files: short names of the defense files; they tell the kind where there are several.
        defenses, heads: whether to say which defense and which head a victim has.
        kinds: whether there are several kinds of defense.
    """

    files: Mapping[str, str]
    defenses: bool = True
    heads: bool = True
    kinds: bool = False

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], *, whole: bool = False) -> Naming:
        """Name what differs among `rows`; with `whole` all there is to say."""
        rows = list(rows)
        kinds = {row["defense"]: row.get("kind") or "defense" for row in rows if row.get("defense") is not None}
        heads, several = {row.get("head_features") for row in rows} - {None}, len(set(kinds.values())) > 1
        files = _with_kinds(kinds) if several else short_names(kinds)
        return cls(files, whole or len(files) > 1, whole or len(heads) > 1, several)


def _with_kinds(kinds: Mapping[str, str]) -> dict[str, str]:
    """Name files by their kinds: `lora`, or where several are of one kind `lora a`, or what already begins so."""
    if len(set(kinds.values())) == len(kinds):
        return dict(kinds)
    names = short_names(kinds)
    folders = {file: str(PurePath(name).parent) for file, name in names.items()}
    if len(set(folders.values())) == len(folders) and "." not in folders.values():
        names = folders  # the files themselves are called after their kinds
    return {file: name if name.startswith(kinds[file]) else f"{kinds[file]} {name}" for file, name in names.items()}


def trained_settings(results: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """Return the settings that the defenses of `results.json` were trained with, by file and dotted key."""
    return {file: about["trained"] for file, about in ((results or {}).get("defenses") or {}).items()}


def interval_of(row: Mapping[str, Any], key: str) -> Sequence[float] | None:
    """Return the 95 % interval of a row's column, None where there is none."""
    return (row.get("ci95") or {}).get(key)


def by_attack(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """Group rows by their attack and return `(title, rows)`, in order of first appearance."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(Identity.of(row).attack_key, []).append(row)
    return [(attack_title(group), group) for group in groups.values()]


def same_attack(candidates: Iterable[Row], rows: Sequence[Row]) -> list[Row]:
    """Return those of the attack of `rows`, a group of `by_attack`."""
    attack = Identity.of(rows[0]).attack_key
    return [row for row in candidates if Identity.of(row).attack_key == attack]


def attack_title(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what the attack of these rows was: `attack standard: Linf radius 8/255 in pixels, 30 steps`."""
    first = Identity.of(rows[0])
    title = f"attack {first.attack or 'none'}"
    parts = [title if first.eps is None else f"{title}: {first.radius}"]
    for key in ("steps", "restarts"):
        counts = sorted({row[key] for row in rows if row.get(key) is not None})
        if counts and not (key == "restarts" and counts == [1]):
            parts.append(f"{' or '.join(map(str, counts))} {key.removesuffix('s') if counts == [1] else key}")
    return ", ".join(parts)
