"""The curves show the rows' numbers."""

from __future__ import annotations

import numpy as np
import pytest

from rtok.reporting.figures.curves import training_curves


def metrics(steps, count=10, seed=0):
    generator = np.random.default_rng([steps, count, seed])
    return [
        {
            "step": step,
            "count": count,
            "seed": seed,
            "invariance": 0.9 + 0.02 * float(generator.random()),
            "adversarial": 0.6 + 0.2 * float(generator.random()),
            "undefended": 0.2 + 0.1 * float(generator.random()),
        }
        for step in range(1, steps + 1)
    ]


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}


def test_one_training_has_three_lines_with_the_rows_values(tmp_path, drawn):
    rows = metrics(12)
    training_curves(rows, tmp_path / "curves.png")
    (axes,) = drawn[0].axes
    found = lines(axes)
    for label, key in (
        ("clean image, defended", "invariance"),
        ("adversarial image, defended", "adversarial"),
        ("adversarial image, plain", "undefended"),
    ):
        np.testing.assert_array_equal(found[label].get_xdata(), [row["step"] for row in rows])
        np.testing.assert_array_equal(found[label].get_ydata(), [row[key] for row in rows])
    assert len(found) == 3 and axes.get_xlabel() == "step"


def test_what_was_validated_is_drawn_where_it_was(tmp_path, drawn):
    rows = metrics(6)
    for row in rows[2::3]:
        row |= {"cosine_to_plain": 0.5 + row["step"] / 100, "fidelity": 0.9}
    training_curves(rows, tmp_path / "curves.png")
    found = lines(drawn[0].axes[0])
    assert len(found) == 5
    np.testing.assert_array_equal(found["held-out, white-box"].get_xdata(), [3, 6])
    np.testing.assert_array_equal(found["held-out, white-box"].get_ydata(), [0.53, 0.56])
    np.testing.assert_array_equal(found["held-out clean image"].get_ydata(), [0.9, 0.9])


def test_a_long_training_has_its_running_mean_above_the_values(tmp_path, drawn):
    rows = metrics(100)
    training_curves(rows, tmp_path / "curves.png")
    (axes,) = drawn[0].axes
    values = np.array([row["adversarial"] for row in rows])
    smooth = lines(axes)["adversarial image, defended"].get_ydata()
    window = 7
    assert axes.get_xlabel() == f"step (bold: mean over {window} steps)"
    expected = [values[max(0, index - 3) : index + 4].mean() for index in range(100)]
    np.testing.assert_allclose(smooth, expected, atol=1e-12)
    assert any(np.array_equal(line.get_ydata(), values) for line in axes.get_lines())


def test_several_trainings_have_a_line_each_and_a_color_a_count(tmp_path, drawn):
    runs = {(count, seed): metrics(8, count, seed) for count in (1, 10) for seed in (0, 1)}
    interleaved = [row for rows in zip(*runs.values(), strict=True) for row in rows]
    training_curves(interleaved, tmp_path / "curves.png")
    for axes, key in zip(drawn[0].axes, ("adversarial", "invariance"), strict=True):
        by_values = {tuple(line.get_ydata()): line for line in axes.get_lines()}
        colors = {}
        for run, rows in runs.items():
            colors[run] = tuple(by_values[tuple(row[key] for row in rows)].get_color())
        assert colors[1, 0] == colors[1, 1] != colors[10, 0] == colors[10, 1]
    undefended = lines(drawn[0].axes[0])["adversarial image, plain"].get_ydata()
    expected = np.mean([[row["undefended"] for row in rows] for rows in runs.values()], axis=0)
    np.testing.assert_allclose(undefended, expected)


@pytest.mark.parametrize("steps", [1, 2])
def test_few_steps_are_seen_as_points(tmp_path, drawn, steps):
    training_curves(metrics(steps), tmp_path / "curves.png")
    assert {line.get_marker() for line in drawn[0].axes[0].get_lines()} == {"o"}
