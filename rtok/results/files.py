"""Reading `results.json` from disk, whatever was done to it: what comes back can be shown without a surprise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, Strict, ValidationError, field_validator, model_validator

from rtok.errors import UserError
from rtok.results.columns import COLUMNS
from rtok.results.differences import BASELINE
from rtok.results.rows import KEYS, SEEN, Identity, Number, Row, Whole

_PREFIX = "baseline_"
Content = TypeVar("Content", bound=BaseModel)


class _Values(BaseModel):
    """A flat row, sorted into what it is about, its numbers, and their intervals."""

    who: Identity
    numbers: dict[str, Number | None]
    ci95: dict[str, Annotated[list[Number], Field(min_length=2, max_length=2)] | None] | None

    @model_validator(mode="before")
    @classmethod
    def _sorted(cls, row: Any) -> Any:
        if not isinstance(row, dict):
            raise ValueError("is not a row")
        measured = {SEEN, *(column.key for columns in COLUMNS.values() for column in columns if not column.identity)}
        return {
            "who": {key: row[key] for key in KEYS if key in row},
            "numbers": {key: row[key] for key in measured if key in row},
            "ci95": row.get("ci95"),
            "baseline": {key: row[_PREFIX + key] for key in BASELINE if _PREFIX + key in row},
            **{key: row[key] for key in ("sign_flip_p", "defenses", "seeds", "std", "differences") if key in row},
        }

    @field_validator("who", "baseline", check_fields=False)
    @classmethod
    def _named(cls, who: Identity) -> Identity:
        if not who.threat or not who.victim:
            raise ValueError("lacks its threat or victim")
        return who

    def flat(self) -> Row:
        """Return the row as tables and figures take it."""
        return {**self.who.columns(), **self.numbers, "ci95": self.ci95}


class _Difference(_Values):
    """A robust victim minus a baseline."""

    baseline: Identity
    sign_flip_p: dict[str, Number | None] | None = None

    def flat(self) -> Row:
        baseline = self.baseline.columns()
        named = {_PREFIX + key: baseline[key] for key in BASELINE}
        return {**super().flat(), **named, "sign_flip_p": self.sign_flip_p}


class _Method(_Values):
    """Seeds of one training, taken together."""

    defenses: list[str]
    seeds: Whole
    std: dict[str, Number]
    differences: list[_Difference]

    def flat(self) -> Row:
        own = {"defenses": self.defenses, "seeds": self.seeds, "std": self.std}
        return {**super().flat(), **own, "differences": [row.flat() for row in self.differences]}


class _Check(BaseModel):
    """A check of the attacks."""

    check: str
    seen: str
    passed: Annotated[bool, Strict()]
    attack: str | None = None
    victim: str | None = None
    defense: str | None = None
    head_features: str | None = None


class _Sanity(BaseModel):
    images: Whole
    checks: list[_Check]


class _Defense(BaseModel):
    """What a defense is, and the settings of its training by dotted key."""

    kind: str
    sha256: str | None
    parameters: Whole
    trained: dict[str, Any]


class _Results(BaseModel):
    command: str
    images: Whole
    rows: list[_Values]
    differences: list[_Difference] | None = None
    methods: list[_Method] | None = None
    curve: list[_Values] | None = None
    sanity: _Sanity | None = None
    defenses: dict[str, _Defense] = Field(default_factory=dict)
    cautions: dict[str, str] = Field(default_factory=dict)

    @field_validator("command")
    @classmethod
    def _known(cls, command: str) -> str:
        if command not in COLUMNS:
            raise ValueError(f"is {command!r}, not {', '.join(COLUMNS)}")
        return command


class _Model(BaseModel):
    name: str
    weights: str


class _Data(BaseModel):
    name: str
    split: str
    images: str


class _Entry(BaseModel):
    """What a run of a protocol says of one defense."""

    protocol: str
    name: str
    deviations: dict[str, Any]
    fixed: dict[str, Any]
    model: _Model
    data: _Data
    defense: _Defense
    sanity: str | None
    versions: dict[str, str]
    scores: list[_Values]
    differences: list[_Difference]
    rows: list[_Values]


def renamed(row: Row) -> Row:
    """Return a row with the names of today: version 0.1 had `tokens` for `defense`, and no `kind`."""
    names = {"tokens": "defense", f"{_PREFIX}tokens": f"{_PREFIX}defense"}
    found = {names.get(key, key): value for key, value in row.items()}
    if "tokens" in row and "kind" not in row and (found["defense"] is not None or row.get("n") is not None):
        found["kind"] = "tokens"
    return found


def read_results(path: Path) -> Row:
    """Read the results of an evaluation: command, images, rows, differences, methods, curve, sanity and the rest.

    Raises:
        UserError: the file cannot be read, or does not hold what it should.
    """
    found = _validated(_Results, path, hook=renamed)
    return {
        **found.model_dump(include={"command", "images", "sanity", "defenses", "cautions"}),
        "rows": [row.flat() for row in found.rows],
        "differences": [row.flat() for row in found.differences or ()],
        "methods": [row.flat() for row in found.methods or ()],
        "curve": [row.flat() for row in found.curve or ()],
    }


def read_entry(path: Path) -> Row:
    """Read the entry of a protocol, as `eval-features` writes it for each defense.

    Raises:
        UserError: the file cannot be read, or does not hold what it should.
    """
    found = _validated(_Entry, path)
    lists = {key: [row.flat() for row in getattr(found, key)] for key in ("scores", "differences", "rows")}
    return {**found.model_dump(exclude=set(lists)), **lists}


def _validated(kind: type[Content], path: Path, hook: Callable[[Row], Row] | None = None) -> Content:
    try:
        return kind.model_validate(read_json(path, hook=hook))
    except ValidationError as error:
        raise damaged(path, _first(error)) from error


def read_json(path: Path, missing: str | None = None, hook: Callable[[Row], Row] | None = None) -> Row:
    """Read a JSON object; `missing` takes the place of a file that is not there, `hook` changes every object."""
    try:
        content = json.loads(read_text(path, missing), object_hook=hook)
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise damaged(path, "it is not a JSON object")
    return content


def read_text(path: Path, missing: str | None = None) -> str:
    """Read a text file; `missing` takes the place of one that is not there."""
    if missing is not None and not path.exists():
        return missing
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read: {error}.") from error


def damaged(path: Path, what: str) -> UserError:
    """Return the error for a file that does not hold what it should."""
    return UserError(f"'{path}' is damaged ({what}): run the command of its folder again, or leave the folder out.")


def _first(error: ValidationError) -> str:
    """Say the first mistake in words: `row 2: fidelity is not a number`."""
    first = error.errors()[0]
    part, *inner = first["loc"]
    if part in ("sanity", "defenses", "defense", "model", "data", "versions", "deviations", "fixed"):
        return f"the {part} section is malformed"
    wrong = first["msg"].removeprefix("Value error, ")
    if first["type"].startswith(("float", "finite", "greater", "less")):
        wrong = "is not a number"
    if not inner:
        return f"its {part} {'is missing' if first['type'] == 'missing' else wrong}"
    keys = [str(key) for key in inner[1:] if key not in ("who", "numbers", "baseline")]
    return f"{str(part).removesuffix('s')} {int(inner[0]) + 1}: {' '.join([*keys, wrong])}"
