"""The kinds of values in a config: how each is read from YAML, and the error when it is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

T = TypeVar("T")

_DECIMAL = r"[-+]?(?:\d{1,100}(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,4})?"
_NUMBER = re.compile(rf"\s*({_DECIMAL})\s*(?:/\s*({_DECIMAL})\s*)?", re.ASCII)

_LONGEST_NAME = 255  # bytes, on every file system in use


class Section(BaseModel):
    """A mapping of the config: unknown keys are mistakes, and values cannot change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)


def expected(valid: str) -> PydanticCustomError:
    """Return the error for a wrong value, from what is valid; the report adds the value."""
    return PydanticCustomError("expected", valid)


def broken_rule(text: str) -> PydanticCustomError:
    """Return the error for a broken rule between values; the report prints the text as it is."""
    return PydanticCustomError("rule", text)


def parse_number(value: object) -> float:
    """Read a number or a fraction such as `8/255`, also from text, since a `${VAR}` is always text."""
    number = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str) and (match := _NUMBER.fullmatch(value)):
        below = float(match[2] or 1)
        number = float(match[1]) / below if below else math.nan
    if not math.isfinite(number):
        raise expected("a finite number, or a fraction such as 8/255")
    return number


IN_255THS = ("eps", "step", "start", "curve")  # keys of radii and step sizes, which people write so


def as_fraction(value: object) -> object:
    """Return a radius such as 0.0313725 as `8/255`, which `parse_number` reads back equal; other values as they are."""
    if isinstance(value, list):
        return [as_fraction(item) for item in value]
    if isinstance(value, float) and 0 < value < 1:
        text = f"{value * 255:.6g}/255"
        if len(text) <= 7 and parse_number(text) == value:
            return text
    return value


def with_fractions(value: Any) -> Any:
    """Write the radii and step sizes of settings in 255ths, as people do."""
    if isinstance(value, dict):
        return {key: as_fraction(one) if key in IN_255THS else with_fractions(one) for key, one in value.items()}
    return [with_fractions(one) for one in value] if isinstance(value, list) else value


def parse_whole(value: object) -> int:
    """Read a whole number; `1e3` is one, `true` is not."""
    try:
        number = parse_number(value)
    except PydanticCustomError:
        number = math.nan
    if not number.is_integer():
        raise expected("a whole number")
    return value if isinstance(value, int) else int(number)


def parse_path(value: object) -> Path:
    """Read a path and expand `~`."""
    if not isinstance(value, (str, Path)):
        raise expected("a path (text; quote it if it looks like a number)")
    if not str(value) or "\0" in str(value):
        raise expected("a path")
    try:
        path = Path(value).expanduser()
        longest = max((len(part.encode()) for part in path.parts), default=0)
    except RuntimeError:
        raise expected("a path whose user, after ~, exists") from None
    except UnicodeEncodeError:
        raise expected("a path in UTF-8") from None
    if longest > _LONGEST_NAME:
        raise expected(f"a path of names of at most {_LONGEST_NAME} bytes")
    return path


def check_unique(values: list[T]) -> list[T]:
    """Refuse a list with the same value twice."""
    if any(value in values[:index] for index, value in enumerate(values)):
        raise expected("a list without repetition")
    return values


def _shape(value: object) -> str:
    """Return the tag of `Mapped`, `Listed` or `Single` that fits how a value was written."""
    if isinstance(value, (Mapping, BaseModel)):
        return "<a mapping>"
    return "<a list>" if isinstance(value, (list, tuple)) else "<a single value>"


Whole = Annotated[int, BeforeValidator(parse_whole)]
# A number above these bounds is a typing error, and would take all memory or time before anybody noticed.
Count = Annotated[Whole, Field(ge=1, le=10**9)]
# Of what memory holds at once: images, tokens, models, pixels per side.
SmallCount = Annotated[Whole, Field(ge=1, le=2**14)]
Index = Annotated[Whole, Field(ge=0)]
Real = Annotated[float, BeforeValidator(parse_number)]
Positive = Annotated[Real, Field(gt=0)]
NotNegative = Annotated[Real, Field(ge=0)]
Share = Annotated[NotNegative, Field(le=1)]
FilePath = Annotated[Path, BeforeValidator(parse_path)]

UniqueList = Annotated[list[T], Field(min_length=1), AfterValidator(check_unique)]

# A key with several shapes is `Annotated[Mapped[A] | Listed[B] | Single[C], BY_SHAPE]`: its errors are those of
# the shape that was written. The brackets mark the tags, which the report leaves out of paths.
Mapped = Annotated[T, Tag("<a mapping>")]
Listed = Annotated[T, Tag("<a list>")]
Single = Annotated[T, Tag("<a single value>")]
BY_SHAPE = Discriminator(_shape)
