"""The sentences about seeds of one training."""

from __future__ import annotations

import pytest

from rtok.reporting.methods import over_seeds
from rtok.reporting.tables import print_results
from rtok.results.columns import COLUMNS

FEATURES = COLUMNS["eval-features"]


@pytest.fixture
def method(differences):
    return {
        **{key: value for key, value in differences[0].items() if not key.startswith("baseline")},
        "defense": None,
        "cosine_to_plain": 0.692,
        "ci95": {"cosine_to_plain": [0.642, 0.742]},
        "defenses": ["a", "b", "c"],
        "seeds": 3,
        "std": {"cosine_to_plain": 0.0123},
        "differences": [{**differences[0], "sign_flip_p": {"cosine_to_plain": 0.03125}}, differences[1]],
    }


def test_a_sentence_per_method_and_threat(method):
    assert over_seeds([method], FEATURES) == [
        "Cosine to plain under transfer, robust over 3 seeds: 0.692 ± 0.050; standard deviation over seeds 0.012; "
        "+0.081 ± 0.020 over the random control (sign-flip p 0.031); +0.500 [+0.400, +0.510] over plain."
    ]
    assert over_seeds([{**method, "cosine_to_plain": None}], FEATURES) == [] == over_seeds([], FEATURES)


def test_counts_and_heads_are_named_where_they_differ(method):
    bare = {**method, "differences": [], "std": {}, "ci95": None}
    rows = [{**bare, "head_features": "plain"}, {**bare, "n": 50, "head_features": "robust"}]
    assert over_seeds(rows, FEATURES) == [
        f"Cosine to plain under transfer, robust over 3 seeds ({about}): 0.692."
        for about in ("10 tokens, plain head", "50 tokens, robust head")
    ]


def test_they_are_printed_below_the_table_of_their_attack(rows, method, capsys):
    print_results(
        {"command": "eval-features", "images": 5, "rows": rows, "methods": [method, {**method, "attack": "x"}]}
    )
    assert " ".join(capsys.readouterr().out.split()).count("robust over 3 seeds: 0.692") == 1
