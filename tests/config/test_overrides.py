import pytest

from rtok.config.overrides import apply_overrides


@pytest.mark.parametrize(
    ("raw", "override", "result"),
    [
        ({}, "a.b=1", {"a": {"b": 1}}),
        ({"a": None}, "a.b=1e-3", {"a": {"b": 1e-3}}),
        ({"a": {"b": 1, "c": 2}}, "a.b=", {"a": {"b": None, "c": 2}}),
        ({"a": [{"b": 1}, {"b": 1}]}, "a.1.b=x=y", {"a": [{"b": 1}, {"b": "x=y"}]}),
        ({"tokens": {"count": 1}}, "tokens.count=2", {"tokens": {"count": 2}}),
        ({"tokens": {"count": 1}}, "defense.count=2", {"tokens": {"count": 2}}),
        ({"defense": {"count": 1}}, "tokens.count=2", {"defense": {"count": 2}}),
        ({"defense": None}, "tokens.count=2", {"defense": {"count": 2}}),
        ({"defense": "a"}, "tokens=b", {"defense": "b"}),
        ({}, "tokens=b", {"tokens": "b"}),
        ({"surrogate": {"tokens": "a"}}, "surrogate.defense=b", {"surrogate": {"tokens": "b"}}),
        ({"a": [1, 2]}, "a.0=[3, {c: 4}]", {"a": [[3, {"c": 4}], 2]}),
    ],
)
def test_values_are_put_in_place(raw: dict, override: str, result: dict) -> None:
    assert apply_overrides(raw, [override]) == []
    assert raw == result


def test_the_last_one_wins() -> None:
    raw: dict = {}
    apply_overrides(raw, ["a=1", "a=2"])
    assert raw == {"a": 2}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a", "write it as key.path=value"),
        ("=1", "write it as key.path=value"),
        ("a..b=1", "write it as key.path=value"),
        ("list.2=1", "'list' is a list; '2' is not one of its indices 0 to 1"),
        ("list.x.y=1", "'x' is not one of its indices"),
        ("text.a=1", "'text' is \"hello\", not a mapping"),
        ("text.a.b=1", "'text' is \"hello\", not a mapping"),
        ("a={b: [", "--set a, line 1, column 6"),
        ("a={b: 1, b: 2}", "'b' was already given"),
    ],
)
def test_what_makes_no_sense_is_a_problem(override: str, message: str) -> None:
    problems = apply_overrides({"list": [1, 2], "text": "hello"}, [override])
    assert len(problems) == 1
    assert message in problems[0].text
