"""The figure of the largest activations has a panel a victim and a line a kind of image."""

from __future__ import annotations

from rtok.reporting.figures.activations import activation_lines


def lines_of(victim, defense, n, images, positions, values):
    about = {"victim": victim, "defense": defense, "n": n, "images": images, "positions": positions}
    return [
        {**about, "block": block, "largest": value, "low": value - 1, "high": value + 1}
        for block, value in enumerate(values, start=1)
    ]


def test_a_panel_a_victim_and_a_line_a_kind(tmp_path, drawn):
    rows = lines_of("plain", None, None, "clean", "own", [5, 40, 60])
    rows += lines_of("plain", None, None, "adversarial", "own", [6, 50, 90])
    rows += lines_of("robust", "a/rtokens.safetensors", 3, "clean", "own", [5, 20, 30])
    rows += lines_of("robust", "a/rtokens.safetensors", 3, "clean", "tokens", [9, 45, 70])
    activation_lines(rows, tmp_path / "activations.png")
    plain, robust = drawn[0].axes
    assert [plain.get_title(loc="left"), robust.get_title(loc="left")] == ["plain", "robust, 3 tokens"]
    assert {line.get_label(): list(line.get_ydata()) for line in plain.lines} == {
        "clean": [5, 40, 60],
        "adversarial": [6, 50, 90],
    }
    assert {line.get_label(): list(line.get_ydata()) for line in robust.lines} == {
        "clean": [5, 20, 30],
        "on the tokens, clean": [9, 45, 70],
    }
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["clean", "adversarial", "on the tokens, clean"]
    assert len(plain.collections) == 2  # their intervals
    assert (tmp_path / "activations.png").exists()


def test_without_intervals_there_are_no_bands(tmp_path, drawn):
    rows = lines_of("plain", None, None, "clean", "own", [5, 40, 60])
    activation_lines([row | {"low": None, "high": None} for row in rows], tmp_path / "activations.png")
    assert not drawn[0].axes[0].collections
