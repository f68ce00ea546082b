from pathlib import Path

import pytest
from pydantic_core import PydanticCustomError

from rtok.config.types import check_unique, parse_number, parse_path, parse_whole


@pytest.mark.parametrize(
    ("written", "number"),
    [(1, 1.0), (2.5, 2.5), ("8/255", 8 / 255), (" 8 / 255 ", 8 / 255), ("1e-3", 1e-3), ("-.5", -0.5), ("1e2/4", 25.0)],
)
def test_numbers(written: object, number: float) -> None:
    assert parse_number(written) == number


@pytest.mark.parametrize(
    "written", [True, None, "", "a", "8/0", "1/2/3", "nan", ".inf", "1e999", 1e400, "1_0", "\u0661", [1]]
)
def test_what_is_no_number(written: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_number(written)


@pytest.mark.parametrize(("written", "number"), [(3, 3), ("3", 3), (1e3, 1000), ("6/2", 3), (10**30, 10**30)])
def test_whole_numbers(written: object, number: int) -> None:
    assert parse_whole(written) == number
    assert type(parse_whole(written)) is int


@pytest.mark.parametrize("written", [True, 2.5, "1/2", "x", None])
def test_what_is_no_whole_number(written: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_whole(written)


def test_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert parse_path("~/data") == Path("/home/someone/data")
    for wrong in ("", "a\0b", 3, None, ["a"], "~no-such-user-here/x"):
        with pytest.raises(PydanticCustomError):
            parse_path(wrong)


def test_unique() -> None:
    assert check_unique([2, 1]) == [2, 1]
    with pytest.raises(PydanticCustomError):
        check_unique([1, 2, 1])
