import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rtok.config import strict_yaml
from rtok.errors import UserError


def parse(text: str) -> object:
    value, problems = strict_yaml.parse(text, "x.yaml")
    assert problems == []
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.0e-3", 1e-3),
        ("010", 10),
        ("0x10", "0x10"),
        ("8/255", "8/255"),
        ("no", "no"),
        ("true", True),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("2026-11-23", "2026-11-23"),
        (".inf", ".inf"),
        ("9" * 200, float("9" * 200)),
        ("'12'", "12"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    assert parse(f"a: {text}") == {"a": value}
    assert type(parse(f"a: {text}")["a"]) is type(value)  # type: ignore[index]


def test_variables_may_stand_in_flow_mappings() -> None:
    assert parse('a: {b: ${X}, c: "${Y}/z", ${K}: 1}') == {"a": {"b": "${X}", "c": "${Y}/z", "${K}": 1}}


def test_duplicate_keys_are_reported_with_their_lines() -> None:
    value, problems = strict_yaml.parse("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", "x.yaml")
    assert isinstance(value, dict)
    assert sorted(problem.text for problem in problems) == [
        "line 4: 'c' was already given in line 3",
        "line 5: 'a' was already given in line 1",
    ]


LAUGHS = "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcdef", "bcdefg", strict=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\t- 1", "x.yaml, line 1, column 3: .*spaces, not tabs"),
        ("a: 1\n\tb: 2", "x.yaml, line 2, column 1: .*spaces, not tabs"),
        ("a: [1, 2", "line 1, column 9"),
        ("a: b: c", "line 1, column 5"),
        (LAUGHS, "line 1, column 4: .*anchors and aliases"),
        ("a: *b", "line 1, column 4: .*anchors and aliases"),
        ("!!python/object/apply:os.system [ls]", "line 1, column 1: .*tags"),
        ("a: !!binary aGk=", "tags"),
        ("1: 2", "line 1, column 1: .*a key must be text"),
        ("? [1]\n: 2", "a key must be text"),
        ("a: 1\n---\nb: 2", "line 2, column 1: .*single document"),
        ("a: 1\nb: \x01", "line 2: the character U\\+0001"),
        ("[" * 5000, "nested more than 20 deep"),
        ("a: " + "x" * strict_yaml.MAX_CHARACTERS, "too long"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        strict_yaml.parse(text, "x.yaml")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_dump_is_read_back_equal(value: object) -> None:
    assert parse(strict_yaml.dump(value)) == value


@given(st.sampled_from(["no", "1e-3", "010", "1:30", "null", "2026-11-23", "0x1", "~", "${A}", ""]))
def test_dumped_text_is_text_for_yaml_1_1_too(text: str) -> None:
    assert yaml.safe_load(strict_yaml.dump({"a": text})) == {"a": text} == parse(strict_yaml.dump({"a": text}))


@given(st.text())
def test_any_text_is_a_value_or_a_user_error(text: str) -> None:
    try:
        strict_yaml.parse(text, "x.yaml")
    except UserError as error:
        assert str(error).startswith("x.yaml")
