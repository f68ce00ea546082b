"""Bars have the rows' heights, intervals and labels."""

from __future__ import annotations

import numpy as np
import pytest

from rtok.reporting.figures.summary import victim_bars
from rtok.results.columns import main_column

COSINE, ACCURACY = main_column("eval-features"), main_column("eval-class")


def heights(axes):
    return [patch.get_height() for patch in axes.patches]


def test_a_bar_a_row_with_its_interval_under_its_threat(tmp_path, drawn, rows):
    victim_bars(rows, tmp_path / "bars.png", COSINE)
    (axes,) = drawn[0].axes
    assert heights(axes) == [0.192, 0.611, 0.692, 0.652, 0.281]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["plain", "random", "robust", "robust", "robust"]
    spans = [container[2][0].get_segments()[0][:, 1] for container in axes.containers if len(container) == 3]
    np.testing.assert_allclose(spans, [row["ci95"]["cosine_to_plain"] for row in rows], atol=1e-12)
    texts = [text.get_text() for text in axes.texts]
    assert [text for text in texts if not text[0].isdigit()] == ["transfer", "informed", "adaptive"]
    places = {text.get_text(): text.xy[0] for text in axes.texts}
    ticks = axes.get_xticks()
    assert [places["transfer"], places["informed"], places["adaptive"]] == pytest.approx(
        [ticks[:3].mean(), ticks[3], ticks[4]]
    )


def test_rows_of_one_threat_stand_together_whatever_their_order(tmp_path, drawn, rows):
    victim_bars(rows[::-1], tmp_path / "bars.png", COSINE)
    assert heights(drawn[0].axes[0]) == [0.281, 0.652, 0.692, 0.611, 0.192]
    victim_bars([rows[2], rows[4], rows[0]], tmp_path / "bars.png", COSINE)
    assert heights(drawn[1].axes[0]) == [0.692, 0.192, 0.281]


def test_a_panel_per_attack_and_a_name_per_defense(tmp_path, drawn, rows):
    other = "results/run/rtokens-50.safetensors"
    files = [row | {"n": 50, "defense": row["defense"] and other} for row in rows[1:]]
    others = [row | {"attack": "standard", "units": "pixel", "ci95": None} for row in rows]
    victim_bars([*rows, *files, *others, rows[0] | {"cosine_to_plain": None}], tmp_path / "bars.png", COSINE)
    first, second = drawn[0].axes
    labels = [label.get_text() for label in first.get_xticklabels()]
    assert labels[:5] == ["plain", "random\n10\ntokens", "robust\n10", "random\n50\ntokens", "robust\n50"]
    assert len(first.patches) == 9 and len(second.patches) == 5
    assert second.get_title(loc="left") == "attack standard: Linf radius 8/255 in pixels, 30 steps"


def test_a_name_a_head(tmp_path, drawn, class_rows):
    victim_bars(class_rows, tmp_path / "bars.png", ACCURACY)
    (axes,) = drawn[0].axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[:4] == ["plain", "random", "robust\nplain\nhead", "robust\nrobust\nhead"]
    one_head = [row for row in class_rows if row["head_features"] == "plain"]
    victim_bars(one_head, tmp_path / "bars.png", ACCURACY)
    assert [label.get_text() for label in drawn[1].axes[0].get_xticklabels()] == ["plain", "random", "robust"]
