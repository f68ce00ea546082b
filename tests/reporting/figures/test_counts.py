"""The curve over token counts has the rows' values at their counts."""

from __future__ import annotations

import numpy as np
import pytest

from rtok.reporting.figures.counts import count_curve
from rtok.results.columns import main_column

COSINE = main_column("eval-features")


@pytest.fixture
def ablation(rows):
    """The rows of counts 1, 10 and 50, the similarities of a count above those of the count before."""
    plain, *others = rows
    found = [plain]
    for number, count in enumerate((1, 10, 50)):
        for row in others:
            value = row["cosine_to_plain"] + 0.05 * number
            about = {"n": count, "defense": row["defense"] and f"run/rtokens-{count}.safetensors", "fidelity": 0.9}
            found.append(
                row | about | {"cosine_to_plain": value, "ci95": {"cosine_to_plain": [value - 0.1, value + 0.1]}}
            )
    return found


def lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_a_line_a_victim_and_threat(tmp_path, drawn, ablation):
    assert count_curve(ablation, tmp_path / "counts.png", COSINE)
    (axes,) = drawn[0].axes
    found = {label: list(line.get_ydata()) for label, line in lines(axes).items()}
    assert found == {
        "random, transfer": pytest.approx([0.611, 0.661, 0.711]),
        "robust, transfer": pytest.approx([0.692, 0.742, 0.792]),
        "robust, informed": pytest.approx([0.652, 0.702, 0.752]),
        "robust, adaptive": pytest.approx([0.281, 0.331, 0.381]),
        "robust, clean images": [0.9, 0.9, 0.9],
        "plain, transfer": [0.192, 0.192],
    }
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "10", "50"]
    spans = [segment[:, 1] for container in axes.collections for segment in container.get_segments()]
    expected = [row["ci95"]["cosine_to_plain"] for row in ablation[1:]]
    np.testing.assert_allclose(sorted(map(tuple, spans)), sorted(map(tuple, expected)), atol=1e-12)


def test_seeds_are_dots_around_their_mean(tmp_path, drawn, ablation):
    others = [row | {"defense": f"other/{row['defense']}"} for row in ablation if row["victim"] == "robust"]
    for row in others:
        row["cosine_to_plain"] += 0.02
    count_curve([*ablation, *others], tmp_path / "counts.png", COSINE)
    (axes,) = drawn[0].axes
    assert list(lines(axes)["robust, transfer"].get_ydata()) == pytest.approx([0.702, 0.752, 0.802])
    dots = [list(line.get_ydata()) for line in axes.lines if line.get_label().startswith("_")]
    assert [pytest.approx(pair) for pair in ([0.692, 0.712], [0.742, 0.762])] == dots[:2]


def test_one_count_is_no_curve(tmp_path, drawn, rows):
    assert not count_curve(rows, tmp_path / "counts.png", COSINE)
    assert not drawn and not (tmp_path / "counts.png").exists()
