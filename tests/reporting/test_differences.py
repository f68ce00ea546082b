"""The sentences about what tokens bought."""

from __future__ import annotations

from rtok.reporting.differences import gains, interval

KEYS = ["cosine_to_plain", "mse"]


def test_a_sentence_per_threat_with_intervals(differences):
    assert gains(differences, KEYS, {}) == [
        "Cosine to plain under transfer, robust: +0.081 ± 0.020 over the random control, "
        "+0.500 [+0.400, +0.510] over plain.",
        "Cosine to plain under adaptive, robust: +0.089 over plain under transfer.",
    ]


def test_several_files_and_heads_are_named(differences):
    names = {"run/rtokens-10.safetensors": "10", "run/rtokens-50.safetensors": "50"}
    first = [
        {**row, "tokens": "run/rtokens-10.safetensors", "head_features": "plain", "ci95": None}
        for row in differences[:1]
    ]
    other = {
        **first[0],
        "tokens": "run/rtokens-50.safetensors",
        "head_features": "robust",
        "baseline_victim": "robust",
        "baseline_tokens": "run/rtokens-10.safetensors",
        "baseline_head_features": "plain",
    }
    assert gains([*first, other], KEYS, names) == [
        "Cosine to plain under transfer, robust (10, plain head): +0.081 over the random control.",
        "Cosine to plain under transfer, robust (50, robust head): +0.081 over 10 (plain head).",
    ]


def test_budgets_of_queries_are_told_apart(differences):
    rows = [{**differences[2], "threat": "query", "queries": n, "start": "cold"} for n in (10, 20)]
    assert [line.split(",")[0] + line.split(",")[1] for line in gains(rows, KEYS, {})] == [
        "Cosine to plain under query (10 queries cold)",
        "Cosine to plain under query (20 queries cold)",
    ]


def test_the_first_column_that_was_compared_is_told(differences):
    rows = [
        {**row, "cosine_to_plain": None, "mse": -0.5, "ci95": {"mse": [-0.6, -0.4]}} for row in differences
    ]
    assert gains(rows, KEYS, {})[0].startswith("Mse under transfer, robust: -0.500 ± 0.100 over")
    assert gains([{**row, "mse": None} for row in rows], KEYS, {}) == []
    assert gains([], KEYS, {}) == []


def test_columns_of_words_and_counts_are_no_comparison(differences):
    """The table's other columns stand in the same rows: eval-seg's headline is not compared, its threat is a word."""
    assert gains(differences, ["adversarial_miou", "threat", "n"], {}) == []


def test_intervals():
    assert interval(0.5, None) == "+0.500"
    assert interval(-0.5, [-0.6, -0.4]) == "-0.500 ± 0.100"
    assert interval(0.5, [0.1, 0.6]) == "+0.500 [+0.100, +0.600]"
