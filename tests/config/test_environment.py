from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtok.config.environment import escape, substitute
from rtok.errors import UserError


def test_environment_then_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("RTOK_A=from-file\nRTOK_B=from-file\n")
    monkeypatch.setenv("RTOK_A", "from-environment")
    value, problems = substitute({"a": "${RTOK_A}", "b": ["x/${RTOK_B}/${RTOK_A}", 3, None]})
    assert value == {"a": "from-environment", "b": ["x/from-file/from-environment", 3, None]}
    assert problems == []


def test_what_is_not_set_is_named_by_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    value, problems = substitute({"data": {"root": "${RTOK_NOT_SET}"}, "tokens": ["a", "${1x}"]})
    assert value == {"data": {"root": "${RTOK_NOT_SET}"}, "tokens": ["a", "${1x}"]}
    assert [problem.path for problem in problems] == ["data.root", "tokens.1"]
    assert "${RTOK_NOT_SET} is not set" in problems[0].text


def test_a_value_is_not_substituted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTOK_A", "${RTOK_B}: {b: 1}")
    assert substitute({"a": "${RTOK_A}"})[0] == {"a": "${RTOK_B}: {b: 1}"}


def test_unreadable_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"\.env"):
        substitute({"a": "${RTOK_NOT_SET}"})


@given(st.text("${}A \n"))
def test_escaped_text_comes_back(text: str) -> None:
    assert substitute(escape({"a": text})) == ({"a": text}, [])
