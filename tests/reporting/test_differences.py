"""The sentences about what tokens bought."""

from __future__ import annotations

from rtok.reporting.differences import gains
from rtok.results.columns import COLUMNS, Column

FEATURES = COLUMNS["eval-features"]
MSE = Column("mse", "MSE", paired=True)


def test_a_sentence_per_threat_with_intervals(differences):
    assert gains(differences, FEATURES, {}) == [
        "Cosine to plain under transfer, robust: +0.081 ± 0.020 over the random control, "
        "+0.500 [+0.400, +0.510] over plain.",
        "Cosine to plain under adaptive, robust: +0.089 over plain under transfer.",
    ]


def test_several_files_and_heads_are_named(differences):
    names = {"run/rtokens-10.safetensors": "10", "run/rtokens-50.safetensors": "50"}
    first = [
        {**row, "defense": "run/rtokens-10.safetensors", "head_features": "plain", "ci95": None}
        for row in differences[:1]
    ]
    other = {
        **first[0],
        "defense": "run/rtokens-50.safetensors",
        "head_features": "robust",
        "baseline_victim": "robust",
        "baseline_defense": "run/rtokens-10.safetensors",
        "baseline_head_features": "plain",
    }
    assert gains([*first, other], FEATURES, names) == [
        "Cosine to plain under transfer, robust (10, plain head): +0.081 over the random control.",
        "Cosine to plain under transfer, robust (50, robust head): +0.081 over robust (10, plain head).",
    ]


def test_budgets_of_queries_are_told_apart(differences):
    rows = [{**differences[2], "threat": "query", "queries": n, "start": "cold"} for n in (10, 20)]
    assert [line.split(",")[0] + line.split(",")[1] for line in gains(rows, FEATURES, {})] == [
        "Cosine to plain under query (10 queries cold)",
        "Cosine to plain under query (20 queries cold)",
    ]


def test_the_exact_p_value_of_few_clusters_is_told(differences):
    rows = [{**differences[0], "sign_flip_p": {"cosine_to_plain": p}} for p in (0.03125, None)]
    assert gains(rows[:1], FEATURES, {})[0].endswith("+0.081 ± 0.020 over the random control (sign-flip p 0.031).")
    assert "sign-flip" not in gains(rows[1:], FEATURES, {})[0]


def test_the_first_column_that_was_compared_is_told(differences):
    rows = [{**row, "cosine_to_plain": None, "mse": -0.5, "ci95": {"mse": [-0.6, -0.4]}} for row in differences]
    assert gains(rows, [*FEATURES, MSE], {})[0].startswith("MSE under transfer, robust: -0.500 ± 0.100 over")
    assert gains([{**row, "mse": None} for row in rows], [*FEATURES, MSE], {}) == []
    assert gains([], FEATURES, {}) == []


def test_columns_of_words_and_counts_are_no_comparison(differences):
    """The table's other columns are in the same rows: eval-seg's main column is not compared, its threat is a word."""
    assert gains(differences, COLUMNS["eval-seg"], {}) == []
