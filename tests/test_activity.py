"""What work tells of itself: its words, how far it is, and that it costs nothing where nobody watches."""

from __future__ import annotations

from contextlib import suppress

import pytest

from rtok.activity import Activity, doing, rounds


@pytest.fixture
def told():
    """What a watcher sees: the words and the share at each change."""
    seen = []
    activity = Activity(lambda: seen.append((activity.text, round(activity.share, 4))))
    with activity.watched():
        yield seen
    assert (activity.text, activity.share) == ("", 0.0)  # every part has ended


def test_parts_and_rounds_are_nested(told):
    with doing("adaptive", 0.5, 1.0):
        for _ in rounds(range(2), "restart"):
            for _ in rounds(range(1, 3), "step"):
                pass
    assert told == [
        ("adaptive", 0.5),
        ("adaptive, restart 1/2", 0.5),
        ("adaptive, restart 1/2, step 1/2", 0.5),
        ("adaptive, restart 1/2, step 2/2", 0.625),
        ("adaptive, restart 2/2", 0.75),
        ("adaptive, restart 2/2, step 1/2", 0.75),
        ("adaptive, restart 2/2, step 2/2", 0.875),
    ]


def test_what_is_left_early_has_ended(told):
    for query in rounds(range(10), "query"):
        if query == 1:
            break
    with suppress(ValueError), doing("fails"):
        for _ in rounds(range(3), "step"):
            raise ValueError
    with doing("next"):
        pass
    assert [text for text, _ in told] == ["query 1/10", "query 2/10", "fails", "fails, step 1/3", "next"]


def test_one_round_has_no_number(told):
    assert list(rounds(range(1), "restart")) == [0] and told == []


def test_the_inner_watcher_is_told_alone(told):
    inner = Activity(lambda: None)
    with inner.watched(), doing("training"):
        assert inner.text == "training"
    with doing("evaluation"):
        pass
    assert [text for text, _ in told] == ["evaluation"]


def test_nothing_happens_where_nobody_watches():
    numbers = range(5)
    assert rounds(numbers, "step") is numbers
    with doing("attack"):
        pass
